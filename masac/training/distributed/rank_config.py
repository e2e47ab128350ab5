"""What of a run is every rank's own: counts mean all ranks together, and are divided among them."""

from __future__ import annotations

from dataclasses import replace

from masac.errors import check
from masac.training.config import ExperimentConfig
from masac.training.distributed.ranks import Rank


def rank_config(config: ExperimentConfig, rank: Rank) -> ExperimentConfig:
    """The config of one rank: its part of the environments, of the batch and of the replay buffer.

    Frames, the warm-up and updates stay those of all ranks together.

    Raises:
        ConfigError: for a number that the ranks do not divide.
    """
    ranks = rank.world_size
    for name, value in (
        ("task.num_envs", config.task.num_envs),
        ("training.batch_size", config.training.batch_size),
        ("training.buffer_size", config.training.buffer_size),
    ):
        check(name, value, value % ranks == 0, f"be a multiple of {ranks}, the ranks that divide it among them")
    kind = config.collector.kind
    check("collector.kind", kind, ranks == 1 or kind == "local", "be local where there are several ranks (torchrun)")
    workers = config.task.num_workers
    check("task.num_workers", workers, workers % ranks == 0, f"be a multiple of {ranks}, the ranks that divide it")
    task = replace(config.task, num_envs=config.task.num_envs // ranks, num_workers=workers // ranks)
    training = replace(
        config.training,
        batch_size=config.training.batch_size // ranks,
        buffer_size=config.training.buffer_size // ranks,
    )
    return replace(config, task=task, training=training)
