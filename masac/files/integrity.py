"""Files that are checked before they are believed, and read without running code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor


class DamagedError(Exception):
    """A file is missing, not as it was written, or not what it should be."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def check_digest(path: Path, digest: str) -> None:
    """Raise :class:`DamagedError` unless a file is as it was written."""
    if not path.is_file():
        raise DamagedError(f"{path.name} is missing")
    try:
        found = digest_of(path)
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read ({error})") from None
    if found != digest:
        raise DamagedError(f"{path.name} is not as it was written")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name; never runs code that the file holds."""
    try:
        tensors = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what PyTorch raises for a file that is none of its own is not specified
        raise DamagedError(f"{path.name} holds no tensors ({type(error).__name__})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DamagedError(f"{path.name} must hold tensors by name")
    return tensors
