"""Python blocks, shell lines and files of README and docs work."""

import ast
import re
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from hydra.core.global_hydra import GlobalHydra

from masac.cli.main import main
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from tests.docs.commands import check
from tests.docs.pages import ROOT, Block, Line, blocks, commands, shell_lines
from tests.envs.common import wrap
from tests.training.policies.common import save_run

README = (ROOT / "README.md").read_text()
LINES = shell_lines()
RUN = {" ".join(line.words[1:]) for line in commands()}
"""The lines that test_shell_lines.py runs."""
PARSED = {" ".join(line.words): line for line in LINES if " ".join(line.words[1:]) not in RUN}


def needs(code: str) -> set[str]:
    """The packages that a block imports, and those that our integrations need."""
    names = {
        name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    integrations = {name.split(".")[2] for name in names if name.startswith("masac.integrations.")}
    return {name.partition(".")[0] for name in names} | integrations


RUNNABLE = [block for block in blocks("python") if not block.title]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with an untrained run as on the pages, exported by the lines of docs/export.md."""
    folder = tmp_path_factory.mktemp("trained")
    save_run(folder / "runs/mine", TaskConfig(scenario="navigation", kwargs={"n_agents": 3}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        for line in LINES:
            if line.place.startswith("docs/export.md") and line.words[:2] == ["masac", "export"]:
                main(line.words[1:])
    return folder


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.place)
def test_python_blocks_print_their_comments(block: Block, capsys, monkeypatch, tmp_path, request):
    if "runs/" in block.code:
        tmp_path = request.getfixturevalue("trained")
        capsys.readouterr()
    missing = [name for name in needs(block.code) if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.place, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    expected = re.findall(r"print\(.*\)\s+# (.*)", block.code)
    assert [line for line in printed if "[torchrl]" not in line] == expected


@pytest.mark.parametrize("line", PARSED.values(), ids=lambda line: f"{line.place} {' '.join(line.words)[:60]}")
def test_programs_accept_the_arguments_of_shell_lines(line: Line):
    check(line.words)
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    "wrong",
    [
        ["masac", "train", "training.batchsize=3"],
        ["masac", "train", "training.batch_size=0"],
        ["masac", "train", "task=vmas/nowhere"],
        ["masac", "train", "seed=0,1"],
        ["masac", "evaluate"],
        [".venv/bin/pip", "install", "-e", ".[nothing]"],
        ["python", "-m", "benchmarks.nothing"],
        ["python", "-m", "benchmarks.fill_docs_numbers", "--nothing"],
        ["python", "examples/nothing.py"],
        ["torchrun", "--nproc-per-node", "2", "-m", "masac", "train", "nothing=1"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_wrong_lines_are_detected(wrong):
    with pytest.raises((Exception, SystemExit)):
        check(wrong)
    GlobalHydra.instance().clear()


def files_of(page: str) -> list[Block]:
    return [block for block in blocks("python") if block.title and block.place.startswith(page)]


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """A folder with the files of docs/own_environment.md, on the path of imports."""
    for block in files_of("docs/own_environment.md"):
        assert block.title
        (tmp_path / block.title).write_text(block.code)
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "my_module.py").write_text(TEAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


TEAM = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Tuple


class MyTeam(gymnasium.Env):
    observation_space, action_space = Tuple([Box(-1, 1, (3,))] * 2), Tuple([Discrete(2)] * 2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observed(), {}

    def step(self, actions):
        assert len(actions) == 2
        self.steps += 1
        return self.observed(), [float(action) for action in actions], self.steps == 3, False, {}

    def observed(self):
        return tuple(self.np_random.uniform(-1, 1, 3).astype(np.float32) for _ in range(2))


gymnasium.register("MyTeam-v0", MyTeam)
"""


def test_files_of_a_page_make_its_environments(own_files, capsys):
    page = "docs/own_environment.md"
    described = [
        line.words[2:] for line in LINES if line.place.startswith(page) and line.words[:2] == ["masac", "tasks"]
    ]
    assert len(described) == 3
    for arguments in described:
        main(["tasks", *arguments])
        GlobalHydra.instance().clear()
    out, warned = capsys.readouterr()
    assert warned == ""
    swarm, line, team = out.split("train:   ")[:3]
    assert "agents  4       4 features   continuous, 2 dimensions" in swarm
    assert "walker  5       1 features   discrete, 2 choices" in line
    assert "agent  2       3 features   discrete, 2 choices" in team


def test_gymnasium_team_keeps_its_rewards_and_ends(own_files):
    task = TaskConfig(
        suite="pettingzoo",
        scenario=None,
        factory="masac.envs.from_gymnasium:from_gymnasium",
        kwargs={"env": "my_package.my_module:MyTeam-v0"},
        horizon=None,
    )
    data = make_env(task, num_envs=1, seed=0).rollout(4, break_when_any_done=False)[0]
    assert data["next", "agent", "reward"].squeeze(-1).tolist() == data["agent", "action"].tolist()
    assert data["next", "agent", "terminated"][..., 0].tolist() == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert not data["next", "agent", "truncated"].any()


def test_supersuit_works_if_masks_are_in_the_infos(own_files):
    supersuit = pytest.importorskip("supersuit")
    from tests.envs.factories import Spaces

    image, mask = Box(0, 255, (48, 48, 3), np.uint8), np.array([0, 1], np.int8)
    seen = {"observation": np.full((48, 48, 3), 51, np.uint8), "action_mask": mask}
    raw = Spaces({"a_0": Dict(observation=image, action_mask=MultiBinary(2))}, {"a_0": Discrete(2)}, lambda _: seen)
    with pytest.raises((AssertionError, TypeError)):
        supersuit.resize_v1(raw, 24, 24)
    hidden = import_module("my_images").MaskInInfo(raw)
    env = wrap(supersuit.resize_v1(supersuit.color_reduction_v0(hidden), 24, 24))
    data = env.rollout(3)[0]
    assert data["a", "image"].shape == (3, 1, 24, 24)
    assert data["a", "action_mask"].tolist() == [[[False, True]]] * 3
    assert (data["a", "action"] == 1).all()


def test_walkers_die_one_by_one(own_files):
    env = import_module("my_line").make(n_agents=2)
    env.reset(seed=0)
    env.position = {"walker_0": 1.9, "walker_1": 0.0}
    _, rewards, dead, _, _ = env.step({"walker_0": 1, "walker_1": 1})
    assert dead == {"walker_0": True, "walker_1": False}
    assert (rewards, env.agents) == ({"walker_0": 0.0, "walker_1": 1.0}, ["walker_1"])


def test_readme_has_the_quick_start():
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/masac train\n" in README
    assert 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest\n' in README
