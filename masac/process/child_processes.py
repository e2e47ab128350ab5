"""Processes of this machine that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from masac.process.stop_signals import SIGNALS

SECONDS_TO_CLOSE = 5.0
"""How long child processes may take to close before they are killed."""


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
