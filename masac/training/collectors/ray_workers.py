"""Workers as Ray's actors, on this machine or many. Ray is imported where it is used: it is an extra."""

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
from masac.envs.parallel_env import SECONDS_TO_CLOSE
from masac.errors import ConfigError, RunFailedError
from masac.process.tracebacks import MOST_CHARACTERS, report_of
from masac.training.collectors.messages import Arrays, Failure, Part, Request, WorkerDiedError
from masac.training.collectors.remote import Engine, Handle
from masac.training.collectors.worker import CollectorWorker, WorkerSettings

SECONDS_TO_ANSWER = 40.0
"""How long a cluster may take to say that it is there."""

SECONDS_TO_START = 300.0
"""How long a cluster may take to find a place for an actor and start it there."""


class RayWorker:
    """What an actor is.

    Args:
        settings: what its worker is made from.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._worker = CollectorWorker(settings)

    def pid(self) -> int:
        """Its process: there is one, once this returns."""
        return os.getpid()

    def answer(self, request: Request, weights: list[Any]) -> Part | Failure:
        """Collect a part.

        Args:
            request: which.
            weights: a reference to them, in a list: Ray would fetch them every time.
        """
        import ray

        arrays: Any = ray.get(weights[0]) if self._worker.needs(request.version) else None
        return self._worker.answer(request, arrays)

    def close(self) -> None:
        """Close the environments."""
        self._worker.close()


class RayHandle(Handle):
    """An actor.

    Args:
        index: which worker.
        settings: what it is made from.

    Attributes:
        pid: of its process, once it has answered.
    """

    def __init__(self, index: int, settings: WorkerSettings) -> None:
        import ray

        # Ray would restart actors by itself, but repeat what they did with the same random numbers and older weights.
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
        except (RayActorError, ObjectLostError, OutOfMemoryError) as error:  # an actor, a machine, memory is gone
            raise WorkerDiedError(f"process {self.pid or 'not started yet'}: {_first_line(error)}") from None
        except RayTaskError as error:
            return Failure(request=request, report=report_of(error))

    def _wait_for_start(self) -> int:
        import ray

        ready, _ = ray.wait([self._started], timeout=SECONDS_TO_START)
        if not ready:
            raise RunFailedError(
                f"a Ray cluster must have a free CPU for every collector; collector {self.index} found none for "
                f"{SECONDS_TO_START:.0f} s. The cluster has {ray.cluster_resources()}, free are "
                f"{ray.available_resources()}. Lower collector.num_workers, or add machines"
            )
        return ray.get(self._started)


class RayActors(Engine):
    """Runs workers as actors; weights go through Ray's object store, once a push and machine.

    Args:
        settings: what workers are made from.
        num_workers: how many a local Ray has to have room for.
        address: of a cluster that runs; None to start Ray here, and end it with the run. A Ray that the program is
            connected to already is used, and left as it is.
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
        """End actors, all at once."""
        if not handles:
            return
        import ray

        actors = [handle.actor for handle in handles if isinstance(handle, RayHandle)]
        ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=SECONDS_TO_CLOSE)
        for actor in actors:
            ray.kill(actor)

    def close(self) -> None:
        """Leave the cluster; end it if it was started here."""
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
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it sends nothing anywhere
                cpus = max(self.num_workers, os.cpu_count() or 1)
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                try:
                    ray.init(address=self.address, **quiet)
                except (ConnectionError, ValueError) as error:
                    raise ConfigError(
                        f"collector.address must be that of a Ray cluster that runs; got {self.address!r}: "
                        f"{_first_line(error)} Start one with ray start --head, or leave collector.address=null to "
                        "have one started here"
                    ) from None
        self._unmute = mute_ray()
        self._mine = True


def check_cluster(address: str) -> None:
    """Raise ConfigError unless a Ray cluster answers at ``address``: Ray itself would ask it again and again.

    Args:
        address: host:port. Others (auto, local, ray://host:port) are left to Ray, as is everything where the program
            is connected to one already.
    """
    import ray

    if address in ("auto", "local") or "://" in address or ray.is_initialized():
        return
    fault = _fault(address)
    if fault is None:
        return
    if "AuthToken" in fault or "AuthenticationError" in fault:
        raise ConfigError(
            f"collector.address must be that of a Ray cluster that lets this run in; the one at {address!r} asks for "
            "a token. Set RAY_AUTH_MODE=token here, with the ~/.ray/auth_token of the machine that started it, or "
            "start it with RAY_AUTH_MODE=disabled in a network of your own"
        )
    raise ConfigError(
        f"collector.address must be that of a Ray cluster that runs; none answers at {address!r}. Start one with "
        f"ray start --head --port={address.rpartition(':')[2]}, or leave collector.address=null to have one "
        "started here"
    )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER / 4).close()
    except (OSError, ValueError):
        return False
    return True


def _fault(address: str) -> str | None:
    """What keeps Ray from answering at an address; asked by another process, which can be ended."""
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
    """Raise ConfigError if Ray is not installed, or not there at an address.

    Args:
        address: of a cluster that runs.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "collector=ray must have the package ray, which is not installed. Install it with pip install "
            '"masac[ray]", or use collector=processes, which needs nothing more'
        )
    if address is not None:
        check_cluster(address)


def _first_line(error: Exception) -> str:
    """What Ray says in a line: the reason, where it gives one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((one for one in lines if "because" in one), lines[0] if lines else type(error).__name__)
    return line[:MOST_CHARACTERS]


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Ray draws names and ports of Python's, and as many as it needs: a run would not be repeatable."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray's are not wanted: a run decides how it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
