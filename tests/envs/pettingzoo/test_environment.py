"""Real PettingZoo environments, and one that is scripted: who lives, what ends, and how it is said."""

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pettingzoo.test import parallel_api_test
from tensordict.nn import TensorDictModuleBase
from torchrl.envs.utils import check_env_specs

import masac
from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.build import build
from masac.envs.registry import make_env
from masac.groups import read_groups
from tests.envs.scripted import ScriptedDeaths

FOLDER = Path(masac.__file__).parent / "conf" / "task" / "pettingzoo"
PRESETS = {
    file.stem: dict(OmegaConf.to_object(OmegaConf.load(file).task))
    for file in sorted(FOLDER.glob("*.yaml"))
    if file.stem != "custom"
}
SCRIPTED = {"scenario": "tests.envs.scripted"}
DEADLY = {"kwargs": {"spawn_delay": 2, "max_zombies": 30, "max_cycles": 200}}


def task(*parts, **more):
    fields = {"suite": "pettingzoo", "scenario": None, "horizon": None}
    for part in (*parts, more):
        fields.update(part)
    return TaskConfig(**fields)


def make(*parts, num_envs=2, seed=0, **more):
    return make_env(task(*parts, **more), num_envs=num_envs, seed=seed)


def preset(name, **more):
    return dict(PRESETS[name], **more)


class Always(TensorDictModuleBase):
    """A policy that knows one action."""

    def __init__(self, env, action):
        super().__init__()
        self.in_keys, self.out_keys = [], [(group.name, "action") for group in read_groups(env)]
        self.spec, self.action = env.full_action_spec, action

    def forward(self, data):
        for key in self.out_keys:
            data[key] = torch.full_like(self.spec[key].zero(), self.action)
        return data


def rollout(env, steps, action=None):
    """The batch [E, T] of a rollout in which everybody does ``action``, or something random."""
    return env.rollout(steps, None if action is None else Always(env, action), break_when_any_done=False)


def action_kind(group):
    return "continuous" if group.discrete is None else "discrete"


# --- what we build is a TorchRL environment


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("simple_spread", [("agent", 3, 18, "continuous")]),
        ("simple_tag", [("adversary", 3, 16, "discrete"), ("agent", 1, 14, "discrete")]),
        ("simple_speaker_listener", [("speaker", 1, 3, "continuous"), ("listener", 1, 11, "continuous")]),
        ("simple_adversary", [("adversary", 1, 8, "discrete"), ("agent", 2, 10, "discrete")]),
        ("multiwalker", [("walker", 3, 31, "continuous")]),
        ("pursuit", [("pursuer", 8, 147, "discrete")]),
        ("knights_archers_zombies", [("archer", 2, 135, "discrete"), ("knight", 2, 135, "discrete")]),
    ],
)
def test_presets_pass_torchrls_checks_and_their_groups_are_read(name, groups):
    env = make(preset(name))
    check_env_specs(env)
    assert env.batch_size == (2,)
    read = read_groups(env)
    assert [(group.name, group.n_agents, group.observation_dim, action_kind(group)) for group in read] == groups
    env.close()


@pytest.mark.parametrize("kwargs", [{}, {"continuous": True}, {"action_mask": "observation"}, {"action_mask": "info"}])
def test_the_scripted_environment_passes_both_libraries_checks(kwargs):
    parallel_api_test(ScriptedDeaths(**kwargs), 20)
    env = make(SCRIPTED, kwargs=kwargs)
    check_env_specs(env)
    (group,) = read_groups(env)
    assert (group.n_agents, group.observation_dim) == (3, 7)
    assert action_kind(group) == ("continuous" if kwargs.get("continuous") else "discrete")
    assert group.has_action_mask == ("action_mask" in kwargs)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in PRESETS])
def test_the_presets_environments_pass_pettingzoos_own_test(name):
    parallel_api_test(build(task(preset(name)), num_envs=1), 100)


# --- who lives, what ends


def test_a_scripted_death_and_time_limit_by_hand():
    data = rollout(make(SCRIPTED), 6, action=1)
    # a_0 dies at step 2, a_1 and a_2 are cut short at step 5, step 6 is the first of the next episode.
    assert data["a", "mask"][0].int().tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1]]
    terminated, truncated = (data["next", "a", flag][0, ..., 0].int().tolist() for flag in ("terminated", "truncated"))
    assert terminated == [[0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    # once it is gone, TorchRL says both of it
    assert truncated == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert data["next", "a", "reward"][0, ..., 0].tolist() == [[1, 1, 1]] * 2 + [[0, 1, 1]] * 3 + [[1, 1, 1]]
    # own index one-hot, step / 5, who is alive; the true terminal observation of the dying agent, then zeros
    assert data["next", "a", "observation"][0, 1, 0].tolist() == pytest.approx([1, 0, 0, 0.4, 0, 1, 1])
    assert data["next", "a", "observation"][0, 2, 0].tolist() == [0] * 7
    assert data["next", "a", "observation"][0, 4, 2].tolist() == pytest.approx([0, 0, 1, 1, 0, 1, 1])
    for flag, expected in {"done": [0, 0, 0, 0, 1, 0], "truncated": [0, 0, 0, 0, 1, 0], "terminated": [0] * 6}.items():
        assert data["next", flag][0, :, 0].int().tolist() == expected


def test_the_horizon_truncates_but_the_dead_stay_terminated():
    data = rollout(make(SCRIPTED, horizon=3), 4)
    assert data["next", "a", "truncated"][0, 2, 1:].all()
    assert data["next", "a", "terminated"][0, 2, :, 0].tolist() == [True, False, False]
    assert data["next", "a", "done"][0, 2].all()
    assert data["next", "truncated"][0, :, 0].tolist() == [False, False, True, False]
    assert not data["next", "terminated"].any()
    assert data["a", "mask"][0, 3].all()  # the next episode


@pytest.mark.parametrize("flags", [False, True])
def test_agents_may_come_late_and_leave_without_a_word(flags):
    data = rollout(make(factory="tests.envs.factories:comings", kwargs={"flags": flags}), 5)
    assert data["a", "mask"][0].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1], [0, 1, 1]]
    assert data["next", "a", "terminated"][0, :, 0, 0].int().tolist() == [0, 1, 1, 1, 1]
    assert data["next", "a", "terminated"][0, :, 2, 0].int().tolist() == [1, 0, 0, 0, 0]  # not there yet, then it is
    assert data["next", "a", "observation"][0, 1, 2, :3].tolist() == [0, 0, 1]
    assert data["next", "done"][0, :, 0].int().tolist() == [0, 0, 0, 0, 1]


def test_deaths_in_knights_archers_zombies():
    env = make(preset("knights_archers_zombies"), DEADLY, seed=1)
    data = rollout(env, 200)
    archers, knights = data["archer"], data["knight"]
    mask = torch.cat([archers["mask"], knights["mask"]], -1)
    terminated = torch.cat([data["next", name, "terminated"] for name in ("archer", "knight")], 2).squeeze(-1)
    truncated = torch.cat([data["next", name, "truncated"] for name in ("archer", "knight")], 2).squeeze(-1)
    done = data["next", "done"].squeeze(-1)
    died = mask & terminated
    assert died.sum() >= 4
    later = died[:, :-1] & ~done[:, :-1, None]  # deaths after which others go on
    assert later.any()
    assert not mask[:, 1:][later].any()
    assert mask[:, 1:].any(-1)[later.any(-1)].all()
    inside = ~done[:, :-1, None]
    dead = ~mask[:, 1:] & inside
    assert terminated[:, 1:][dead].all()
    assert (done == (terminated | truncated).all(-1)).all()
    assert mask[:, 1:][done[:, :-1]].all()  # a reset brings everybody back


def test_simple_tag_has_two_groups_with_rewards_of_their_own():
    data = rollout(make(preset("simple_tag")), 3)
    assert data["adversary", "observation"].shape == (2, 3, 3, 16)
    assert data["next", "adversary", "reward"].shape == (2, 3, 3, 1)
    assert data["next", "agent", "reward"].shape == (2, 3, 1, 1)


def test_an_mpe_time_limit_is_a_truncation():
    data = rollout(make(preset("simple_tag")), 25)
    for name in ("adversary", "agent"):
        assert data["next", name, "truncated"][:, 24].all()
        assert not data["next", name, "truncated"][:, :24].any()
        assert not data["next", name, "terminated"].any()
    assert data["next", "truncated"][:, 24].all()
    assert not data["next", "terminated"].any()


@pytest.mark.parametrize("task", ["simple_spread", "multiwalker", "knights_archers_zombies"])
def test_a_step_observes_each_agent_once_and_gives_what_pettingzoo_gives(task):
    """PettingZoo's conversion observes every agent a second time, and drops what it saw."""
    config = TaskConfig(**PRESETS[task])
    ours: Any = build(config, num_envs=1)
    theirs: Any = importlib.import_module(str(config.scenario)).parallel_env(**config.kwargs)
    inner = getattr(ours, "env", ours)  # that of knights_archers_zombies is wrapped
    observed, observe = [], inner.aec_env.observe
    inner.aec_env.observe = lambda agent: observed.append(agent) or observe(agent)
    for env in (ours, theirs):
        env.reset(seed=3)
        for agent in env.agents:
            env.action_space(agent).seed(4)
    for _ in range(3):
        observed.clear()
        actions = {agent: theirs.action_space(agent).sample() for agent in theirs.agents}
        np.random.seed(5)  # multiwalker draws the noise of its observations with it
        mine = ours.step(actions)
        np.random.seed(5)  # multiwalker draws the noise of its observations with it
        expected = theirs.step(actions)
        assert observed == ours.agents
        for one, other in zip(mine[:4], expected[:4], strict=True):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[agent], other[agent]) for agent in one)


def test_fallen_walkers_terminate_and_others_are_truncated():
    env = make(preset("multiwalker", horizon=20))
    still = rollout(env, 20, action=0.0)
    assert still["next", "walker", "truncated"][:, 19].all()
    assert not still["next", "walker", "terminated"].any()
    fallen = rollout(make(preset("multiwalker")), 120)["next"]
    ends = fallen["done"].squeeze(-1)
    assert ends.any()
    assert fallen["terminated"].squeeze(-1)[ends].all()
    assert fallen["walker", "terminated"][ends].all()
    assert not fallen["walker", "truncated"].any()


def test_masks_say_what_is_legal_and_random_actions_keep_to_them():
    for where in ("observation", "info"):
        data = rollout(make(SCRIPTED, kwargs={"action_mask": where}, num_envs=8), 5)
        legal = data["a", "action_mask"]
        odd = torch.tensor([False, True, False, True, False])
        assert legal[..., 0].all()
        alive = data["a", "mask"]
        assert torch.equal(legal[..., 1][alive], (~odd)[None, :, None].expand(8, 5, 3)[alive])
        assert legal[~alive].all()
        taken = legal.gather(-1, data["a", "action"].unsqueeze(-1))
        assert taken.all()


# --- seeds


@pytest.mark.parametrize("name", list(PRESETS))
def test_seeds_repeat_and_environments_of_a_batch_differ(name):
    steps = 5 if name == "pursuit" else 40
    config = preset(name, **(DEADLY if name == "knights_archers_zombies" else {}))
    first = seen(make(config, seed=3), steps)
    states = random.getstate(), np.random.get_state()
    random.seed(1)
    np.random.seed(1)
    again = make(config, seed=9)
    seen(again, 3)  # an episode that is cut off
    again.set_seed(3)
    second = seen(again, steps)
    random.setstate(states[0])
    np.random.set_state(states[1])
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def seen(env, steps):
    """Everything that is observed in a rollout, [E, T, F]."""
    torch.manual_seed(0)
    data = rollout(env, steps)
    return torch.cat([data[group.observation_key].flatten(2) for group in read_groups(env)], -1)
