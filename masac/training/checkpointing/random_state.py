"""Seeds and states of the random number generators of a process."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed PyTorch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def random_state() -> dict[str, Tensor]:
    """The states of the generators of PyTorch (of every device), NumPy and Python, as tensors."""
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
    """Restore :func:`random_state`, except for devices that this machine does not have."""
    torch.set_rng_state(state["torch"])
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, state["numpy_gauss"].item()))
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda{index}"], index)


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """A context with random numbers of its own: those after it are as if it had not been.

    Args:
        seed: of the random numbers inside.
    """
    before = random_state()
    seed_everything(seed)
    try:
        yield
    finally:
        set_random_state(before)
