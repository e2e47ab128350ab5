"""Checks of values, at once or put off.

To look at a value is to wait for the device it is on, and a graph of tensor operations cannot look at all. So a check
may be put off: it leaves a flag, and whoever finds a flag set runs what failed again, to get its error. In a user's own
``torch.compile`` there is nobody to look at a flag: there a check becomes an operation of the graph that fails itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

IN_A_COMPILED_GRAPH = (
    "a batch must pass the checks of its values (legal actions, action masks with a choice); it failed one in a "
    "compiled loss. Call the loss on it without torch.compile to read which."
)

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
    """Whether any entry of a bool tensor is True; False in a graph that ``torch.compile`` makes, which fails later.

    On CUDA that is a device-side assert: the process cannot use the GPU any more.
    """
    if torch.compiler.is_dynamo_compiling():
        torch._assert_async(~wrong.any(), IN_A_COMPILED_GRAPH)  # pyright: ignore[reportPrivateImportUsage]
        return False
    flags = _put_off.get()
    if flags is None:
        return bool(wrong.any())
    flags.append(wrong.any())
    return False
