"""Warnings about environments as one line each on standard error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from masac.cli.multi_process import rank_of
from masac.errors import EnvironmentWarning


@contextmanager
def environment_warnings_as_lines() -> Iterator[None]:
    """Meanwhile an :class:`~masac.errors.EnvironmentWarning` is one line, said once, and by the first rank only."""
    before, said = warnings.showwarning, set[str]()

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, EnvironmentWarning):
            before(message, category, *place, **more)
        elif str(message) not in said and rank_of() == 0:
            said.add(str(message))
            print(f"warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
