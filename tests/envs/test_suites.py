"""The registry of suites."""

import sys
from types import ModuleType

import pytest

from masac.cli.presets import presets
from masac.cli.tasks import tasks
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.envs.suites import SUITES, suite_named
from masac.envs.vmas.suite import VmasSuite
from masac.errors import ConfigError
from masac.rendering.drawing import can_draw


class Another(VmasSuite):
    """A suite with one environment."""

    def environments(self):
        return {"steered": {"task": {"suite": "another", "scenario": "navigation"}}}

    def listing(self):
        yield "another", ["steered"]


@pytest.fixture
def another(monkeypatch):
    module = ModuleType("another_suite")
    module.SUITE = Another()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(SUITES, "another", module.__name__)


def test_a_suite_is_a_module_and_a_line(another, capsys):
    task = TaskConfig(suite="another", num_envs=2)
    assert make_env(task, num_envs=2, seed=0).reset().batch_size == (2,)
    assert can_draw(task)
    assert presets("another") == []
    tasks([])
    assert "\nanother\n  steered\n" in capsys.readouterr().out


def test_an_unknown_suite_is_an_error_that_lists_them():
    with pytest.raises(ConfigError, match=r"task\.suite must be one of vmas, pettingzoo; got 'gym'"):
        TaskConfig(suite="gym")


def test_joint_resets_are_for_vmas_only():
    with pytest.raises(ConfigError, match=r"task\.joint_resets must be true for task.suite=pettingzoo"):
        TaskConfig(suite="pettingzoo", scenario="mpe2.simple_tag_v3", horizon=None, joint_resets=False)


def test_the_header_says_how_environments_are_reset():
    def header(**task):
        return suite_named("vmas").header(make_env(TaskConfig(**task), num_envs=2, seed=0))

    one_by_one = "environments that end are reset one by one"
    assert header() == "environments that end are reset jointly (task.joint_resets=true)"
    assert header(joint_resets=False) == f"{one_by_one} (task.joint_resets=false)"
    assert header(scenario="wind_flocking") == f"{one_by_one} (as the scenario does not allow joint resets)"
    assert suite_named("pettingzoo").header(None) is None
