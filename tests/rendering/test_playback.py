"""Episodes picture by picture."""

import pytest
import torch

from masac.envs.registry import make_env
from masac.rendering.drawing import make_drawn_env
from masac.rendering.playback import Playback
from masac.training.evaluator import evaluate
from tests.training.policies.common import pettingzoo, untrained

COUNTING = pettingzoo(factory="tests.envs.pictured:counting")


def brightness(played):
    return [int(picture[0, 0, 0]) // 20 for picture in played]


def play(task, policy, *, seed=0, **options):
    torch.manual_seed(seed)
    return Playback(policy, policy.groups, make_drawn_env(task, seed=seed), **options)


def test_every_state_is_shown_the_last_one_too():
    policy, _ = untrained(COUNTING)
    played = play(COUNTING, policy, episodes=2)
    assert brightness(played) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert played.lengths == [3, 3]
    assert played.returns == {"a": [3.0, 3.0]}


def test_an_episode_can_be_cut_short():
    policy, _ = untrained(COUNTING)
    played = play(COUNTING, policy, episodes=2, max_steps=1)
    assert brightness(played) == [0, 1, 0, 1]
    assert played.lengths == [1, 1]


SPREAD = pettingzoo("mpe2.simple_spread_v3", max_cycles=6)


def test_returns_are_those_of_an_evaluation():
    policy, _ = untrained(SPREAD)
    played = play(SPREAD, policy, seed=7)
    assert len(list(played)) == 7
    evaluated = evaluate(policy, make_env(SPREAD, num_envs=1, seed=0), seed=7, success=None)
    assert played.returns["agent"] == pytest.approx([evaluated.returns["agent"].mean().item()])


def test_seeds_repeat_and_noise_is_off_by_default():
    policy, _ = untrained(SPREAD)

    def returns(**options):
        played = play(SPREAD, policy, **options)
        list(played)
        return played.returns["agent"]

    quiet, noisy = returns(), returns(stochastic=True)
    assert quiet != noisy
    assert noisy == returns(stochastic=True)
    assert quiet == returns()
    assert quiet != returns(seed=1)
