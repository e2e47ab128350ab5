"""Whether all ranks have the same tensors, to the bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from masac.errors import RunFailedError
from masac.training.distributed.ranks import Rank

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers by bytes."""


def check_same(tensors: Mapping[str, Tensor], rank: Rank, *, when: str) -> None:
    """Compare digests over all ranks.

    Args:
        tensors: by name, the same names in all ranks.
        rank: this one.
        when: to say in the error.

    Raises:
        RunFailedError: in all ranks, naming the first tensor that differs and the ranks that differ from rank 0.
    """
    digests = torch.stack([digest_of(tensor) for tensor in tensors.values()]).tolist()
    first, *others = rank.all_gather(digests)
    for position, name in enumerate(tensors):
        drifted = [str(index) for index, other in enumerate(others, 1) if other[position] != first[position]]
        if drifted:
            raise RunFailedError(
                "networks, targets, temperatures and optimizers must be the same in all ranks; got another "
                f"{name.removeprefix('loss/')} on rank {', '.join(drifted)} than on rank 0, {when}. Machines or "
                "versions that differ round differently: use the same on all."
            )


def digest_of(tensor: Tensor) -> Tensor:
    """An integer that changes with every bit of a tensor, computed where it is."""
    bits = tensor.detach().contiguous().view(BITS[tensor.element_size()]).reshape(-1).long()
    # Odd factors, and sums that wrap around: a single number that differs always changes the sum.
    return (bits * (2 * torch.arange(bits.numel(), device=bits.device) + 1)).sum().cpu()
