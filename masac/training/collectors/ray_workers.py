"""Workers as Ray actors, on one or many machines. Ray is imported where it is used, as it is an extra."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from masac.compat import mute_ray
from masac.errors import ConfigError, RunFailedError
from masac.process.child_processes import SECONDS_TO_CLOSE
from masac.process.tracebacks import MOST_CHARACTERS, report_of
from masac.training.collectors.messages import Arrays, Failure, Part, Request, WorkerDiedError
from masac.training.collectors.remote import Engine, Handle
from masac.training.collectors.worker import CollectorWorker, WorkerSettings

SECONDS_TO_ANSWER = 40.0
"""How long a cluster may take to answer."""

SECONDS_TO_START = 300.0
"""How long a cluster may take to place and start an actor."""


class RayWorker:
    """The class of the actors.

    Args:
        settings: of the worker.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._worker = CollectorWorker(settings)

    def pid(self) -> int:
        """The id of its process; returns when the process has started."""
        return os.getpid()

    def answer(self, request: Request, weights: list[Any]) -> Part | Failure:
        """Collect a part.

        Args:
            request: for the part.
            weights: a reference to them, in a list so that Ray does not fetch them at every call.
        """
        import ray

        arrays: Any = ray.get(weights[0]) if self._worker.needs(request.version) else None
        return self._worker.answer(request, arrays)

    def close(self) -> None:
        """Close the environments."""
        self._worker.close()


class RayHandle(Handle):
    """A worker in a Ray actor.

    Args:
        index: of the worker.
        settings: of the worker.

    Attributes:
        pid: of its process; None before the first answer.
    """

    def __init__(self, index: int, settings: WorkerSettings) -> None:
        import ray

        # Ray itself would restart actors with their old random numbers and weights.
        make = ray.remote(RayWorker).options(num_cpus=1, max_restarts=0, max_task_retries=0)
        self.index = index
        self.actor: Any = make.remote(settings)
        self.pid: int | None = None
        self._started = self.actor.pid.remote()
        self._answers: deque[tuple[Request, Any]] = deque()

    def submit(self, request: Request, weights: object) -> None:
        """Queue a request."""
        self._answers.append((request, self.actor.answer.remote(request, [weights])))

    def take(self) -> Part | Failure:
        """Wait for the oldest answer."""
        import ray
        from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError

        request, answer = self._answers.popleft()
        try:
            if self.pid is None:
                self.pid = self._wait_for_start()
            return ray.get(answer)
        except (RayActorError, ObjectLostError, OutOfMemoryError) as error:  # an actor or a machine is lost
            raise WorkerDiedError(f"process {self.pid or 'not started yet'}: {_first_line(error)}") from None
        except RayTaskError as error:
            return Failure(request=request, report=report_of(error))

    def _wait_for_start(self) -> int:
        import ray

        ready, _ = ray.wait([self._started], timeout=SECONDS_TO_START)
        if not ready:
            raise RunFailedError(
                f"a Ray cluster must have a free CPU per worker; worker {self.index} got none for "
                f"{SECONDS_TO_START:.0f} s. The cluster has {ray.cluster_resources()}, of which are free "
                f"{ray.available_resources()}. Lower collector.num_workers, or add machines"
            )
        return ray.get(self._started)


class RayActors(Engine):
    """Runs workers as actors; weights go through Ray's object store, once per push and machine.

    Args:
        settings: of the workers.
        num_workers: CPUs that a local Ray must have.
        address: of a running cluster; None starts Ray here and ends it with the run. If the program is already
            connected to Ray, that connection is used and left open.
    """

    def __init__(self, settings: WorkerSettings, *, num_workers: int, address: str | None) -> None:
        self.settings, self.num_workers, self.address = settings, num_workers, address
        self._mine = False
        self._unmute: Callable[[], None] = lambda: None

    def start(self, index: int) -> RayHandle:
        """Start an actor."""
        import ray

        if not ray.is_initialized():
            self._connect()
        return RayHandle(index, self.settings)

    def publish(self, weights: Arrays) -> object:
        """Put weights into the object store."""
        import ray

        return ray.put(weights)

    def end(self, handles: Sequence[Handle]) -> None:
        """End actors, all at the same time."""
        if not handles:
            return
        import ray

        actors = [handle.actor for handle in handles if isinstance(handle, RayHandle)]
        ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=SECONDS_TO_CLOSE)
        for actor in actors:
            ray.kill(actor)

    def close(self) -> None:
        """Disconnect from the cluster, and end it if it was started here."""
        if self._mine:
            import ray

            with _own_random_numbers():
                ray.shutdown()
            self._unmute()
            self._mine = False

    def _connect(self) -> None:
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        with _own_signal_handlers(), _own_random_numbers():
            if self.address is None:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
                cpus = max(self.num_workers, os.cpu_count() or 1)
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                try:
                    ray.init(address=self.address, **quiet)
                except (ConnectionError, ValueError) as error:
                    raise ConfigError(
                        f"collector.address must be the address of a running Ray cluster; got {self.address!r}: "
                        f"{_first_line(error)} Start one with ray start --head, or set collector.address=null to start "
                        "one here"
                    ) from None
        self._unmute = mute_ray()
        self._mine = True


def check_cluster(address: str) -> None:
    """Raise ConfigError unless a Ray cluster answers at ``address``; Ray itself would try again for minutes.

    Args:
        address: host:port. Other forms (auto, local, ray://host:port) are left to Ray, as is everything if the program
            is already connected to Ray.
    """
    import ray

    if address in ("auto", "local") or "://" in address or ray.is_initialized():
        return
    fault = _fault(address)
    if fault is None:
        return
    if "AuthToken" in fault or "AuthenticationError" in fault:
        raise ConfigError(
            f"collector.address must be the address of a Ray cluster that accepts this run; the one at {address!r} "
            "asks for a token. Set RAY_AUTH_MODE=token here, with the ~/.ray/auth_token of the machine that started "
            "it, or start it with RAY_AUTH_MODE=disabled in a private network"
        )
    raise ConfigError(
        f"collector.address must be the address of a running Ray cluster; none answers at {address!r}. Start one with "
        f"ray start --head --port={address.rpartition(':')[2]}, or set collector.address=null to start one here"
    )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER / 4).close()
    except (OSError, ValueError):
        return False
    return True


def _fault(address: str) -> str | None:
    """Why Ray does not answer at an address; None if it does. Another process asks, as it can be killed."""
    if not _listens(address):
        return "nothing listens there"
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except subprocess.TimeoutExpired as late:
        return _text(late.stdout) + _text(late.stderr)
    return None if done.returncode == 0 else done.stdout + done.stderr


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def check_ray(address: str | None = None) -> None:
    """Raise ConfigError if Ray is not installed, or does not run at an address.

    Args:
        address: of a running cluster; None for none.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "collector=ray must have the package ray, which is not installed. Install it with pip install "
            '"masac[ray]", or use collector=processes, which needs no extra package'
        )
    if address is not None:
        check_cluster(address)


def _first_line(error: Exception) -> str:
    """The line of a Ray error that gives the reason, or else the first one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((one for one in lines if "because" in one), lines[0] if lines else type(error).__name__)
    return line[:MOST_CHARACTERS]


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Restore Python's random state: Ray draws from it, which would make runs irreproducible."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Restore our signal handlers after Ray has set its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
