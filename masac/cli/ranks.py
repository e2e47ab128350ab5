"""Commands in one of the processes that torchrun starts. Imports PyTorch only there."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def are_several() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def rank_of() -> int:
    """The index of this process among those that torchrun started; 0 without it."""
    return int(os.environ["RANK"]) if are_several() else 0


def among_ranks(value: T) -> T:
    """The value of rank 0, on all ranks."""
    if not are_several():
        return value
    from masac.training.distributed.ranks import current_rank

    return current_rank().broadcast(value)


def signed(message: str) -> str | None:
    """A message with the rank that prints it; None if another rank printed the same."""
    if not are_several():
        return message
    from masac.training.distributed.ranks import current_rank

    rank = current_rank()
    return f"rank {rank.index}: {message}" if rank.is_first_with(message) else None
