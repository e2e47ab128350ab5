"""What README and docs tell a user to type in a shell is typed here, with runs made small."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Line, blocks, shell_lines
from tests.envs.egl import needs_egl
from tests.processes import masac

SMALL = {
    "task.num_envs": "8",
    "task.horizon": "10",
    "training.total_frames": "320",
    "training.warmup_frames": "160",
    "training.batch_size": "16",
    "training.buffer_size": "1000",
    "training.updates_per_frame": "0.0625",
    "training.compile": "false",
    "model.hidden": "[8]",
    "evaluation.episodes": "2",
    "logging.loggers": "[]",
}
NOT_HERE = {
    "collector=ray": "tests/training/collectors/test_workers.py has a cluster",
    "hydra/launcher=joblib": "needs a launcher that is no dependency",
    "logging.loggers=[tensorboard,wandb,mlflow]": "tests/training/test_loggers.py has these loggers",
}
"""Words of lines that are not run here, and why."""


def commands() -> list[Line]:
    """Every line that calls masac by itself, once."""
    lines = {}
    for line in shell_lines():
        if line.words[0].removeprefix(".venv/bin/") == "masac" and not NOT_HERE.keys() & set(line.words):
            lines.setdefault(" ".join(line.words[1:]), line)
    return list(lines.values())


def made_small(words: list[str]) -> list[str]:
    """A command whose run takes seconds."""
    command, *arguments = words[1:]
    if command == "evaluate":
        return [command, *arguments, *(["--episodes", "2"] if "--episodes" not in arguments else [])]
    if command == "render":
        return [command, *arguments]
    if command != "train" or "--help" in arguments:
        return [command, *arguments]
    if "--resume" in arguments:
        longer = [f"training.total_frames={2 * 320}"]
        return [command, *[word for word in arguments if not word.startswith("training.total_frames=")], *longer]
    own = {word.partition("=")[0] for word in arguments} - {"training.total_frames", "training.batch_size"}
    small = [f"{key}={value}" for key, value in SMALL.items() if key not in own]
    return [command, *[word for word in arguments if word.partition("=")[0] in own or word.startswith("-")], *small]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working directory with a run, a sweep, and the modules that the lines name."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    scenario = (ROOT / "tests" / "envs" / "own_scenario.py").read_text()
    made = (
        "\n\ndef make(size):\n    from mpe2.simple_spread_v3 import parallel_env\n\n    return parallel_env(N=size)\n"
    )
    (folder / "my_package" / "my_module.py").write_text(scenario + made)
    for block in blocks("python"):
        if block.title:
            (folder / block.title).write_text(block.code)
    for words in (["run_dir=runs/mine"], ["-m", "seed=0,1", "run_dir=runs/sweep"]):
        done = masac(*made_small(["masac", "train", *words]), cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", commands(), ids=lambda line: f"{line.place} {' '.join(line.words)[:70]}")
def test_a_line_does_what_it_says(line: Line, folder: Path, request: pytest.FixtureRequest):
    words = made_small(line.words)
    if words[0] == "render" and "--help" not in words and needs_egl.args[0]:
        pytest.skip(needs_egl.kwargs["reason"])
    missing = [name for name in ("mpe2", "onnx") if find_spec(name) is None]
    if missing and ("pettingzoo" in line.words[-1] or "onnx" in line.words[-1]):
        pytest.skip(f"{', '.join(missing)} is not installed")
    for word in words:
        made = folder / word.partition("run_dir=")[2]
        if word.startswith("run_dir=") and made.exists():
            shutil.rmtree(made)
    modules = set(sys.modules)
    done = masac(*words, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(sys.modules) == modules  # it ran elsewhere
    for index, word in enumerate(words):
        if word in ("-o", "--export"):
            assert (folder / words[index + 1]).stat().st_size > 0
