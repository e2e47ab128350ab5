"""A warning while an environment takes long to start."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60.0
"""The time to make and reset an environment before the warning."""


@contextmanager
def warn_if_slow(name: str, advice: str, *, seconds: float | None = None) -> Iterator[None]:
    """Warn on standard error if this context takes long. It continues nevertheless.

    Args:
        name: the environment.
        advice: what to change.
        seconds: until the warning; None for :data:`SECONDS`.
    """
    after = SECONDS if seconds is None else seconds
    timer = threading.Timer(after, lambda: print(_message(name, after, advice), file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _message(name: str, seconds: float, advice: str) -> str:
    return f"warning: {name} has not begun its first episode after {seconds:.0f} s; still waiting. {advice}"
