"""Collecting in other processes, some of which may die."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tensordict import TensorDictBase

from masac.errors import RunFailedError
from masac.training.collectors.base import Collector
from masac.training.collectors.config import CollectorConfig
from masac.training.collectors.messages import (
    Arrays,
    Failure,
    Part,
    Request,
    WorkerDiedError,
    join_parts,
    read_weights,
)
from masac.training.policies.policy import Policy


class Handle(ABC):
    """The collector's side of a worker."""

    @abstractmethod
    def submit(self, request: Request, weights: object) -> None:
        """Send a request without waiting for the answer. If the worker died, :meth:`take` raises.

        Args:
            request: for a part.
            weights: the result of :meth:`Engine.publish` for its version.
        """

    @abstractmethod
    def take(self) -> Part | Failure:
        """Wait for the oldest pending answer.

        Raises:
            WorkerDiedError: if the worker died before it.
        """


class Engine(ABC):
    """Runs workers."""

    @abstractmethod
    def start(self, index: int) -> Handle:
        """Start a worker in its own process.

        Args:
            index: of the worker.
        """

    @abstractmethod
    def publish(self, weights: Arrays) -> object:
        """Make weights available to all workers; returns the argument of :meth:`Handle.submit`."""

    @abstractmethod
    def end(self, handles: Sequence[Handle]) -> None:
        """End workers, dead or alive, and the processes that they started."""

    def close(self) -> None:  # noqa: B027  not every engine needs it
        """Release what the engine started."""


class RemoteCollector(Collector):
    """Collects with workers, each with an equal share of the environments, and replaces workers that die.

    A batch has one part per worker, in the order of the workers, so the data depends on seeds and weights, not on
    timing. Every worker has ``max_lag`` requests queued beyond the current batch, so all work while the policy learns.
    A part is collected with the weights that were newest when it was requested, so a batch is at most ``max_lag``
    pushes behind.

    A part is used completely or not at all. When the process of a worker dies, a new worker with new random numbers and
    episodes takes its place and gets the requests that were not answered. An exception would be raised again, so it
    ends the run.

    The workers run masac's :class:`~masac.training.collectors.local.LocalCollector`. TorchRL's multi-process and Ray
    collectors return the same data, but end with the first worker that dies, do not report which version of the weights
    a batch was collected with, and update parameters only, not which groups act at random.

    Args:
        config: number of workers, and how far they may be behind.
        engine: runs the workers.
        policy: acts; workers get its weights, normalizers and random groups.
        num_envs: the environments of all workers.
        seed: of all random numbers in the first worker, from which the seeds of the others are derived.
        device: of the batches.
        warn: prints a warning about a worker that died.
    """

    def __init__(
        self,
        config: CollectorConfig,
        engine: Engine,
        policy: Policy,
        *,
        num_envs: int,
        seed: int,
        device: str = "cpu",
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.config, self.engine, self.policy = config, engine, policy
        self.num_envs, self.device = num_envs, device
        self.restarts = self.updates = 0
        self._warn = warn
        self._seed = seed
        self._handles: list[Handle] = []
        self._asked: list[deque[Request]] = [deque() for _ in range(config.num_workers)]
        self._incarnations = [0] * config.num_workers
        self._begins = [True] * config.num_workers
        self._tickets = 0
        self._version = -1
        self._weights: object = None
        self._pushed: tuple[int, frozenset[str]] | None = None  # updates, random groups
        self._lag = self._lag_updates = 0

    def collect(self) -> TensorDictBase:
        """The next batch, ``[environments, steps]``."""
        for worker in range(len(self._handles), self.config.num_workers):
            self._handles.append(self.engine.start(worker))  # one by one: if one fails, close() ends those before it
        if self._push_is_due():
            self._push()
        for worker, asked in enumerate(self._asked):
            while len(asked) <= self.config.max_lag:
                self._ask(worker)
        self.restarted = ()
        parts = [self._take(worker) for worker in range(self.config.num_workers)]
        self._lag = self._version - min(part.request.version for part in parts)
        self._lag_updates = self.updates - min(part.request.updates for part in parts)
        return join_parts(parts).to(self.device)

    def reset(self, seed: int | None = None) -> None:
        """Begin new episodes in all environments with the newest weights; pending parts are discarded."""
        if seed is None:
            self._incarnations = [incarnation + 1 for incarnation in self._incarnations]
        else:
            self._seed, self._incarnations = seed, [0] * len(self._incarnations)
        self._begins = [True] * len(self._begins)
        self._pushed = None
        for asked in self._asked:
            asked.clear()

    def updated(self, count: int) -> None:
        """Note that the policy changed; its weights are pushed with the next batch."""
        self.updates += count

    def numbers(self) -> Mapping[str, float | int | None]:
        """By how many pushes and updates the newest batch is behind, and the number of workers replaced so far."""
        return {
            "collect/policy_lag": self._lag,
            "collect/policy_lag_updates": self._lag_updates,
            "collect/restarts": self.restarts,
        }

    def close(self) -> None:
        """End the workers and the engine."""
        handles, self._handles = self._handles, []
        self.engine.end(handles)
        self.engine.close()

    # -- weights ------------------------------------------------------------------------------------------------------

    def _push_is_due(self) -> bool:
        if self._pushed is None:
            return True
        updates, random_groups = self._pushed
        return self.updates - updates >= self.config.push_every or random_groups != self.policy.random_groups

    def _push(self) -> None:
        self._weights = self.engine.publish(read_weights(self.policy))
        self._version += 1
        self._pushed = self.updates, self.policy.random_groups

    # -- parts --------------------------------------------------------------------------------------------------------

    def _ask(self, worker: int) -> None:
        """Request a part with the newest weights from a worker."""
        assert self._pushed is not None
        updates, random_groups = self._pushed
        seed = worker_seed(self._seed, worker, self._incarnations[worker]) if self._begins[worker] else None
        self._begins[worker] = False
        request = Request(
            ticket=self._tickets, version=self._version, updates=updates, random_groups=random_groups, seed=seed
        )
        self._tickets += 1
        self._asked[worker].append(request)
        self._handles[worker].submit(request, self._weights)

    def _take(self, worker: int) -> Part:
        """The oldest requested part of a worker, or of its replacement."""
        while True:
            try:
                answer = self._handles[worker].take()
            except WorkerDiedError as error:
                self._replace(worker, error)
                continue
            if isinstance(answer, Failure):
                raise answer.report.as_error(
                    f"in worker {worker}", "To debug it, step environments in this process with collector=local."
                )
            if answer.request.ticket == self._asked[worker][0].ticket:  # otherwise it was requested before a reset
                self._asked[worker].popleft()
                return answer

    def _replace(self, worker: int, error: WorkerDiedError) -> None:
        """Replace a worker that died, and request its missing parts again."""
        self.restarts += 1
        if self.restarts > self.config.max_restarts:
            raise RunFailedError(
                f"workers must not die more than collector.max_restarts={self.config.max_restarts} times; worker "
                f"{worker} of {self.config.num_workers} died: {error}. Find the cause (out of memory?), or allow "
                "more with collector.max_restarts=..."
            ) from None
        self._warn(
            f"worker {worker} of {self.config.num_workers} died ({error}); a new one replaces it (restart "
            f"{self.restarts} of at most {self.config.max_restarts})"
        )
        self.engine.end([self._handles[worker]])
        self._handles[worker] = self.engine.start(worker)
        self._incarnations[worker] += 1
        self._begins[worker] = True
        share = self.num_envs // self.config.num_workers
        self.restarted += tuple(range(worker * share, (worker + 1) * share))
        lost = len(self._asked[worker])
        self._asked[worker].clear()
        for _ in range(lost):
            self._ask(worker)


def worker_seed(seed: int, worker: int, incarnation: int) -> int:
    """The seed of a worker. The first worker has the seed of the run, so alone it collects the same as one process.

    Args:
        seed: of the run.
        worker: its index.
        incarnation: number of workers that it replaces.
    """
    if worker == incarnation == 0:
        return seed
    return int(np.random.SeedSequence([seed, worker, incarnation]).generate_state(1)[0] % 2**31)
