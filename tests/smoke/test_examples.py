"""Every example runs with the arguments of its docstring; each in its own process, from another folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

RUNS = {
    "vmas_swarm.py": (
        "--frames 2000 --agents 3 --run-dir swarm",
        [r"random +-\d+\.\d\d", r"trained +-\d+\.\d\d", r"next: python examples/rollout\.py swarm"],
    ),
    "pettingzoo_deaths.py": (
        "--frames 800 --crabs 2 --run-dir crabs",
        [
            r"pettingzoo/make, 2 crab, 8 environments",
            r"mean return per agent \(food per crab\): \d+\.\d in at most 50 steps",
        ],
    ),
    "loss_in_a_loop.py": (
        "--frames 256 --envs 32 --batch 32",
        [
            r"untrained: mean return per agent +-?\d",
            r"    256 frames: mean return .* critic loss 0\.\d+, entropy +-?\d",
        ],
    ),
    "own_networks.py": (
        "--frames 3000",
        [r"deep_set_actor: mean return per agent -?\d", r"next: masac render runs/nav"],
    ),
    "memory.py": (
        "--frames 1500 --agents 2 --run-dir memory",
        [r"mean return per agent: -?[01]\.\d\d \(the best possible with this memory: 1\)"],
    ),
    "torchrl_pipeline.py": ("--frames 640", [r"without noise: mean return per agent -?\d"]),
}
"""Arguments of every file, and regular expressions of its output. Those of rollout.py are below."""


def run_example(name, arguments, folder):
    command = [sys.executable, "-W", "error::UserWarning:__main__", str(EXAMPLES / name), *arguments.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def test_every_example_is_run_here():
    assert {file.name for file in EXAMPLES.glob("*.py")} == {*RUNS, "rollout.py"}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs_and_prints_its_results(name, tmp_path):
    arguments, expected = RUNS[name]
    printed = run_example(name, arguments, tmp_path)
    for pattern in expected:
        assert re.search(pattern, printed), printed
    if "--run-dir" in arguments:  # the run loads where its scenario or factory can be imported
        printed = run_example("rollout.py", f"{arguments.split()[-1]} --envs 2 --steps 60", tmp_path)
        assert re.search(r"per step and living agent -?\d+\.\d+ .* alive in \d+% of the steps", printed)
        assert re.search(r"[1-9]\d* episodes ended, \d+ of them terminated", printed)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_docstrings_of_examples_use_existing_arguments(file):
    text = file.read_text()
    docstring = text.split('"""')[1]
    calls = re.findall(rf"python examples/{re.escape(file.name)}([^#\n]*)", docstring)
    assert calls
    known = set(re.findall(r'add_argument\("(--[a-z-]+)"', text))
    assert {word for call in calls for word in call.split() if word.startswith("--")} <= known
