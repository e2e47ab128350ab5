"""How many threads PyTorch computes with, and how they wait for each other.

Imports PyTorch only where it is used: it reads from the environment how threads wait when it is imported.
"""

from __future__ import annotations

import multiprocessing
import os
from functools import cache

OPERATIONS_A_THREAD = 1e9
"""Multiplications and additions, of an update say, that are worth a thread. Sharing fewer costs about what it saves: a
thread does these in some 12 ms, and an update has its threads wait for each other more than a hundred times."""


def wait_passively() -> None:
    """Have threads sleep while they wait for each other, in this process and those it starts, not spin.

    A spinning thread keeps its core from every other program, and from the very thread that it waits for: beside one
    busy program, the threads of small operations then take several times as long. Has an effect before PyTorch is
    imported; a policy that the user set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "0")  # passive alone still spins a little in GNU's OpenMP


def choose_threads(asked: str, operations: float, *, sharing: int = 1) -> int:
    """How many threads to compute with.

    Args:
        asked: ``training.threads``.
        operations: multiplications and additions on the CPU of what is computed most, of an update say.
        sharing: processes that share the cores.
    """
    if asked != "auto":
        return int(asked)
    # What starts workers, joblib for a sweep say, sets the variable for them: there it is not the user's word.
    if "OMP_NUM_THREADS" in os.environ and multiprocessing.current_process().name == "MainProcess":
        return threads_there()
    return max(1, min(threads_there() // sharing, round(operations / OPERATIONS_A_THREAD)))


@cache
def threads_there() -> int:
    """As many threads as PyTorch takes by itself: one a core, or ``OMP_NUM_THREADS``."""
    import torch

    return torch.get_num_threads()


def set_threads(threads: int) -> None:
    """Have PyTorch compute with so many threads."""
    import torch

    threads_there()  # remembered as they are now
    torch.set_num_threads(threads)
