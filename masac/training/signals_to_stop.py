"""Ctrl-C ends a run after the iteration at hand; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from masac.training.ranks import OtherRankFailedError, RankLostError


class StopRequest:
    """Whether somebody asked the run to end."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request, the second into a ``KeyboardInterrupt``.

    A rank that ends because another one did ignores SIGTERM from then on: torchrun sends it to those that are left,
    while they still clean up and have not said yet why they end.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.requested:
            raise KeyboardInterrupt
        request.requested = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    except (RankLostError, OtherRankFailedError):
        before[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
