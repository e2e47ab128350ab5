"""The config of one rank: counts in the run's config are totals that the ranks divide."""

from __future__ import annotations

from dataclasses import replace

from masac.errors import check
from masac.training.config import ExperimentConfig
from masac.training.distributed.ranks import Rank


def rank_config(config: ExperimentConfig, rank: Rank) -> ExperimentConfig:
    """The config of one rank, with its part of the environments, the batch and the replay buffer.

    Frames, the warm-up and updates stay totals over all ranks.

    Raises:
        ConfigError: for a total that is not a multiple of the number of ranks.
    """
    ranks = rank.world_size
    for name, value in (
        ("task.num_envs", config.task.num_envs),
        ("training.batch_size", config.training.batch_size),
        ("training.buffer_size", config.training.buffer_size),
    ):
        check(name, value, value % ranks == 0, f"be a multiple of {ranks}, the number of ranks")
    kind = config.collector.kind
    check("collector.kind", kind, ranks == 1 or kind == "local", "be local with several ranks (torchrun)")
    workers = config.task.num_workers
    check("task.num_workers", workers, workers % ranks == 0, f"be a multiple of {ranks}, the number of ranks")
    task = replace(config.task, num_envs=config.task.num_envs // ranks, num_workers=workers // ranks)
    training = replace(
        config.training,
        batch_size=config.training.batch_size // ranks,
        buffer_size=config.training.buffer_size // ranks,
    )
    return replace(config, task=task, training=training)
