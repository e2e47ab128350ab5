"""A collector's worker: what runs in another process."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.process.tracebacks import report_of
from masac.training.checkpointing.random_state import seed_everything
from masac.training.collectors.local import LocalCollector
from masac.training.collectors.messages import Arrays, Failure, Part, Request, make_part, set_weights
from masac.training.config import ExperimentConfig
from masac.training.policies.policy import learning_groups
from masac.training.policies.saved_policy import make_policy


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker is made from.

    Args:
        config: the run.
        num_envs: the environments it steps.
    """

    config: ExperimentConfig
    num_envs: int


class CollectorWorker:
    """Collects parts of batches with environments and a policy of its own, on one core.

    Args:
        settings: what it is made from; made when the first part is asked for, so that what goes wrong is an answer.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._collector: LocalCollector | None = None
        self._version: int | None = None
        torch.set_num_threads(1)  # there are as many workers as there are cores for them
        torch.set_flush_denormal(True)  # as runs do

    def needs(self, version: int) -> bool:
        """Whether the weights of this version must come with a request for it."""
        return version != self._version

    def answer(self, request: Request, weights: Arrays | None) -> Part | Failure:
        """Collect a part.

        Args:
            request: which.
            weights: of its version, where the worker :meth:`needs` them.
        """
        try:
            collector = self._collector = self._collector or self._make()
            if weights is not None:
                set_weights(collector.policy, weights)
                self._version = request.version
            collector.policy.random_groups = request.random_groups
            if request.seed is not None:
                seed_everything(request.seed)
                collector.reset(request.seed)
            return make_part(request, collector.collect())
        except Exception as error:  # whatever an environment raises: to be raised where the run is
            return Failure(request=request, report=report_of(error))

    def close(self) -> None:
        """Close the environments."""
        if self._collector is not None:
            self._collector.close()

    def _make(self) -> LocalCollector:
        config = self.settings.config
        env = make_env(replace(config.task, num_workers=0), num_envs=self.settings.num_envs, seed=0)
        groups = read_groups(env)
        policy = make_policy(groups, learning_groups(groups, config.training.learning_groups), config)
        return LocalCollector(env, policy, steps=config.training.steps_per_iteration)
