"""A word to somebody who waits for an environment to begin."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60.0
"""How long an environment may take to be made and reset before something is said."""


@contextmanager
def warn_if_slow(name: str, advice: str, *, seconds: float | None = None) -> Iterator[None]:
    """Say on standard error if what is done meanwhile takes long. It goes on all the same.

    Args:
        name: the environment.
        advice: what to change.
        seconds: how long is long; None for :data:`SECONDS`.
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
    return f"warning: {name} has not begun its first episode after {seconds:.0f} s, and is waited for. {advice}"
