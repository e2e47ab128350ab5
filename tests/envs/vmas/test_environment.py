"""The VMAS environment, against TorchRL's."""

import random

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.libs.vmas import VmasEnv
from torchrl.envs.utils import check_env_specs
from vmas.simulator.environment import Environment

from masac.envs.vmas.environment import VmasVectorEnv
from masac.envs.vmas.resets import FreshStates, IrregularStateError, find_reset_state
from masac.errors import RunFailedError
from tests.envs.own_scenario import Scenario

CASES = {
    "navigation": {"horizon": 7, "scenario_kwargs": {"n_agents": 3}},
    "balance": {"horizon": 30, "scenario_kwargs": {"n_agents": 3}},
    "simple_tag": {"horizon": 3},  # several groups
    "wind_flocking": {"horizon": 4},
    "transport": {"horizon": 5, "continuous_actions": False},
    "own": {"horizon": 6},
}
ENVS = 6


def name_or_own(scenario):
    return Scenario() if scenario == "own" else scenario


def lean(scenario, seed=3, **kwargs):
    return VmasVectorEnv(name_or_own(scenario), num_envs=ENVS, seed=seed, **{**CASES[scenario], **kwargs})


def torchrls(scenario, seed=3):
    kwargs = dict(CASES[scenario])
    horizon = kwargs.pop("horizon")
    env = VmasEnv(name_or_own(scenario), num_envs=ENVS, seed=seed, **kwargs)
    return TransformedEnv(env, StepCounter(max_steps=horizon))


@torch.no_grad()
def play(env, steps, *, seed=7, act_seed=0, spread=False):
    """Transitions ``[E, T]``, and the state after them."""
    env.set_seed(seed)
    torch.manual_seed(act_seed)
    state, seen = env.reset(), []
    if spread:  # so that environments end at different times
        first = torch.arange(ENVS).unsqueeze(-1) % 2 == 0
        state = env.step_mdp(env.rand_step(state))
        state = env.reset(state.set("_reset", first)).exclude("_reset")
    for step in range(steps):
        torch.manual_seed(act_seed + step)
        transition, state = env.step_and_maybe_reset(env.rand_action(state))
        seen.append(transition.exclude("reward"))
    return torch.stack(seen, 1), state.exclude(*env.action_keys)


def assert_same(data, expected):
    keys = set(data.keys(True, True))
    assert keys == {key for key in expected.keys(True, True) if "info" not in key}
    for key in keys:
        assert data[key].dtype == expected[key].dtype, key
        assert torch.equal(data[key].nan_to_num(-7), expected[key].nan_to_num(-7)), key


@pytest.mark.parametrize("scenario", CASES)
@pytest.mark.parametrize("spread", [False, True])
def test_single_resets_equal_torchrls_environment(scenario, spread):
    data, state = play(lean(scenario, joint_resets=False), 40, spread=spread)
    expected, expected_state = play(torchrls(scenario), 40, spread=spread)
    assert_same(data, expected)
    assert_same(state, expected_state)
    ends = expected["next", "done"].squeeze(-1)
    assert (ends.sum(1) >= 1).all()
    assert (ends.any(0) & ~ends.all(0)).any() or not (spread or scenario == "own")


@pytest.mark.parametrize("scenario", ["balance", "navigation", "own"])
def test_joint_resets_agree_up_to_the_first_end(scenario):
    data, _ = play(lean(scenario), 40)
    expected, _ = play(lean(scenario, joint_resets=False), 40)
    ended_before = expected["next", "done"].cumsum(1).squeeze(-1) - expected["next", "done"].squeeze(-1).long() > 0
    assert_same(data[~ended_before], expected[~ended_before])


def test_a_step_keeps_the_true_last_state_before_the_reset():
    data, _ = play(lean("balance"), 80, spread=True)
    ends = data["next", "done"].squeeze(-1)
    assert ends[:, :-1].sum() > ENVS
    last, first = data["next"][:, :-1][ends[:, :-1]], data[:, 1:][ends[:, :-1]]
    assert (first["step_count"] == 0).all()
    assert not first["truncated"].any()
    assert (first["agents", "observation"][:, :, 2:4] == 0).all(), "a fresh state is at rest"
    assert (last["agents", "observation"] != first["agents", "observation"]).flatten(1).any(1).all()
    on = ~ends[:, :-1]
    for key in [("agents", "observation"), "step_count", "done", "terminated", "truncated"]:
        assert torch.equal(data[:, 1:][on][key], data["next"][:, :-1][on][key])


def test_joint_resets_continue_as_after_a_full_reset():
    some, whole = lean("balance", horizon=10**9), lean("balance", horizon=10**9)
    state = some.reset()
    while True:  # until some fall
        stream = some.random_stream.state
        transition, following = some.step_and_maybe_reset(some.rand_action(state))
        ended = transition["next", "done"].squeeze(-1)
        if ended.any() and not ended.all():
            break
        state = following
    # The first states handed out are the first that this environment's stream gives after the step.
    whole.random_stream.state = stream
    fresh = whole.reset()
    assert torch.equal(following[ended]["agents", "observation"], fresh[ended]["agents", "observation"])
    for _ in range(10):
        actions = some.rand_action(following)["agents", "action"]
        following["agents", "action"], fresh["agents", "action"] = actions, actions
        (a, following), (b, fresh) = some.step_and_maybe_reset(following), whole.step_and_maybe_reset(fresh)
        ended &= ~a["next", "done"].squeeze(-1)
        assert torch.equal(a["next"][ended]["agents", "reward"], b["next"][ended]["agents", "reward"])
        assert torch.equal(a["next"][ended]["agents", "observation"], b["next"][ended]["agents", "observation"])


def test_prepared_states_are_never_used_twice(monkeypatch):
    env, draws = lean("balance"), []
    draw = FreshStates.draw
    monkeypatch.setattr(FreshStates, "draw", lambda self, reset: (draws.append(1), draw(self, reset))[1])
    data, _ = play(env, 100, spread=True)
    starts = data[data["step_count"].squeeze(-1) == 0]["agents", "observation"].flatten(1)
    assert len(starts.unique(dim=0)) == len(starts)
    assert 1 <= len(draws) < len(starts) / 2


@pytest.mark.slow
def test_seeds_decide_over_partial_resets_too():
    env = lean("balance")
    first, _ = play(env, 40, spread=True)
    again, _ = play(env, 40, spread=True)  # states left from before the seed are not used
    other, _ = play(lean("balance", seed=11), 40, spread=True)
    assert_same(again, first)
    assert_same(other, first)
    assert not torch.equal(
        play(env, 40, seed=8, spread=True)[0]["agents", "observation"], first["agents", "observation"]
    )


def test_global_random_numbers_are_neither_used_nor_moved():
    def numbers():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()

    def seed():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)

    env = lean("balance", horizon=3)
    seed()
    expected = numbers()
    seed()
    state = env.reset()
    state["agents", "action"] = torch.zeros(ENVS, 3, 2)
    for mask in (torch.tensor([[True], [False]] * 3), torch.tensor([[False], [True]] * 3)):
        env.step_and_maybe_reset(state.clone())
        env.reset(TensorDict({"_reset": mask}, [ENVS]))
    state["agents", "action"] = torch.full((ENVS, 3, 2), torch.nan)
    with pytest.raises(AssertionError):
        env.step(state)
    assert numbers() == expected


def test_torchrls_checks_pass_where_environments_end_apart():
    check_env_specs(lean("own"))


class OneGoalForAll(Scenario):
    """What it draws for all environments together is not a tensor."""

    def reset_world_at(self, env_index=None):
        super().reset_world_at(env_index)
        self.goal = self.world.agents[int(torch.randint(2, ()))]


class CountsResets(Scenario):
    def make_world(self, batch_dim, device, **kwargs):
        self.resets = 0
        return super().make_world(batch_dim, device, **kwargs)

    def reset_world_at(self, env_index=None):
        super().reset_world_at(env_index)
        self.resets += 1


class GoesOnWhereItWas(Scenario):
    """A reset depends on what was there."""

    def reset_world_at(self, env_index=None):
        super().reset_world_at(env_index)
        for agent in self.world.agents:
            agent.set_pos(self.last if env_index is None else self.last[env_index], batch_index=env_index)

    def make_world(self, batch_dim, device, **kwargs):
        self.last = torch.zeros(batch_dim, 2)
        return super().make_world(batch_dim, device, **kwargs)

    def post_step(self):
        self.last = torch.add(self.world.agents[0].state.pos, 1)  # pyright: ignore[reportArgumentType]  untyped in VMAS


class HidesState(Scenario):
    """State that nobody sees but a function."""

    def make_world(self, batch_dim, device, **kwargs):
        times = torch.zeros(batch_dim)
        self.times = lambda: times
        return super().make_world(batch_dim, device, **kwargs)

    def reset_world_at(self, env_index=None):
        super().reset_world_at(env_index)
        self.times()[slice(None) if env_index is None else env_index] = 0

    def observation(self, agent):
        return super().observation(agent) + self.times().unsqueeze(-1)

    def post_step(self):
        times = self.times()
        times += 1


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (OneGoalForAll, "a reset must (write|neither)"),
        (CountsResets, r"must write tensors .*got .* at \('resets',\)"),
        (GoesOnWhereItWas, "must continue as if"),
        (HidesState, "must continue as if"),
    ],
)
def test_scenarios_unfit_for_joint_resets_reset_one_by_one(scenario, message):
    env = VmasVectorEnv(scenario(), num_envs=ENVS, horizon=20, seed=0)
    with pytest.raises(IrregularStateError, match=message):
        find_reset_state(env._make_trial)
    assert not env.joint_resets
    data, _ = play(env, 12)
    expected, _ = play(VmasVectorEnv(scenario(), num_envs=ENVS, horizon=20, seed=0, joint_resets=False), 12)
    ends = data["next", "done"]
    assert ends.any()
    assert not ends.all(0).any()
    assert_same(data, expected)


def test_state_that_moves_after_the_trial_names_the_key():
    env = lean("balance")
    assert env.joint_resets
    env.step(env.rand_action(env.reset()))
    del env.vmas.scenario.package
    with pytest.raises(RunFailedError, match=r"must keep its state .*task.joint_resets=false\.$"):
        env._reset_some(torch.arange(ENVS).unsqueeze(-1) == 0)


def test_joint_resets_can_be_switched_off():
    assert lean("navigation").joint_resets
    assert not lean("navigation", joint_resets=False).joint_resets


def test_a_trial_leaves_vmas_random_numbers_alone():
    before = list(Environment.vmas_random_state)
    assert find_reset_state(lean("own")._make_trial)
    assert all(a is b for a, b in zip(before, Environment.vmas_random_state, strict=True))
