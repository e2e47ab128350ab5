"""Environments that train, but hardly as meant: ignored seeds and keywords, hidden deaths, long waits."""

import random
import time

import numpy as np
import pytest
import torch

from masac.envs.config import TaskConfig
from masac.envs.environment_warnings import warn_of_ignored_seed, warn_of_wrappers
from masac.envs.registry import make_env
from masac.envs.unused_keywords import unused_message, watched
from masac.envs.vmas.environment import VmasVectorEnv
from masac.envs.vmas.make import make_vmas_env
from masac.errors import ConfigError, EnvironmentWarning
from tests.envs.common import wrap
from tests.envs.misbehaving import Walkers
from tests.envs.scripted import ScriptedDeaths

MISBEHAVING = "tests.envs.misbehaving"
SCENARIOS = "tests.envs.named_scenario"


def pettingzoo(factory, *, num_envs=2, **kwargs):
    task = TaskConfig(
        suite="pettingzoo", scenario=None, factory=f"{MISBEHAVING}:{factory}", kwargs=kwargs, horizon=None
    )
    return make_env(task, num_envs=num_envs, seed=3, warns=True)


def vmas(scenario, *, warns=True, **kwargs):
    task = TaskConfig(scenario=f"{SCENARIOS}:{scenario}", kwargs=kwargs, horizon=5)
    return make_env(task, num_envs=2, seed=3, warns=warns)


# --- seeds


def test_an_ignored_seed_is_warned_of_in_both_suites():
    with pytest.warns(
        EnvironmentWarning, match=r"task.factory=.*:deaf ignores its seed: two episodes with the same seed began"
    ):
        pettingzoo("deaf")
    with pytest.warns(EnvironmentWarning, match=r":forgetful ignores its seed"):
        pettingzoo("forgetful")
    with pytest.warns(EnvironmentWarning, match=r"the scenario '.*:Deaf' ignores its seed"):
        vmas("Deaf", names=["agent_0"])


def test_looking_for_ignored_seeds_leaves_random_numbers_alone():
    def state():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    of_steps, of_vmas = pettingzoo("walkers"), vmas("Named", names=["agent_0"])
    before = state()
    warn_of_ignored_seed(of_steps, "walkers")
    warn_of_ignored_seed(of_vmas, "Named")
    assert state() == before


def test_the_seed_check_leaves_a_vmas_environment_unchanged():
    looked_at = make_vmas_env(TaskConfig(horizon=5), num_envs=3, seed=3, warns=True)
    plain = VmasVectorEnv("navigation", num_envs=3, horizon=5, seed=3)
    for env in (looked_at, plain):
        torch.manual_seed(0)
        env.begun = env.rollout(7, break_when_any_done=False)
    assert (looked_at.begun == plain.begun).all()


# --- hidden deaths


def test_wrappers_that_hide_the_dead_are_named():
    supersuit = pytest.importorskip("supersuit")
    hidden = supersuit.black_death_v3(ScriptedDeaths())
    with pytest.warns(EnvironmentWarning, match=r"the wrapper black_death_par \(supersuit.* hides deaths"):
        warn_of_wrappers(supersuit.dtype_v0(hidden, np.float32))
    # What it does: a_0 dies at step 2 and the others are cut short at step 5; nobody is seen to die, and all terminate.
    data = wrap(hidden).rollout(6, break_when_any_done=False)
    assert data["a", "mask"].all()
    assert data["next", "a", "terminated"][0].squeeze(-1).sum(1).tolist() == [0, 0, 0, 0, 0, 3]


def test_wrappers_of_no_harm_are_not_warned_of(recwarn):
    pettingzoo("walkers")
    supersuit = pytest.importorskip("supersuit")
    warn_of_wrappers(supersuit.pad_observations_v0(supersuit.frame_stack_v2(ScriptedDeaths())))
    assert not [one for one in recwarn if issubclass(one.category, EnvironmentWarning)]


# --- keywords that nobody looks at


def test_keywords_are_used_where_they_are_looked_up():
    def take(first, *, third=0, **kwargs):
        kwargs.pop("second")
        kwargs.get("second")
        return "fourth" in kwargs, kwargs["fifth"]

    kwargs = watched({"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5})
    take(**kwargs)
    assert unused_message(kwargs, "take", [take]) is None
    unseen = "z" * 3  # a name in quotes counts as used
    message = unused_message(watched({unseen: 6}), "take", [take])
    assert message == "take seems not to use zzz of task.kwargs. It looks up: fifth, first, second, third."


@pytest.mark.parametrize("scenario", ["Attributes", "Later"])
def test_keywords_that_a_scenario_keeps_are_used(scenario):
    assert vmas(scenario, n_agents=3, **({"may_end": False} if scenario == "Later" else {})).vmas.n_agents == 3


def test_a_keyword_that_a_factory_does_not_take_is_an_error():
    with pytest.raises(ConfigError, match=r"task.kwargs must fit task.factory=.*'stepz': 3.*unexpected keyword"):
        pettingzoo("walkers", stepz=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: vmas("Later", n_agent=3, may_end=True),
            "scenario '.*:Later' seems not to use n_agent of task.kwargs. Did you mean n_agents",
        ),
        (lambda: vmas("Attributes", n_agents=1, speed=3), "seems not to use speed"),
        (lambda: vmas("Named", nmaes=["b_0"], names=["a_0"]), "seems not to use nmaes .* Did you mean names"),
        (
            lambda: pettingzoo("takes_anything", stepz=3),
            "task.factory=.*:takes_anything seems not to use stepz of task.kwargs",
        ),
        (lambda: pettingzoo("takes_any_attribute", stepz=3), "seems not to use stepz"),
    ],
)
def test_a_keyword_that_seems_to_be_used_by_nobody_is_warned_of(make, message):
    with pytest.warns(EnvironmentWarning, match=message):
        make()


def test_keywords_that_a_factory_takes_are_used():
    pettingzoo("takes_anything", steps=3)
    pettingzoo("takes_any_attribute", steps=3)
    pettingzoo("reads_its_config_in_reset", steps=3)


def test_nothing_is_reset_to_look_for_faults_where_nobody_asked(monkeypatch):
    monkeypatch.setattr("masac.envs.environment_warnings._begin", None)
    vmas("Deaf", names=["agent_0"], warns=False)
    task = TaskConfig(suite="pettingzoo", scenario=None, factory=f"{MISBEHAVING}:deaf", horizon=None)
    make_env(task, num_envs=2, seed=3)


# --- long waits


def test_an_environment_that_never_starts_is_named(monkeypatch, capsys):
    monkeypatch.setattr("masac.envs.slow_start_warning.SECONDS", 0.05)
    reset = Walkers.reset

    def slow_reset(self, seed=None, options=None):
        time.sleep(0.1)
        return reset(self, seed, options)

    monkeypatch.setattr(Walkers, "reset", slow_reset)
    pettingzoo("walkers")
    said = capsys.readouterr().err
    assert said.startswith("warning: pettingzoo/walkers has not begun its first episode after 0 s; still waiting.")
    assert "task.num_envs" in said
    assert len(said.splitlines()) == 1
    monkeypatch.setattr("masac.envs.slow_start_warning.SECONDS", 60)
    pettingzoo("walkers")
    assert capsys.readouterr().err == ""
