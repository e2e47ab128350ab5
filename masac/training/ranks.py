"""Which of several processes this one is, and the randomness that follows from it."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One of ``world_size`` processes. Rank 0 evaluates and writes files."""

    index: int = 0
    world_size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process evaluates and writes files."""
        return self.index == 0

    def seed(self, seed: int) -> int:
        """A seed of this rank's own."""
        return int(np.random.SeedSequence([seed, self.index]).generate_state(1)[0] % 2**31)


def current_rank() -> Rank:
    """The rank that torchrun gave this process; 0 of 1 without it."""
    return Rank(index=int(os.environ.get("RANK", "0")), world_size=int(os.environ.get("WORLD_SIZE", "1")))


def seed_everything(seed: int) -> None:
    """Seed PyTorch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
