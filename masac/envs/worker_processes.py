"""Environments in processes of their own, which write into memory that all processes share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_byte
from multiprocessing.connection import Connection
from typing import Any

from masac.envs.arrays import Arrays
from masac.envs.episode import Episode
from masac.envs.single_environment import EnvironmentSpecs, SingleEnvironment
from masac.envs.vector_env import EpisodeStepper
from masac.errors import RunFailedError
from masac.process.child_processes import SECONDS_TO_CLOSE, children_without_signals, ignore_signals
from masac.process.tracebacks import ErrorReport, report_of

HINT = "To debug it, set task.num_workers=0, which steps environments in this process."

STEP, STEP_AND_RESET, BEGIN, CLOSE = b"step", b"step and reset", b"begin", b"close"
"""The requests to a worker, each answered by None or an error report."""


class WorkerProcesses:
    """Steps environments in W processes, each E / W of them.

    - All entries are in shared memory; a request and its answer are a few bytes.
    - An exception in a worker is raised here as a :class:`~masac.errors.RunFailedError` with the worker's traceback.
    - Workers ignore Ctrl-C, SIGTERM and SIGHUP, which reach whole process groups: this process decides how a run ends.
      They end when it ends, however it ends.

    Args:
        num_workers: W, which divides E.
        make: makes one environment, in the worker.
        specs: of one environment.
        num_envs: E.
        horizon: of their episodes.
        rests: whether environments rest once their episode is over (:class:`~masac.envs.episode.Episode`).

    Attributes:
        arrays: the entries of all environments.
        processes: the workers.

    Raises:
        RunFailedError: if an environment cannot be made in a worker.
    """

    def __init__(
        self,
        num_workers: int,
        make: Callable[[], SingleEnvironment],
        *,
        specs: EnvironmentSpecs,
        num_envs: int,
        horizon: int | None,
        rests: bool,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        layout = (specs, num_envs, horizon is not None)
        memory = context.RawArray(c_byte, Arrays.size(specs, num_envs, counts_steps=horizon is not None))
        self.arrays = Arrays(specs, num_envs, counts_steps=horizon is not None, memory=memory)
        self.processes: list[Any] = []
        self._connections: list[Connection] = []
        self._unanswered: list[int] = []  # requests, per worker
        each = num_envs // num_workers
        for index in range(num_workers):
            near, far = context.Pipe()
            arguments = (far, make, layout, memory, index * each, each, horizon, rests)
            process = context.Process(target=_serve, args=arguments, name=f"masac-environments-{index}", daemon=True)
            with children_without_signals():
                process.start()
            far.close()
            self.processes.append(process)
            self._connections.append(near)
            self._unanswered.append(1)  # it reports when its environments are made
        self._wait()

    def step(self, *, resets: bool) -> None:
        """Step all environments."""
        self._request(STEP_AND_RESET if resets else STEP)

    def begin(self) -> None:
        """Begin episodes where ``arrays.begins`` is True."""
        self._request(BEGIN)

    def close(self) -> None:
        """Stop the workers; a second call does nothing."""
        for connection in self._connections:
            with suppress(OSError, ValueError):  # it is gone
                connection.send_bytes(CLOSE)
        for process in self.processes:
            process.join(SECONDS_TO_CLOSE)
            if process.is_alive():
                process.kill()
                process.join()
        for connection in self._connections:
            connection.close()
        self._connections = []

    def _request(self, request: bytes) -> None:
        if not self._connections:
            raise RunFailedError("environments must be open to be stepped; got ones that were closed. Make others.")
        self._wait()  # for what an interrupt left unanswered
        for index, connection in enumerate(self._connections):
            with suppress(OSError):  # it is gone, as the answer will say
                connection.send_bytes(request)
            self._unanswered[index] += 1
        self._wait()

    def _wait(self) -> None:
        """Wait for the answers of all workers.

        Raises:
            RunFailedError: for an exception in a worker, or a worker that is gone.
        """
        failed: list[RunFailedError] = []
        for index in range(len(self.processes)):
            while self._unanswered[index]:
                report = self._answer(index)
                self._unanswered[index] = self._unanswered[index] - 1 if report is None else 0
                failed += [] if report is None else [report]
        if failed:
            self.close()
            raise failed[0]

    def _answer(self, index: int) -> RunFailedError | None:
        try:
            answer = self._connections[index].recv()
        except (EOFError, OSError):
            process = self.processes[index]
            process.join(SECONDS_TO_CLOSE)
            return RunFailedError(
                f"environments must not fail; a worker process ended with exit code {process.exitcode} and no "
                f"error message (out of memory, a crash in a library, or a script "
                f"without 'if __name__ == \"__main__\":'?). {HINT}"
            )
        return answer.as_error("in a worker process", HINT) if isinstance(answer, ErrorReport) else None


def _serve(
    connection: Connection,
    make: Callable[[], SingleEnvironment],
    layout: tuple[EnvironmentSpecs, int, bool],
    memory: Any,
    first: int,
    number: int,
    horizon: int | None,
    rests: bool,
) -> None:
    """Step environments in this process as it is asked to, until the connection ends."""
    ignore_signals()
    specs, num_envs, counts_steps = layout
    stepper = None
    try:
        arrays = Arrays(specs, num_envs, counts_steps=counts_steps, memory=memory)
        episodes: list[Episode] = []
        stepper = EpisodeStepper(arrays, episodes, first=first)  # closes what was made if one cannot be
        for index in range(first, first + number):
            episodes.append(arrays.episode(index, make(), horizon=horizon, rests=rests))
        connection.send(None)
        while (request := connection.recv_bytes()) != CLOSE:
            if request == BEGIN:
                stepper.begin()
            else:
                stepper.step(resets=request == STEP_AND_RESET)
            connection.send(None)
    except (EOFError, OSError):  # the process that asks is gone
        pass
    except Exception as error:
        with suppress(OSError):
            connection.send(report_of(error))
    finally:
        if stepper is not None:
            stepper.close()
