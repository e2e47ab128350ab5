"""How much a mean is over, for who puts the means of several processes together.

Where processes hold the rows of one batch, the mean over all of its entries is that of the processes' means, each times
what it is over: entries, or their importance. That differs with who lives in whose rows, so the losses note it where
somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from tensordict import NestedKey
from torch import Tensor

from masac import functional

Counts = dict[tuple[NestedKey, str], Tensor]
"""Scalars by group and name of the mean."""

_noted: ContextVar[Counts | None] = ContextVar("noted", default=None)


@contextmanager
def counts_noted() -> Iterator[Counts]:
    """Within it :func:`note_count` notes; the dictionary holds what."""
    counts: Counts = {}
    token = _noted.set(counts)
    try:
        yield counts
    finally:
        _noted.reset(token)


def note_count(name: tuple[NestedKey, str], values: Tensor, mask: Tensor | None, weights: Tensor | None = None) -> None:
    """Note what a masked mean divides by, if somebody asks.

    Args:
        name: group and name of the mean.
        values: as in :func:`masac.functional.masked_mean`.
        mask: as there. Without mask and weights nothing is noted: then it is all entries, in every process as many.
        weights: as there.
    """
    if torch.compiler.is_dynamo_compiling():
        return  # in a user's torch.compile nobody asks, and to look whether somebody does would break the graph
    counts = _noted.get()
    if counts is not None and not (mask is None and weights is None):
        counted = torch.ones_like(values) if weights is None else weights.expand_as(values)
        counts[name] = functional.masked_sum(counted.detach(), mask)
