"""Policies on disk and off it, untrained."""

from dataclasses import replace

import torch

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.networks.config import ModelConfig
from masac.training.config import ExperimentConfig
from masac.training.policies.saved_policy import make_policy, save_policy

NAVIGATION = TaskConfig(scenario="navigation", kwargs={"n_agents": 2}, num_envs=1, horizon=5)


def pettingzoo(scenario=None, *, factory=None, horizon=None, **kwargs):
    return TaskConfig(
        suite="pettingzoo", scenario=scenario, factory=factory, kwargs=kwargs, num_envs=1, horizon=horizon
    )


def untrained(task, *, model=None, **training):
    """An untrained policy for a task, and the config that goes with it."""
    config = ExperimentConfig(task=task, model=model or ModelConfig(hidden=(8,)))
    config = replace(config, training=replace(config.training, **training))
    env = make_env(task, num_envs=1, seed=0)
    groups = read_groups(env)
    env.close(raise_if_closed=False)
    torch.manual_seed(0)
    return make_policy(groups, groups, config).eval(), config


def save_run(folder, task, **training):
    """The folder of a run with an untrained policy."""
    policy, config = untrained(task, **training)
    folder.mkdir(parents=True, exist_ok=True)
    save_policy(folder / "policy.pt", policy, config, frames=0)
    return folder
