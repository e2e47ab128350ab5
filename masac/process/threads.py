"""The number of threads that PyTorch computes with, and how they wait for each other.

PyTorch is imported inside functions: on import it reads from the environment how its threads wait.
"""

from __future__ import annotations

import multiprocessing
import os
from functools import cache

OPERATIONS_A_THREAD = 1e9
"""Multiplications and additions (for example of one update) per thread. With fewer, waiting costs about what sharing
saves: a thread computes these in about 12 ms, and in an update the threads wait for each other over a hundred times."""


def wait_passively() -> None:
    """Let threads sleep instead of spin while they wait for each other, in this process and those it starts.

    A spinning thread keeps its core from other programs, and from the thread that it waits for: beside one busy
    program, the threads of small operations then take several times as long. Call it before PyTorch is imported. A
    policy that the user set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "0")  # passive alone still spins a little in GNU's OpenMP


def choose_threads(asked: str, operations: float, *, sharing: int = 1) -> int:
    """The number of threads to compute with.

    Args:
        asked: ``training.threads``.
        operations: multiplications and additions on the CPU in the most frequent computation, such as one update.
        sharing: number of processes that share the cores.
    """
    if asked != "auto":
        return int(asked)
    # Launchers of workers (such as joblib for a sweep) set the variable for them; there it is not the user's choice.
    if "OMP_NUM_THREADS" in os.environ and multiprocessing.current_process().name == "MainProcess":
        return threads_there()
    return max(1, min(threads_there() // sharing, round(operations / OPERATIONS_A_THREAD)))


@cache
def threads_there() -> int:
    """PyTorch's own default: one thread per core, or ``OMP_NUM_THREADS``."""
    import torch

    return torch.get_num_threads()


def set_threads(threads: int) -> None:
    """Set the number of threads that PyTorch computes with."""
    import torch

    threads_there()  # caches the default before it changes
    torch.set_num_threads(threads)
