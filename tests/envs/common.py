"""Environments for tests of environments."""

from masac.envs.pettingzoo.environment import PettingZooEnvironment
from masac.envs.vector_env import VectorEnv


def wrap(raw):
    """A PettingZoo environment as one of batch size [1]."""
    return VectorEnv.of([PettingZooEnvironment(raw)])


def play(raw, steps=5):
    """A rollout [T] of a PettingZoo environment with random actions."""
    return wrap(raw).rollout(steps, break_when_any_done=False)[0]
