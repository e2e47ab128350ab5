"""Small runs and groups, for tests of training."""

import csv

from rich.console import Console
from torchrl.data import Bounded

from masac.algorithm import AlgorithmConfig, make_actor, make_loss
from masac.envs.config import TaskConfig
from masac.groups import GroupSpec
from masac.networks.config import ModelConfig
from masac.training.config import EvaluationConfig, ExperimentConfig, LoggingConfig, TrainingConfig
from masac.training.trainer import Trainer
from tests.losses.common import A, F, N

QUIET = Console(quiet=True)
CENTRALIZED = AlgorithmConfig(name="masac", critic="centralized")


def tiny(**kwargs):
    training = {
        "total_frames": 256,
        "warmup_frames": 64,
        "batch_size": 32,
        "updates_per_frame": 1 / 8,
        "buffer_size": 1000,
        **kwargs.pop("training", {}),
    }
    kwargs.setdefault("algorithm", CENTRALIZED)
    task = {"scenario": "navigation", "kwargs": {"n_agents": 3}, "num_envs": 8, "horizon": 10, "success": "terminated"}
    return ExperimentConfig(
        task=TaskConfig(**{**task, **kwargs.pop("task", {})}),
        model=ModelConfig(**{"hidden": (16,), **kwargs.pop("model", {})}),
        training=TrainingConfig(**training),
        evaluation=EvaluationConfig(every_frames=100, episodes=4),
        logging=LoggingConfig(progress="off", loggers=kwargs.pop("loggers", ())),
        **kwargs,
    )


def run(config, path):
    return Trainer(config, path, console=QUIET).run().summary


def rows(path):
    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(table):
    """Rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if not key.endswith(("_s", "_per_second"))} for row in table]


GROUP = GroupSpec(
    name="agents",
    n_agents=N,
    observation_dim=F,
    action_spec=Bounded(-1, 1, (N, A)),
    discrete=None,
    has_action_mask=False,
)


SMALL = ModelConfig(hidden=(8,))


def small_loss():
    return make_loss({"agents": make_actor(GROUP, CENTRALIZED, SMALL)}, [GROUP], CENTRALIZED, SMALL)
