"""Environments in worker processes, with explained crashes and no processes left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial, wraps
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, ParallelEnv

from masac.errors import RunFailedError
from masac.process.stop_signals import SIGNALS
from masac.process.tracebacks import ErrorReport, report_of

SECONDS_TO_CLOSE = 5.0
"""How long workers may take to close their environments before they are killed."""


class Workers(ParallelEnv):
    """TorchRL's ``ParallelEnv`` for unattended runs.

    - An exception in a worker is raised here as a :class:`~masac.errors.RunFailedError` with the worker's traceback.
    - Workers ignore Ctrl-C, SIGTERM and SIGHUP, which reach whole process groups: this process decides how a run ends.
      They end when it ends, however it ends.
    - The number of PyTorch's threads in this process stays.
    - Tensors are in shared memory if there is a core to spare, as this process then spins while it waits; else they go
      through pipes.

    Args:
        num_workers: W processes.
        make: makes the environments of a worker, with batch size ``[E]``; also called here once, to read the specs.
        device: where the tensors are.
    """

    def __init__(self, num_workers: int, make: Callable[[], EnvBase], *, device: str = "cpu") -> None:
        reports, threads = tempfile.TemporaryDirectory(prefix="masac-workers-"), torch.get_num_threads()
        try:
            super().__init__(
                num_workers,
                partial(_make_reporting, make, reports.name, os.getpid()),
                device=torch.device(device),
                num_threads=threads,
                daemon=True,
                shutdown_timeout=SECONDS_TO_CLOSE,
                use_buffers=(os.cpu_count() or 1) > num_workers,
            )
        except Exception:
            reports.cleanup()
            raise
        self._reports, self._threads = reports, threads
        with children_without_signals(), self._explained():
            self.start()

    def set_seed(self, seed: int | None = None, static_seed: bool = False) -> int | None:
        """Seed all environments as if they were in one list."""
        with self._explained():
            return super().set_seed(seed, static_seed)

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Step all environments, and reset those whose episode ends."""
        with self._explained():
            return super().step_and_maybe_reset(tensordict)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        with self._explained():
            return super()._step(tensordict)

    def _reset(self, tensordict: TensorDictBase, **kwargs: Any) -> TensorDictBase:
        with self._explained():
            return super()._reset(tensordict, **kwargs)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Stop the workers; a second call does nothing."""
        if not self.is_closed:
            super().close()
        torch.set_num_threads(self._threads)
        self._reports.cleanup()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Replace what TorchRL raises for a dead worker by the error in the worker."""
        try:
            yield
        except RunFailedError:  # raised by an inner call
            raise
        except (RuntimeError, OSError, EOFError, ValueError):
            # TorchRL may have deleted its list of processes, or closed some of them.
            processes = [process for process in self.__dict__.get("_workers", []) if not _is_closed(process)]
            reason = self._reason([process.exitcode for process in processes])
            if reason is None:
                raise
            self._terminate_and_join_workers(processes, timeout=SECONDS_TO_CLOSE)
            self.is_closed = True
            self.close()
            raise reason from None

    def _reason(self, exit_codes: list[int | None]) -> RunFailedError | None:
        hint = "To debug it, set task.num_workers=0, which steps environments in this process."
        reports = sorted(Path(self._reports.name).iterdir())
        if reports:
            report = ErrorReport(**json.loads(reports[0].read_text(encoding="utf-8")))
            return report.as_error("in a worker process", hint)
        killed = [code for code in exit_codes if code not in (None, 0, -signal.SIGTERM)]
        if killed:
            return RunFailedError(
                f"environments must not fail; a worker process ended with exit code {killed[0]} and no error message "
                f"(out of memory, or a crash in a library?). {hint}"
            )
        return None


def _is_closed(process: BaseProcess) -> bool:
    try:
        process.is_alive()
    except ValueError:
        return True
    return False


def _make_reporting(make: Callable[[], EnvBase], folder: str, parent: int) -> EnvBase:
    """Make the environment of a worker; its exceptions go to a file in ``folder`` instead of standard error."""
    if os.getpid() == parent:
        return make()
    ignore_signals()
    report = Path(folder) / str(os.getpid())
    env = _reporting(make, report)()
    for name in ("reset", "_reset", "step", "_step", "step_and_maybe_reset", "set_seed"):  # all that TorchRL calls
        setattr(env, name, _reporting(getattr(env, name), report))
    return env


def _reporting(function: Callable[..., Any], report: Path) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            report.write_text(json.dumps(asdict(report_of(error))), encoding="utf-8")
            raise SystemExit(1) from None

    return call


@contextmanager
def children_without_signals() -> Iterator[None]:
    """Processes started in this context never receive the signals that end runs.

    They inherit the signals blocked here, and call :func:`ignore_signals` once they run. As they would ignore
    ``terminate()`` too, which multiprocessing calls when this process ends before it waits without limit, it is
    replaced by ``kill()``.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # it would unblock the signals
    others = multiprocessing.active_children()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for process in multiprocessing.active_children():
            if process not in others:
                process._popen.terminate = process._popen.kill  # pyright: ignore[reportAttributeAccessIssue]


def ignore_signals() -> None:
    """Ignore the signals that end runs: the parent process decides, and ends this one."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
