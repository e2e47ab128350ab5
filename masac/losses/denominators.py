"""Denominators of masked means, so that the means of several processes can be averaged exactly.

Where processes hold the rows of one batch, the mean over all of its entries is the sum of the processes' means, each
times its denominator (the number of entries, or their importance), over the sum of the denominators. They differ with
the agents that are alive in each process's rows, so the losses record them on request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from tensordict import NestedKey
from torch import Tensor

from masac import functional

Denominators = dict[tuple[NestedKey, str], Tensor]
"""Scalars by group and name of the mean."""

_recorded: ContextVar[Denominators | None] = ContextVar("recorded", default=None)


@contextmanager
def recording_denominators() -> Iterator[Denominators]:
    """Within it :func:`record_denominator` records into the dictionary."""
    denominators: Denominators = {}
    token = _recorded.set(denominators)
    try:
        yield denominators
    finally:
        _recorded.reset(token)


def record_denominator(
    name: tuple[NestedKey, str], values: Tensor, mask: Tensor | None, weights: Tensor | None = None
) -> None:
    """Record what a masked mean divides by, inside of :func:`recording_denominators`.

    Args:
        name: group and name of the mean.
        values: as in :func:`masac.functional.masked_mean`.
        mask: as there. Without mask and weights nothing is recorded: every process has as many entries.
        weights: as there.
    """
    if torch.compiler.is_dynamo_compiling():
        return  # in a user's torch.compile nobody asks, and reading the context variable would break the graph
    denominators = _recorded.get()
    if denominators is not None and not (mask is None and weights is None):
        counted = torch.ones_like(values) if weights is None else weights.expand_as(values)
        denominators[name] = functional.masked_sum(counted.detach(), mask)
