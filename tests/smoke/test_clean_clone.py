"""README's own commands leave a clone as it was."""

import shutil
import subprocess

import pytest
from hydra.core.global_hydra import GlobalHydra

from masac.cli.main import main
from tests.docs.pages import ROOT, shell_lines
from tests.envs.egl import needs_egl

SMALL = [
    *("task.num_envs=8", "task.horizon=10", "training.total_frames=160", "training.warmup_frames=32"),
    *("training.batch_size=16", "model.hidden=[8]", "evaluation.episodes=2", "training.buffer_size=500"),
    *("logging.progress=off", "training.compile=false"),
]
"""Runs of a second; what they write is the same."""


def git(*words, cwd):
    done = subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The tracked files, as they are now, in a repository of their own, which is the working directory."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    for name in git("ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    git("init", "-q", cwd=tmp_path)
    git("add", "-A", cwd=tmp_path)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all", cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@needs_egl
def test_the_commands_of_the_readme_leave_a_clone_as_it_was(clone, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    ran = []
    for line in shell_lines():
        program, *words = line.words
        if not line.place.startswith("README.md") or program.removeprefix(".venv/bin/") != "masac":
            continue
        if any("pettingzoo" in word or "my_package" in word for word in words):  # they write what the others write
            continue
        words = ["seed=0" if word == "seed=0,1,2" else word for word in words]
        more = {"train": SMALL, "evaluate": ["--episodes", "3"], "render": ["--steps", "2"]}.get(words[0], [])
        if "--resume" in words or "--help" in words:
            more = []
        main([*words, *more])
        GlobalHydra.instance().clear()
        ran.append(words[0])
    assert set(ran) == {"train", "evaluate", "render", "export", "plot", "tasks"}
    assert git("status", "--porcelain", cwd=clone) == ""
