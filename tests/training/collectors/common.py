"""Runs small enough for processes, and what tests ask of them."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
from rich.console import Console

from masac.envs.config import TaskConfig
from masac.networks.config import ModelConfig
from masac.training.collectors.config import CollectorConfig
from masac.training.collectors.make import make_collector, make_environments
from masac.training.config import EvaluationConfig, ExperimentConfig, LoggingConfig, TrainingConfig
from masac.training.policies.policy import learning_groups
from masac.training.policies.saved_policy import make_policy

QUIET = Console(quiet=True)
NAVIGATION = TaskConfig(kwargs={"n_agents": 2}, num_envs=4, horizon=5)
SCRIPTED = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", num_envs=4, horizon=None)
TAGGED = TaskConfig(
    suite="pettingzoo", scenario=None, factory="tests.training.collectors.tagged:make", num_envs=4, horizon=7
)
WITH_RAY = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is missing")]


def experiment(task=NAVIGATION, kind="processes", *, workers=2, seed=3, training=None, **collector):
    training = {
        "total_frames": 256,
        "warmup_frames": 64,
        "updates_per_frame": 1 / 8,
        "batch_size": 32,
        "buffer_size": 1000,
        "final_lr_factor": 1.0,
        "normalize_observations": True,
        "compile": "false",
        **(training or {}),
    }
    return ExperimentConfig(
        task=task,
        model=ModelConfig(hidden=(8,)),
        training=TrainingConfig(**training),
        collector=CollectorConfig(kind=kind, num_workers=workers, **collector),
        evaluation=EvaluationConfig(every_frames=0, episodes=2),
        logging=LoggingConfig(progress="off", loggers=()),
        seed=seed,
    )


def groups_and_policy(config):
    env = make_environments(replace(config, collector=CollectorConfig()), seed=0, device="cpu")
    from masac.groups import read_groups

    groups = read_groups(env)
    return env, make_policy(groups, learning_groups(groups, None), config)


def collector_of(config, policy, **more):
    env = make_environments(config, seed=config.seed, device="cpu")
    return make_collector(config, env, policy, seed=config.seed, device="cpu", **more)


def pid_of(handle):
    """The process of a worker that has answered."""
    return handle.process.pid if hasattr(handle, "process") else handle.pid
