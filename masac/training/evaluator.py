"""Evaluation in training: when, and on which episodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from masac.envs.registry import make_env
from masac.training.config import ExperimentConfig
from masac.training.episodes import Evaluation, evaluate
from masac.training.policy import Policy


class Evaluator:
    """Evaluates a policy, always on the same episodes.

    Args:
        config: the run; its evaluation environments are made here.
        device: where they are.
    """

    def __init__(self, config: ExperimentConfig, *, device: str) -> None:
        self.config = config
        task, episodes = config.task, config.evaluation.episodes
        shares = task.num_workers > 0 and episodes % task.num_workers == 0
        self.env = make_env(
            task if shares else replace(task, num_workers=0),
            num_envs=episodes,
            seed=config.evaluation.seed,
            device=device,
            one_episode=True,
        )

    def due(self, before: int, frames: int) -> bool:
        """Whether a multiple of ``evaluation.every_frames`` lies between what was collected before and now."""
        every = self.config.evaluation.every_frames
        return every > 0 and frames // every > before // every

    def evaluate(self, policy: Policy, *, random_groups: Collection[str] = ()) -> Evaluation:
        """Run the episodes.

        Args:
            policy: acts.
            random_groups: groups that act uniformly at random instead.
        """
        before = policy.random_groups
        policy.random_groups = frozenset(random_groups)
        try:
            return evaluate(
                policy,
                self.env,
                seed=self.config.evaluation.seed,
                success=self.config.task.success,
                stochastic=self.config.evaluation.stochastic,
            )
        finally:
            policy.random_groups = before

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        if not self.env.is_closed:
            self.env.close(raise_if_closed=False)
