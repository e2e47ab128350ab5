"""Files that are checked by their digest, and read without running code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor


class DamagedError(Exception):
    """A file is missing, changed after it was written, or of another kind."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def check_digest(path: Path, digest: str) -> None:
    """Raise :class:`DamagedError` unless a file has a digest."""
    if not path.is_file():
        raise DamagedError(f"{path.name} is missing")
    try:
        found = digest_of(path)
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read ({error})") from None
    if found != digest:
        raise DamagedError(f"{path.name} was changed after it was written")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name; never runs code from the file."""
    try:
        tensors = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # PyTorch does not specify what it raises for a foreign file
        raise DamagedError(f"{path.name} holds no tensors ({type(error).__name__})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DamagedError(f"{path.name} must hold tensors by name")
    return tensors
