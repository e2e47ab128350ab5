"""Runs the shell lines of README and docs in a clone, with short runs."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Line, blocks, commands
from tests.envs.egl import needs_egl
from tests.processes import masac

SMALL = {
    "task.num_envs": "8",
    "task.horizon": "10",
    "training.total_frames": "96",
    "training.warmup_frames": "64",
    "training.batch_size": "16",
    "training.buffer_size": "1000",
    "training.updates_per_frame": "0.0625",
    "training.compile": "false",
    "algorithm.skip_done_states": "drop",  # in Python: tracing would take longer than the whole run
    "model.hidden": "[8]",
    "evaluation.episodes": "2",
    "logging.loggers": "[]",
}


def made_small(words: list[str]) -> list[str]:
    """The command with a run of seconds."""
    command, *arguments = words[1:]
    if command == "evaluate":
        return [command, *arguments, *(["--episodes", "2"] if "--episodes" not in arguments else [])]
    if command == "render":
        return [command, *arguments, *(["--steps", "3"] if "--help" not in arguments else [])]
    if command != "train" or "--help" in arguments:
        return [command, *arguments]
    if "--resume" in arguments:
        longer = [f"training.total_frames={2 * int(SMALL['training.total_frames'])}"]
        return [command, *[word for word in arguments if not word.startswith("training.total_frames=")], *longer]
    own = {word.partition("=")[0] for word in arguments} - {"training.total_frames", "training.batch_size"}
    if "-m" in arguments:  # one job of a sweep
        arguments = [word if "[" in word else word.partition(",")[0] for word in arguments]
    arguments = [f"{word.partition('=')[0]}=1" if "num_workers=" in word else word for word in arguments]
    small = [f"{key}={value}" for key, value in SMALL.items() if key not in own]
    return [command, *[word for word in arguments if word.partition("=")[0] in own or word.startswith("-")], *small]


def git(*words: str, cwd: Path) -> str:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A repository of the tracked files, with the modules that the lines name, a run and a sweep."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    clone = tmp_path_factory.mktemp("clone")
    for name in git("ls-files", "-z", cwd=ROOT).split("\0"):
        # Not the package itself: the installed one runs.
        if name and not name.startswith("masac/") and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    (clone / "my_package").mkdir()
    (clone / "my_package" / "__init__.py").touch()
    scenario = (ROOT / "tests" / "envs" / "own_scenario.py").read_text()
    made = (
        "def make(size):\n    from mpe2 import simple_spread_v3\n\n    return simple_spread_v3.parallel_env(N=size)\n"
    )
    (clone / "my_package" / "my_module.py").write_text(f"{scenario}\n\n{made}")
    for block in blocks("python"):
        if block.title:
            (clone / block.title).write_text(block.code)
    git("init", "-q", cwd=clone)
    git("add", "-A", cwd=clone)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all", cwd=clone)
    for words in (["run_dir=runs/mine"], ["-m", "seed=0,1", "run_dir=runs/sweep"]):
        done = masac(*made_small(["masac", "train", *words]), cwd=clone)
        assert done.returncode == 0, done.stderr
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("line", commands(), ids=lambda line: f"{line.place} {' '.join(line.words)[:70]}")
def test_line_succeeds_and_leaves_the_clone_clean(line: Line, clone: Path):
    words = made_small(line.words)
    if words[0] == "render" and "--help" not in words and needs_egl.args[0]:
        pytest.skip(needs_egl.kwargs["reason"])
    missing = [name for name in ("mpe2", "onnx") if find_spec(name) is None]
    if missing and ("pettingzoo" in line.words[-1] or "onnx" in line.words[-1]):
        pytest.skip(f"{', '.join(missing)} is not installed")
    for word in words:
        made = clone / word.partition("run_dir=")[2]
        if word.startswith("run_dir=") and made.exists():
            shutil.rmtree(made)
    done = masac(*words, cwd=clone, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for index, word in enumerate(words):
        if word in ("-o", "--export"):
            assert (clone / words[index + 1]).stat().st_size > 0
    assert git("status", "--porcelain", cwd=clone) == ""
