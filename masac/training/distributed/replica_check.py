"""Checks that all ranks have the same tensors, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from masac.errors import RunFailedError
from masac.training.distributed.ranks import Rank

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers by bytes."""


def check_same(tensors: Mapping[str, Tensor], rank: Rank, *, when: str) -> None:
    """Compare the digests of tensors over all ranks.

    Args:
        tensors: by name, with the same names on all ranks.
        rank: of this process.
        when: the time of the check, for the error.

    Raises:
        RunFailedError: on all ranks, naming the first tensor that differs and the ranks that differ from rank 0.
    """
    digests = torch.stack([digest_of(tensor) for tensor in tensors.values()]).tolist()
    first, *others = rank.all_gather(digests)
    for position, name in enumerate(tensors):
        drifted = [str(index) for index, other in enumerate(others, 1) if other[position] != first[position]]
        if drifted:
            raise RunFailedError(
                "networks, targets, temperatures and optimizers must be the same on all ranks; got another "
                f"{name.removeprefix('loss/')} on rank {', '.join(drifted)} than on rank 0, {when}. Different machines "
                "or versions round differently: use the same on all ranks."
            )


def digest_of(tensor: Tensor) -> Tensor:
    """An integer that changes with any bit of a tensor, computed on the tensor's device."""
    bits = tensor.detach().contiguous().view(BITS[tensor.element_size()]).reshape(-1).long()
    # With odd factors and sums that wrap around, one different number always changes the sum.
    return (bits * (2 * torch.arange(bits.numel(), device=bits.device) + 1)).sum().cpu()
