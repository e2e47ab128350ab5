"""The worker of a collector, which runs in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.process.tracebacks import report_of
from masac.training.checkpointing.random_state import seed_everything
from masac.training.collectors.local import LocalCollector
from masac.training.collectors.messages import Arrays, Failure, Part, Request, make_part, set_weights
from masac.training.config import ExperimentConfig
from masac.training.policies.policy import learning_groups
from masac.training.policies.policy_files import PolicyFile
from masac.training.policies.saved_policy import make_policy


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The settings of a worker.

    Args:
        config: of the run.
        num_envs: number of environments that it steps.
        frozen: the policies of other runs that act for groups.
    """

    config: ExperimentConfig
    num_envs: int
    frozen: Mapping[str, PolicyFile] = field(default_factory=dict)


class CollectorWorker:
    """Collects parts of batches with its own environments and policy, on one core.

    Args:
        settings: of the worker. Environments and policy are made at the first request, so that errors are returned as
            results.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._collector: LocalCollector | None = None
        self._version: int | None = None
        torch.set_num_threads(1)  # one core per worker
        torch.set_flush_denormal(True)  # as runs do

    def needs(self, version: int) -> bool:
        """Whether a request with this version must come with its weights."""
        return version != self._version

    def answer(self, request: Request, weights: Arrays | None) -> Part | Failure:
        """Collect a part.

        Args:
            request: for the part.
            weights: of its version, if the worker :meth:`needs` them.
        """
        try:
            if request.seed is not None:
                seed_everything(request.seed)
            collector = self._collector = self._collector or self._make()
            if weights is not None:
                set_weights(collector.policy, weights)
                self._version = request.version
            collector.policy.random_groups = request.random_groups
            if request.seed is not None:
                seed_everything(request.seed)
                collector.reset(request.seed)
            return make_part(request, collector.collect())
        except Exception as error:  # raised again in the process of the run
            return Failure(request=request, report=report_of(error))

    def close(self) -> None:
        """Close the environments."""
        if self._collector is not None:
            self._collector.close()

    def _make(self) -> LocalCollector:
        config = self.settings.config
        env = make_env(replace(config.task, num_workers=0), num_envs=self.settings.num_envs, seed=0)
        groups = read_groups(env)
        learning = learning_groups(groups, config.training.learning_groups, config.training.opponents)
        policy = make_policy(groups, learning, config, frozen=self.settings.frozen)
        return LocalCollector(env, policy, steps=config.training.steps_per_iteration)
