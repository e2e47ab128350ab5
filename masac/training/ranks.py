"""Which of several processes this one is, and the state of its randomness."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One of ``world_size`` processes. Rank 0 evaluates and writes files."""

    index: int = 0
    world_size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process evaluates and writes files."""
        return self.index == 0

    def seed(self, seed: int, *more: int) -> int:
        """A seed of this rank's own, and of what else tells it from others."""
        return int(np.random.SeedSequence([seed, self.index, *more]).generate_state(1)[0] % 2**31)


def current_rank() -> Rank:
    """The rank that torchrun gave this process; 0 of 1 without it."""
    return Rank(index=int(os.environ.get("RANK", "0")), world_size=int(os.environ.get("WORLD_SIZE", "1")))


def seed_everything(seed: int) -> None:
    """Seed PyTorch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def random_state() -> dict[str, Tensor]:
    """The states of PyTorch's (every device's), NumPy's and Python's random numbers, as tensors."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = numpy_state
    assert (version, name) == (3, "MT19937")
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor(cached, dtype=torch.float64),
    }
    for index in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        state[f"cuda{index}"] = torch.cuda.get_rng_state(index)
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Go on with the random numbers of :func:`random_state`; devices that are not here are left out."""
    torch.set_rng_state(state["torch"])
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, state["numpy_gauss"].item()))
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda{index}"], index)
