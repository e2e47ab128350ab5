"""Environments side by side: partial resets, seeds, closing."""

import pytest
import torch
from tensordict import TensorDict

from masac.envs.arrays import NO_SEED
from masac.envs.pettingzoo.environment import PettingZooEnvironment
from masac.envs.vector_env import VectorEnv
from tests.envs.misbehaving import Walkers
from tests.envs.scripted import ScriptedDeaths


def vector(kind=ScriptedDeaths, num_envs=3, **options):
    return VectorEnv.of([PettingZooEnvironment(kind()) for _ in range(num_envs)], **options)


def which(*reset):
    return TensorDict({"_reset": torch.tensor(reset).unsqueeze(-1)}, [len(reset)])


def stepped(env, state):
    """A step in which everybody does action 0, and the state after it."""
    return env.step_and_maybe_reset(state.set(("a", "action"), env.full_action_spec["a", "action"].zero()))


def test_a_partial_reset_returns_the_states_of_all_environments():
    env = vector()
    state = env.reset()
    for _ in range(2):
        _, state = stepped(env, state)
    again = env._reset(which(True, False, False))  # the public method puts zeros where nothing is reset
    times = again["a", "observation"][:, 1, 3] * 5  # the scripted environment shows the step of the episode
    assert times.tolist() == [0, 2, 2]
    step, _ = stepped(env, again)
    assert (step["next", "a", "observation"][:, 1, 3] * 5).tolist() == [1, 3, 3]


def test_step_and_maybe_reset_equals_step_and_reset():
    ours, torchrls = vector(horizon=4), vector(horizon=4)
    state, other = ours.reset(), torchrls.reset()
    for _ in range(9):
        step, state = stepped(ours, state)
        expected = torchrls.step(other.set(("a", "action"), step["a", "action"]))
        assert (step["next"] == expected["next"]).all()
        other = torchrls.maybe_reset(expected["next"].exclude(("a", "reward")))
        assert (state["a", "observation"] == other["a", "observation"]).all()


def test_a_seed_is_used_by_the_next_episode_only():
    env = vector(Walkers)
    env.set_seed(3)
    env.reset(which(True, False, False))
    assert env._arrays.seeds.tolist()[0] == NO_SEED
    assert NO_SEED not in env._arrays.seeds.tolist()[1:]
    state = env.reset()
    assert set(env._arrays.seeds.tolist()) == {NO_SEED}
    first = state["a", "observation"].clone()
    env.set_seed(3)
    assert torch.equal(env.reset()["a", "observation"][1:], first[1:])


def test_all_environments_are_closed_though_one_raises():
    env, closed = vector(), []

    def fail():
        raise RuntimeError("stuck")

    for index, episode in enumerate(env.stepper.episodes):
        episode.environment.close = fail if index == 1 else lambda index=index: closed.append(index)
    with pytest.raises(RuntimeError, match="stuck"):
        env.close()
    assert sorted(closed) == [0, 2]
    env.close()
