"""``masac tasks``: the list, and one task at a time."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from masac.cli.main import main
from masac.cli.presets import minutes_of_preset
from masac.envs.config import task_name
from masac.envs.pettingzoo.names import FAMILIES, Family, hint, installed_modules

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tasks(capsys, monkeypatch):
    """Run ``masac tasks`` here; gives its output, standard error and exit code."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments):
        code = 0
        try:
            main(["tasks", *arguments])
        except SystemExit as end:
            code = end.code
        GlobalHydra.instance().clear()
        out, err = capsys.readouterr()
        return out, err, code

    return run


def test_the_task_list_needs_no_torch():
    code = "import sys, masac.cli.main; masac.cli.main.main(['tasks']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.endswith("False\n")
    for part in ("navigation*", "flocking", "simple_tag*", "simple_push,", "knights_archers_zombies*", "multiwalker*"):
        assert part in done.stdout
    assert 'not installed: multi_agent_ale_py. pip install "pettingzoo[atari]"' in done.stdout


def test_minutes_of_a_preset_are_those_of_its_comment():
    assert minutes_of_preset("vmas", "navigation") == 1
    assert minutes_of_preset("vmas", "balance") is None  # not measured
    assert minutes_of_preset("vmas", "flocking") is None  # no preset


def test_a_task_is_described_by_its_groups(tasks):
    out, _, code = tasks("pettingzoo/simple_tag")
    assert code == 0
    assert "Three slow adversaries chase a fast agent around obstacles (MPE, Lowe et al. 2017" in out
    assert [line.split() for line in out.splitlines()[4:7]] == [
        ["group", "agents", "observation", "action"],
        ["adversary", "3", "16", "features", "discrete,", "5", "choices"],
        ["agent", "1", "14", "features", "discrete,", "5", "choices"],
    ]
    assert "  adversary are adversary_0, adversary_1, adversary_2\n  agent is agent_0\n" in out
    assert "horizon: that of the environment" in out
    assert "masac train task=pettingzoo/simple_tag\n" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["vmas/navigation", "task.kwargs.n_agents=5"], ["agents  5", "agents are agent_0, agent_1", "100 steps"]),
        (["wind_flocking"], ["train task=vmas/wind_flocking"]),
        (["mpe2.simple_push_v3"], ["adversary  1       8 features", "train task=pettingzoo/mpe2.simple_push_v3"]),
        (["simple_formation"], ["mpe2.simple_formation_v1"]),
        (["tests.envs.scripted", "task.kwargs.action_mask=info"], ["7 features", "discrete, 2 choices, masked"]),
        (["tests.envs.factories:all_actions"], ["2 factors of 2 x 3 choices", "4 dimensions", "task.factory=tests"]),
    ],
)
def test_a_name_may_be_short_or_a_module_or_a_factory(tasks, arguments, parts):
    out, err, code = tasks(*arguments)
    assert code == 0, err
    for part in parts:
        assert part in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simple_tag"], "Choose vmas/simple_tag or pettingzoo/simple_tag"),
        (["nowhere"], "masac tasks lists all"),
        (["simple_fromation"], "Did you mean simple_formation"),
        (["no.where"], "task.scenario must be a module that can be imported; got 'no.where'"),
        (["pettingzoo/simple_psuh"], "Did you mean simple_push"),
        (["pettingzoo/simple_tag", "task.kwarg.n=3"], "task.kwarg.n is not a config key"),
        (["tests.envs.factories:turn_based"], "Turn-based games are not supported"),
        (["tests.envs.factories:nothing"], "it made int"),
        (["tests.envs.misbehaving:unbounded"], "actions of group 'a' must be discrete, or floats with finite bounds"),
        (["tests.envs.misbehaving:walkers", "task.kwargs.names=[keys_0]"], "Rename them in the environment"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(tasks, arguments, message):
    out, err, code = tasks(*arguments)
    assert (out, code) == ("", 2)
    assert err.startswith("masac tasks: error: ")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_help(tasks):
    out, _, code = tasks("--help")
    assert code == 0
    assert "masac tasks pettingzoo/simple_tag" in out


def test_a_missing_package_is_named_with_its_install_line(monkeypatch):
    gone = Family(package="mpe2", needs=("a_package_that_is_not_there",), install='pip install "masac[pettingzoo]"')
    monkeypatch.setattr("masac.envs.pettingzoo.names.FAMILIES", (gone, *FAMILIES[1:]))
    assert not any(module.startswith("mpe2.") for module in installed_modules())
    said = hint("mpe2.simple_push_v3")
    assert said == 'Not installed: a_package_that_is_not_there. pip install "masac[pettingzoo]"'


def test_a_task_has_a_short_name_for_folders():
    assert task_name("mpe2.simple_tag_v3", None) == "simple_tag_v3"
    assert task_name(None, "my.module:make") == "make"
    assert task_name("my.module:Scenario", None) == "Scenario"
    assert task_name("navigation", None) == "navigation"
    assert task_name(None, None) == "unnamed"
