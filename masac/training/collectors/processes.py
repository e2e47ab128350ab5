"""Workers in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from masac.process.child_processes import SECONDS_TO_CLOSE, children_without_signals, ignore_signals
from masac.training.collectors.messages import Arrays, Failure, Part, Request, WorkerDiedError
from masac.training.collectors.remote import Engine, Handle
from masac.training.collectors.worker import CollectorWorker, WorkerSettings


class ProcessHandle(Handle):
    """A worker in its own process, which ends when this process ends for any reason.

    A thread reads its messages, so neither side ever waits for the other to read.

    Args:
        index: of the worker.
        settings: of the worker.
    """

    def __init__(self, index: int, settings: WorkerSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far = context.Pipe()
        self._answers: queue.SimpleQueue[Part | Failure | None] = queue.SimpleQueue()
        self._sent_version: int | None = None
        self.process = context.Process(target=_serve, args=(far, settings), name=f"masac-collector-{index}")
        self.process.daemon = True
        with children_without_signals(), _one_thread():
            self.process.start()
        far.close()
        self._reader = threading.Thread(target=self._read, name=f"masac-collector-{index}", daemon=True)
        self._reader.start()

    def submit(self, request: Request, weights: object) -> None:
        """Send a request, with the weights if they changed since the last one."""
        payload = weights if request.version != self._sent_version else None
        with suppress(OSError, ValueError):  # the worker died, which the reading thread notices
            self._connection.send((request, payload))
        self._sent_version = request.version

    def take(self) -> Part | Failure:
        """Wait for the oldest answer."""
        answer = self._answers.get()
        if answer is None:
            self.process.join(SECONDS_TO_CLOSE)
            raise WorkerDiedError(f"process {self.process.pid} ended with exit code {self.process.exitcode}")
        return answer

    def hang_up(self) -> None:
        """Ask the worker to end after its pending requests."""
        with suppress(OSError, ValueError):  # it has ended already
            self._connection.send(None)

    def join(self, deadline: float) -> None:
        """Wait for the worker to end until ``deadline`` (of ``time.monotonic``), then kill it."""
        self.process.join(max(deadline - time.monotonic(), 0))
        if self.process.is_alive():
            self.process.kill()
            self.process.join(1.0)
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        try:
            while True:
                self._answers.put(self._connection.recv())
        except (EOFError, OSError):
            self._answers.put(None)


class Processes(Engine):
    """Runs workers in processes of this machine.

    Args:
        settings: of the workers.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    def start(self, index: int) -> ProcessHandle:
        """Start a process."""
        return ProcessHandle(index, self.settings)

    def publish(self, weights: Arrays) -> bytes:
        """The weights as bytes, pickled once for all workers."""
        return pickle.dumps(weights, protocol=pickle.HIGHEST_PROTOCOL)

    def end(self, handles: Sequence[Handle]) -> None:
        """End processes, all at the same time."""
        mine = [handle for handle in handles if isinstance(handle, ProcessHandle)]
        for handle in mine:
            handle.hang_up()
        deadline = time.monotonic() + SECONDS_TO_CLOSE
        for handle in mine:
            handle.join(deadline)


def _serve(connection: Connection, settings: WorkerSettings) -> None:
    """The main function of a worker's process: answer requests until the connection closes."""
    ignore_signals()
    worker = CollectorWorker(settings)
    try:
        while (message := connection.recv()) is not None:
            request, payload = message
            connection.send(worker.answer(request, None if payload is None else pickle.loads(payload)))
    except (EOFError, OSError):
        pass  # the process of the run ended
    finally:
        worker.close()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute with one thread, also in libraries other than PyTorch."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
