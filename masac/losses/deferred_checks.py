"""Checks of values, at once or deferred.

Reading a value waits for its device, and a graph of tensor operations cannot read it at all. So a check may be
deferred: it leaves a flag, and the caller that finds a flag set runs the loss again to raise its error. Inside a user's
own ``torch.compile`` no caller reads flags: there a check becomes an assertion in the graph.
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
def defer_checks() -> Iterator[list[Tensor]]:
    """Within it :func:`deferred_any` is always False; the list holds a bool scalar a check, True for a fault."""
    flags: list[Tensor] = []
    token = _put_off.set(flags)
    try:
        yield flags
    finally:
        _put_off.reset(token)


def deferred_any(wrong: Tensor) -> bool:
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
