"""Warnings about environments as one line each on standard error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from masac.cli.ranks import rank_of
from masac.errors import EnvironmentWarning


@contextmanager
def environment_warnings_as_lines() -> Iterator[None]:
    """Print each :class:`~masac.errors.EnvironmentWarning` once, as one line, on rank 0 only."""
    before, shown = warnings.showwarning, set[str]()

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, EnvironmentWarning):
            before(message, category, *place, **more)
        elif str(message) not in shown and rank_of() == 0:
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
