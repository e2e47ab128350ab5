"""Evaluation in training: when, and on which episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from torch import Tensor

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.process.stop_signals import StoppedBySignal, StopRequest
from masac.training.config import ExperimentConfig
from masac.training.episodes import Evaluation, evaluate
from masac.training.policies.policy import Policy

STEPS_WITHOUT_HORIZON = 1_000
"""After which an episode is cut in evaluations and videos, where neither a horizon nor the environment ends it."""

SECONDS_OF_SILENCE = 10.0


class Evaluator:
    """Evaluates a policy, always on the same episodes.

    Args:
        config: the run; its evaluation environments are made here.
        device: where they are.
        say: prints a line.
    """

    def __init__(
        self, config: ExperimentConfig, *, device: str, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.config = config
        self.say = say
        self._said_of_limit = False
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

    def evaluate(
        self, policy: Policy, *, random_groups: Collection[str] = (), stop: StopRequest | None = None
    ) -> Evaluation:
        """Run the episodes.

        Args:
            policy: acts.
            random_groups: groups that act uniformly at random instead.
            stop: ends it between two steps.

        Raises:
            StoppedBySignal: if that asks for it.
        """
        before = policy.random_groups
        policy.random_groups = frozenset(random_groups)
        try:
            found = evaluate(
                policy,
                self.env,
                seed=self.config.evaluation.seed,
                success=self.config.task.success,
                stochastic=self.config.evaluation.stochastic,
                max_steps=step_limit(self.config.task),
                after_step=EvaluationProgress(self.say, stop),
            )
        finally:
            policy.random_groups = before
        if found.unfinished and not self._said_of_limit:
            self._said_of_limit = True
            self.say(f"warning: {said_of_limit(found)}")
        return found

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        if not self.env.is_closed:
            self.env.close(raise_if_closed=False)


class EvaluationProgress:
    """Says now and then how far an evaluation is, and ends it when somebody asks for that.

    Args:
        say: prints a line.
        stop: who asks.
    """

    def __init__(self, say: Callable[[str], None], stop: StopRequest | None = None) -> None:
        self.say = say
        self.stop = stop
        self._said = time.monotonic()

    def __call__(self, steps: int, running: Tensor) -> None:
        """Be told of a step.

        Args:
            steps: so far.
            running: which episodes are not over, bool.
        """
        if self.stop is not None and self.stop.number is not None:
            raise StoppedBySignal(self.stop.number)
        if (now := time.monotonic()) - self._said > SECONDS_OF_SILENCE:
            self._said = now
            over, episodes = int((~running).sum()), running.numel()
            self.say(f"evaluating: {steps:,} steps, {over:,} of {episodes:,} episodes are over")


def step_limit(task: TaskConfig) -> int | None:
    """Steps after which an episode is cut by those who watch it; None where the task has a horizon."""
    return STEPS_WITHOUT_HORIZON if task.horizon is None else None


def said_of_limit(evaluation: Evaluation) -> str:
    """What to say of episodes that were cut."""
    return (
        f"{evaluation.unfinished} of {len(evaluation.lengths)} evaluation episodes had no end and were cut after "
        f"{int(evaluation.lengths.max()):,} steps. Where the environment does not end episodes itself, set "
        "task.horizon=..., also to go on with --resume"
    )
