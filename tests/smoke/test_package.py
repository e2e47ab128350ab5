"""What users get who install masac."""

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import masac

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
OPTIONAL_DEPENDENCIES = PYPROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
EXTRAS = dict(re.findall(r"^([a-z]+) = (\[.*\])$", OPTIONAL_DEPENDENCIES, re.MULTILINE))
NOT_IN_ALL = {"all", "test", "dev", "docs", "benchmarl"}  # what only developers need; what wants an older TorchRL

OPTIONAL = ("av", "onnx", "onnxscript", "onnxruntime", "wandb", "mlflow", "ray", "benchmarl", "mpe2", "pygame", "Box2D")


@pytest.mark.slow
def test_importing_masac_imports_no_package_that_may_be_missing():
    code = f"""
import importlib, pkgutil, sys
import torchrl.data, torchrl.envs, torchrl.objectives
torchrls = set(sys.modules)  # TorchRL imports Ray where it is installed
import masac
for name in masac.__all__:
    getattr(masac, name)
print("after the public names:", sorted({set(OPTIONAL)} & (sys.modules.keys() - torchrls)))
for module in pkgutil.walk_packages(masac.__path__, "masac."):
    if not module.name.startswith(("masac.__main__", "masac.integrations")):
        importlib.import_module(module.name)
print("after all modules:", sorted({set(OPTIONAL)} & (sys.modules.keys() - torchrls)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "after the public names: []\nafter all modules: []\n"


def test_the_extra_all_is_everything_a_user_can_use():
    assert set(re.findall(r"[a-z]+", EXTRAS["all"])) - {"masac"} == EXTRAS.keys() - NOT_IN_ALL


def test_every_extra_that_is_spoken_of_is_there():
    texts = [ROOT / "README.md", *(ROOT / "masac").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    named = {
        name
        for file in texts
        for names in re.findall(r'"(?:masac|\.)\[([a-z,]+)\]"', file.read_text())
        for name in names.split(",")
    }
    assert {"video", "export", "pettingzoo", "wandb"} <= named <= EXTRAS.keys()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with an sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_package_only(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    packages = re.findall(r'"(\w+)"', re.findall(r"^packages = (\[.*\])", PYPROJECT, re.MULTILINE)[0])
    code = {
        str(file.relative_to(ROOT))
        for package in packages
        for pattern in ("*.py", "*.yaml", "py.typed")
        for file in (ROOT / package).rglob(pattern)
    }
    assert {"masac/py.typed", "masac/conf/config.yaml", "masac/conf/task/vmas/navigation.yaml"} <= code
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        about = email.message_from_bytes(archive.read(metadata))
    assert files == code
    assert about["Version"] == masac.__version__
    assert set(about.get_all("Provides-Extra", [])) == EXTRAS.keys()
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert code | {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"} <= files
    assert {name.partition("/")[0] for name in files if "/" in name} == set(packages)


@pytest.mark.slow
def test_the_wheel_trains_outside_the_checkout(built, tmp_path):
    # Beside this environment's dependencies; .ci/versions installs it with its own, in an environment of its own.
    (wheel,) = built.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import masac; print(masac.__file__)"],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))
    small = ["training.total_frames=512", "training.warmup_frames=256", "evaluation.episodes=2", "run_dir=out"]
    done = subprocess.run([str(site / "bin" / "masac"), "train", *small], cwd=elsewhere, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "out" / "policy.pt").is_file()
