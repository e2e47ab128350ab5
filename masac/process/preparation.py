"""Settings of the process of a run that its speed and its numbers depend on."""

from __future__ import annotations

import logging

import numpy as np
import torch


def prepare_process() -> None:
    """Flush numbers below 1e-38 to 0, and silence TorchRL's notes."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)  # NumPy 1 and 2.2 compute the smallest number at the first call, and warn if it is flushed to 0
    torch.set_flush_denormal(True)  # gradients and Adam's moments have many such numbers, slow on CPUs
