"""Measures the time of the stages of an iteration."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Timers:
    """Seconds by stage since the last :meth:`take`."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._since = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the time of the code inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - started

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Measure how long each item takes to arrive."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def take(self) -> tuple[dict[str, float], float]:
        """The seconds of each stage and the total since the last call; then start from 0."""
        seconds, now = dict(self._seconds), time.perf_counter()
        passed, self._since = now - self._since, now
        self._seconds.clear()
        return seconds, passed
