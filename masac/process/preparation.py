"""Settings of the process of a run that its speed and its numbers depend on."""

from __future__ import annotations

import logging
from multiprocessing.process import current_process

import numpy as np
import torch

from masac.errors import ConfigError


def prepare_process() -> None:
    """Flush numbers below 1e-38 to 0, and silence TorchRL's notes.

    Raises:
        ConfigError: in a process that another one starts, while it imports the script, which would train once more.
    """
    if getattr(current_process(), "_inheriting", False):
        raise ConfigError(
            "a script whose run has processes of its own (task.num_workers, collector=processes) must train below "
            "if __name__ == '__main__':, as every process imports it. Put the call of Trainer there"
        )
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)  # NumPy 1 and 2.2 compute the smallest number at the first call, and warn if it is flushed to 0
    torch.set_flush_denormal(True)  # gradients and Adam's moments have many such numbers, slow on CPUs
