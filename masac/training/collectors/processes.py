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

from masac.envs.parallel_env import SECONDS_TO_CLOSE, children_without_signals, ignore_signals
from masac.training.collectors.messages import Arrays, Failure, Part, Request, WorkerDiedError
from masac.training.collectors.remote import Engine, Handle
from masac.training.collectors.worker import CollectorWorker, WorkerSettings


class ProcessHandle(Handle):
    """A worker in a process of its own, which ends with this one, however that ends.

    A thread reads what it sends: neither side ever waits for the other to read.

    Args:
        index: which worker.
        settings: what it is made from.
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
        """Send a request, with the weights if they are others than those before."""
        payload = weights if request.version != self._sent_version else None
        with suppress(OSError, ValueError):  # it died, which the reader tells
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
        """Ask the worker to end, once it has done what it was asked for."""
        with suppress(OSError, ValueError):  # it is gone
            self._connection.send(None)

    def join(self, deadline: float) -> None:
        """Wait for the worker's end until ``deadline`` (of ``time.monotonic``), then end it."""
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
        settings: what they are made from.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    def start(self, index: int) -> ProcessHandle:
        """Start a process."""
        return ProcessHandle(index, self.settings)

    def publish(self, weights: Arrays) -> bytes:
        """Weights as bytes, made once for all."""
        return pickle.dumps(weights, protocol=pickle.HIGHEST_PROTOCOL)

    def end(self, handles: Sequence[Handle]) -> None:
        """End processes, all at once."""
        mine = [handle for handle in handles if isinstance(handle, ProcessHandle)]
        for handle in mine:
            handle.hang_up()
        deadline = time.monotonic() + SECONDS_TO_CLOSE
        for handle in mine:
            handle.join(deadline)


def _serve(connection: Connection, settings: WorkerSettings) -> None:
    """What a worker's process does: answer until the other side hangs up."""
    ignore_signals()
    worker = CollectorWorker(settings)
    try:
        while (message := connection.recv()) is not None:
            request, payload = message
            connection.send(worker.answer(request, None if payload is None else pickle.loads(payload)))
    except (EOFError, OSError):
        pass  # the run ended without a word
    finally:
        worker.close()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started meanwhile compute with one thread, also in libraries that PyTorch does not know of."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
