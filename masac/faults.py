"""Checks of values, at once or put off.

To look at a value is to wait for the device it is on, and a graph of tensor operations cannot look at all. So a check
may be put off: it leaves a flag, and whoever finds a flag set runs what failed again, to get its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_put_off: ContextVar[list[Tensor] | None] = ContextVar("put_off", default=None)


@contextmanager
def checks_put_off() -> Iterator[list[Tensor]]:
    """Within it :func:`any_fault` is always False; the list holds a bool scalar a check, True for a fault."""
    flags: list[Tensor] = []
    token = _put_off.set(flags)
    try:
        yield flags
    finally:
        _put_off.reset(token)


def any_fault(wrong: Tensor) -> bool:
    """Whether any entry of a bool tensor is True."""
    flags = _put_off.get()
    if flags is None:
        return bool(wrong.any())
    flags.append(wrong.any())
    return False
