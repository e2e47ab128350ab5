"""Policies that remember: whose memory goes on, whose begins anew, and what acts with it."""

import pytest
import torch
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.envs.registry import make_env
from masac.networks.config import ModelConfig
from masac.rendering.drawing import make_drawn_env
from masac.rendering.playback import Playback
from masac.training.collectors.local import LocalCollector
from masac.training.crossplay import cross_play
from masac.training.evaluator import evaluate
from masac.training.policies.opponents import FrozenOpponent
from masac.training.policies.self_play import pools
from tests.training.policies.common import NAVIGATION, pettingzoo, untrained
from tests.training.policies.opponents import TUG

DEATHS = pettingzoo(factory="tests.envs.scripted:parallel_env", continuous=True)


def remembering(task, kind="gru", **training):
    return untrained(task, model=ModelConfig(hidden=(8,), memory=kind, memory_size=4), **training)[0]


def collected(policy, task, *, steps, num_envs=2):
    env = make_env(task, num_envs=num_envs, seed=0)
    return LocalCollector(env, policy, steps=steps).collect()


def test_the_dead_and_whoever_acts_in_a_new_episode_begin_anew():
    data = collected(remembering(DEATHS), DEATHS, steps=8)  # a_0 dies at step 2, the episode ends at step 5
    first, second, third = data["a", "is_init"][0].squeeze(-1).int().unbind(-1)
    assert first.tolist() == [1, 0, 1, 1, 1, 1, 0, 1]
    assert second.tolist() == third.tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    assert torch.equal(data["a", "memory"].abs().amax(-1, keepdim=True) > 0, ~data["a", "is_init"])


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("task", [DEATHS, NAVIGATION], ids=["pettingzoo", "vmas"])
def test_what_acts_remembers_what_the_losses_unroll(kind, task):
    policy = remembering(task, kind)
    (group,) = policy.groups
    data = collected(policy, task, steps=13)[group.name]
    memory, alive = policy.memories[group.name], data.get("mask", None)
    alive = None if alive is None else alive.reshape(*alive.shape[:3], 1)
    after = memory.unroll(data["observation"], data["memory"][:, 0], data["is_init"], alive)
    expected = torch.where(data["is_init"][:, 1:], 0.0, after[:, :-1])
    torch.testing.assert_close(data["memory"][:, 1:], expected)
    assert data["memory"].shape[-1] == memory.state_dim


@pytest.mark.parametrize("task", [DEATHS, NAVIGATION], ids=["pettingzoo", "vmas"])
@pytest.mark.parametrize("stops", [True, False])
def test_rollouts_of_torchrl_carry_the_same_memories(task, stops):
    policy = remembering(task)
    (group,) = policy.groups
    env = TransformedEnv(make_env(task, num_envs=2, seed=0), policy.make_tensordict_primer())
    data = env.rollout(13, policy, break_when_any_done=stops)[group.name]
    assert data.shape[1] == (5 if stops else 13)
    alive = data.get("mask", torch.ones_like(data["is_init"])).reshape(data["is_init"].shape)
    after = policy.memories[group.name].unroll(data["observation"], data["memory"][:, 0], data["is_init"], alive)
    torch.testing.assert_close(data["memory"][:, 1:], torch.where(data["is_init"][:, 1:], 0.0, after[:, :-1]))
    assert data["is_init"][:, :, 1].sum(1).tolist() == [[1], [1]] if stops else [[3], [3]]


def memories_seen(policy):
    """The largest number in the memory of every state that a policy acts in, as a list that grows."""
    seen, forward = [], policy.forward

    def acts(data):
        seen.append(data["a", "memory"].abs().max().item())
        return forward(data)

    policy.forward = acts
    return seen


def test_evaluations_and_videos_carry_memories():
    policy = remembering(DEATHS)
    seen = memories_seen(policy)
    evaluate(policy, make_env(DEATHS, num_envs=2, seed=0, one_episode=True), seed=0, success=None)
    assert [value > 0 for value in seen] == [False, True, True, True, True]
    task = pettingzoo(factory="tests.envs.pictured:counting")
    policy = remembering(task)
    seen = memories_seen(policy)
    list(Playback(policy, policy.groups, make_drawn_env(task, seed=0), episodes=2))
    assert [value > 0 for value in seen] == [False, True, True] * 2


def test_a_state_without_a_memory_is_an_error():
    policy = remembering(NAVIGATION)
    state = make_env(NAVIGATION, num_envs=2, seed=0).reset()
    with pytest.raises(KeyError, match=r"policy\.begin"):
        policy(state)
    env, state = make_env(NAVIGATION, num_envs=2, seed=0), policy.begin(state)
    for loop in (env.rollout, TransformedEnv(env, StepCounter()).rollout):  # which carry no memories
        with pytest.raises(KeyError, match="make_tensordict_primer"):
            loop(3, policy, auto_reset=False, tensordict=state.copy(), break_when_any_done=False)
    assert policy(state)["agents", "action"].shape == (2, 2, 2)
    with pytest.raises(KeyError, match=r"policy\.carry"):
        policy(state)


def test_random_actions_of_the_warm_up_are_remembered_too():
    policy = remembering(DEATHS)
    policy.random_groups = policy.group_names
    data = collected(policy, DEATHS, steps=3)
    assert (data["a", "memory"][:, 1] != 0).all()


def test_a_frozen_opponent_remembers_as_it_did_in_training():
    other, policy = remembering(TUG), remembering(TUG)
    other.load_state_dict(policy.state_dict())
    policy.opponents["blue"] = FrozenOpponent(policy.groups[1], other, "blue")
    data = collected(policy, TUG, steps=6)
    torch.testing.assert_close(data["blue", "opponent_memory"], data["blue", "memory"])
    assert (data["blue", "memory"][:, 1] != 0).all()


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_opponent_inside_a_frozen_policy_remembers(kind):
    acts, between, policy = remembering(TUG, kind), remembering(TUG), remembering(TUG)
    between.opponents["blue"] = FrozenOpponent(between.groups[1], acts, "blue")
    policy.opponents["blue"] = FrozenOpponent(policy.groups[1], between, "blue")
    data = collected(policy, TUG, steps=6)["blue"]
    after = acts.memories["blue"].unroll(data["observation"], data["opponent_memory"][:, 0], data["is_init"])
    expected = torch.where(data["is_init"][:, 1:], 0.0, after[:, :-1])
    torch.testing.assert_close(data["opponent_memory"][:, 1:], expected)


def test_runs_of_self_play_that_remember_play_against_each_other():
    policy = remembering(TUG, opponents={"blue": "self-play"}, self_play_newest=0.0)
    pools(policy)["blue"].add(10)
    env = make_env(TUG, num_envs=2, seed=0, one_episode=True)
    matches = list(cross_play({"mine": policy}, policy.groups, env, group="red", seed=0, max_steps=5))
    assert len(matches) == 4


def test_a_snapshot_remembers_by_its_own_weights():
    policy = remembering(TUG, opponents={"blue": "self-play"}, self_play_newest=0.0)
    pool = pools(policy)["blue"]
    pool.add(10)
    with torch.no_grad():
        policy.memories["blue"].from_input.bias.add_(1.0)
    data = collected(policy, TUG, steps=4)
    snapshot = pool.snapshots[0].memories["blue"]
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        for name, memory in (("memory", policy.memories["blue"]), ("opponent_memory", snapshot)):
            part = data["blue"]
            after = memory.unroll(part["observation"], part[name][:, 0], part["is_init"])
            torch.testing.assert_close(part[name][:, 1:], torch.where(part["is_init"][:, 1:], 0.0, after[:, :-1]))
