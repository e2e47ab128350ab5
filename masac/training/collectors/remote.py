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
    """The near end of a worker."""

    @abstractmethod
    def submit(self, request: Request, weights: object) -> None:
        """Ask for a part without waiting for it; a worker that died is found out about by :meth:`take`.

        Args:
            request: which.
            weights: what :meth:`Engine.publish` returned for its version.
        """

    @abstractmethod
    def take(self) -> Part | Failure:
        """Wait for the oldest answer that was not taken.

        Raises:
            WorkerDiedError: if it will never come.
        """


class Engine(ABC):
    """What runs workers."""

    @abstractmethod
    def start(self, index: int) -> Handle:
        """Start a worker in a process of its own.

        Args:
            index: which.
        """

    @abstractmethod
    def publish(self, weights: Arrays) -> object:
        """Make weights available to all workers; returns what to submit."""

    @abstractmethod
    def end(self, handles: Sequence[Handle]) -> None:
        """End workers, dead or alive, and what they started."""

    def close(self) -> None:  # noqa: B027  there may be nothing
        """End what ran the workers."""


class RemoteCollector(Collector):
    """Lets workers collect, each with an equal share of the environments, and replaces those that die.

    A batch has a part of every worker, in their order, whoever comes first: what is collected depends on seeds and
    weights, not on time. Every worker has ``max_lag`` parts to do beyond the batch that is waited for, so that all work
    while the policy learns; a part acts with the newest weights there were when it was asked for. So a batch is never
    more than ``max_lag`` pushes behind.

    A part is used whole or not at all. When the process of a worker dies, its parts that did not arrive are asked for
    again, of another worker in its place with random numbers and episodes of its own; those that did arrive are not.
    An exception, in contrast, would come again: it ends the run.

    The workers run masac's :class:`~masac.training.collectors.local.LocalCollector`. TorchRL's multi-process and Ray
    collectors return the same data, but end with the first worker that dies, do not say with which weights a batch was
    collected, and update parameters only, not which groups act at random.

    Args:
        config: how many workers, and how far they may be behind.
        engine: what runs them.
        policy: acts; workers get its weights, normalizers and random groups.
        num_envs: the environments of all workers.
        seed: of everything random in the first worker, from which the others' follow.
        device: where batches go.
        warn: is told of workers that died.
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
            self._handles.append(self.engine.start(worker))  # one by one: close() ends those before one that fails
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
        """Begin new episodes in all environments; what was being collected is lost, and the newest weights act."""
        if seed is None:
            self._incarnations = [incarnation + 1 for incarnation in self._incarnations]
        else:
            self._seed, self._incarnations = seed, [0] * len(self._incarnations)
        self._begins = [True] * len(self._begins)
        self._pushed = None
        for asked in self._asked:
            asked.clear()

    def updated(self, count: int) -> None:
        """Be told that so many updates were applied; they are pushed when the next batch is collected."""
        self.updates += count

    def numbers(self) -> Mapping[str, float | int | None]:
        """How many pushes and updates the newest batch is behind, and how many workers were replaced so far."""
        return {
            "collect/policy_lag": self._lag,
            "collect/policy_lag_updates": self._lag_updates,
            "collect/restarts": self.restarts,
        }

    def close(self) -> None:
        """End the workers and what runs them."""
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
        """Ask a worker for a part with the newest weights."""
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
        """The oldest part that was asked of a worker, or of the one in its place."""
        while True:
            try:
                answer = self._handles[worker].take()
            except WorkerDiedError as error:
                self._replace(worker, error)
                continue
            if isinstance(answer, Failure):
                raise answer.report.as_error(
                    f"in collector {worker}", "With collector=local they are stepped in this process, for a debugger."
                )
            if answer.request.ticket == self._asked[worker][0].ticket:  # others were asked for before a reset
                self._asked[worker].popleft()
                return answer

    def _replace(self, worker: int, error: WorkerDiedError) -> None:
        """Put another worker in the place of one that died, and ask it for what the other did not deliver."""
        self.restarts += 1
        if self.restarts > self.config.max_restarts:
            raise RunFailedError(
                f"collectors must not die more than collector.max_restarts={self.config.max_restarts} times; collector "
                f"{worker} of {self.config.num_workers} did once more: {error}. Look for what ends them (memory?), or "
                "allow more with collector.max_restarts=..."
            ) from None
        self._warn(
            f"collector {worker} of {self.config.num_workers} died ({error}); another takes its place (restart "
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
    """A seed of a worker's own: the first one's is that of the run, so that alone it collects what the run would.

    Args:
        seed: of the run.
        worker: its index.
        incarnation: how many workers were in its place before.
    """
    if worker == incarnation == 0:
        return seed
    return int(np.random.SeedSequence([seed, worker, incarnation]).generate_state(1)[0] % 2**31)
