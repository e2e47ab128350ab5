"""What README and docs say can be done as they say."""

import ast
import re
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from hydra.core.global_hydra import GlobalHydra

from masac.cli.main import main
from masac.envs.config import TaskConfig
from tests.docs.commands import check
from tests.docs.pages import ROOT, Block, Line, blocks, shell_lines
from tests.training.policies import save_run

README = (ROOT / "README.md").read_text()
LINES = shell_lines()


def needs(code: str) -> set[str]:
    """The packages that a block imports, and those that our integrations want."""
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
    """A folder with a run as the pages train it (but untrained), exported by the lines of the page on that."""
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
def test_python_blocks_run_and_print_what_they_say(block: Block, capsys, monkeypatch, tmp_path, request):
    if "runs/" in block.code:
        tmp_path = request.getfixturevalue("trained")
        capsys.readouterr()
    missing = [name for name in needs(block.code) if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.place, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"print\(.*\)\s+# (.*)", block.code)
    assert [line for line in printed if "[torchrl]" not in line] == promised


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.place} {' '.join(line.words)[:60]}")
def test_shell_lines_are_arguments_that_their_programs_take(line: Line):
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
        ["python", "-m", "benchmarks.readme", "--nothing"],
        ["python", "examples/nothing.py"],
        ["torchrun", "--nproc-per-node", "2", "-m", "masac", "train", "nothing=1"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_wrong_lines_are_found(wrong):
    with pytest.raises((Exception, SystemExit)):
        check(wrong)
    GlobalHydra.instance().clear()


def files_of(page: str) -> list[Block]:
    return [block for block in blocks("python") if block.title and block.place.startswith(page)]


def test_files_that_a_page_shows_make_the_environments_that_it_says(tmp_path, monkeypatch, capsys):
    page = "docs/own_environment.md"
    for block in files_of(page):
        assert block.title
        (tmp_path / block.title).write_text(block.code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    described = [
        line.words[2:] for line in LINES if line.place.startswith(page) and line.words[:2] == ["masac", "tasks"]
    ]
    assert len(described) == len(files_of(page)) == 2
    for arguments in described:
        main(["tasks", *arguments])
        GlobalHydra.instance().clear()
    swarm, line = capsys.readouterr().out.split("train:   ")[:2]
    assert "agents  4       4 features   continuous, 2 dimensions" in swarm
    assert "walker  5       1 features   discrete, 2 choices" in line


def test_walkers_of_the_page_die_alone(tmp_path, monkeypatch):
    code = {block.title: block.code for block in files_of("docs/own_environment.md")}
    (tmp_path / "my_line.py").write_text(code["my_line.py"])
    monkeypatch.syspath_prepend(tmp_path)
    env = import_module("my_line").make(n_agents=2)
    env.reset(seed=0)
    env.position = {"walker_0": 1.9, "walker_1": 0.0}
    _, rewards, dead, _, _ = env.step({"walker_0": 1, "walker_1": 1})
    assert dead == {"walker_0": True, "walker_1": False}
    assert (rewards, env.agents) == ({"walker_0": 0.0, "walker_1": 1.0}, ["walker_1"])


def test_the_lines_for_newcomers_are_there():
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/masac train\n" in README
    assert 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest\n' in README
