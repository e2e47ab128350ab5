"""Policies with opponents in a game of two teams."""

import torch
from tensordict import TensorDict

from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.training.policies.policy import learning_groups
from masac.training.policies.saved_policy import make_policy
from tests.training.policies.common import pettingzoo, untrained

TUG = pettingzoo(factory="tests.envs.two_teams:tug")


def policy_of(task, **training):
    """A policy with opponents, its config, and the groups of its task."""
    env = make_env(task, num_envs=1, seed=0)
    groups = read_groups(env)
    env.close(raise_if_closed=False)
    _, config = untrained(task, **training)
    learning = learning_groups(groups, None, config.training.opponents)
    return make_policy(groups, learning, config), config, groups


def state(groups, batch=5):
    generator = torch.Generator().manual_seed(1)
    seen = {
        group.name: {
            "observation": torch.randn(batch, group.n_agents, group.observation_dim, generator=generator),
        }
        for group in groups
    }
    return TensorDict(seen, [batch])
