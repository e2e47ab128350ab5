"""Checks that a replay buffer fits into memory, before it is allocated."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import torch

from masac.errors import ConfigError

GROUP = Path("/sys/fs/cgroup")


def check_buffer_fits(rows: int, bytes_per_row: int, device: str, *, frames_per_row: int = 1) -> None:
    """Raise :class:`ConfigError` if a buffer takes more memory than its device has free.

    Args:
        rows: that it holds.
        bytes_per_row: their size.
        device: of the buffer.
        frames_per_row: of ``training.buffer_size`` in a row.
    """
    needed, free = rows * bytes_per_row, free_memory(device)
    if needed > free:
        raise ConfigError(
            f"training.buffer_size must fit into memory; {rows:,} rows of {bytes_per_row:,} bytes take "
            f"{in_units(needed)}, and {in_units(free)} are free on {device}. Set training.buffer_size to at most "
            f"{int(free // bytes_per_row) * frames_per_row}"
        )


def free_memory(device: str) -> float:
    """Free bytes on a device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    return min(psutil.virtual_memory().available, _free_in_group())


def _free_in_group() -> float:
    """Free bytes in the control group of a container (cgroup v2); infinite without one."""
    try:
        limit, used = ((GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return math.inf
    return math.inf if limit == "max" else max(int(limit) - int(used), 0)


def in_units(size: float) -> str:
    """``1.5 MiB`` for 1572864."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
