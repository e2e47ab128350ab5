"""What a compilation that was killed leaves in the cache of PyTorch's compiler on disk.

Linkers write libraries in place, and PyTorch takes those it finds: of an empty one it raises an error at every start,
and a half-written one ends the process (SIGBUS).
"""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

WRITTEN_S = 10.0
"""A library that is not whole and was not written to for so long is not being written any more. So long is waited."""


def remove_damaged_libraries(folder: Path) -> None:
    """Remove the half-written libraries in a cache, which PyTorch then makes anew; waits for those being written."""
    deadline = time.monotonic() + WRITTEN_S
    for library in folder.rglob("*.so"):
        with suppress(OSError):  # a file of another user, or gone
            while is_damaged(library):
                # One in the future, by the clock of another machine on a shared file system, says as little.
                age = abs(time.time() - library.stat().st_mtime)
                if age >= WRITTEN_S:
                    library.unlink()
                    break
                if time.monotonic() >= deadline:  # others keep writing: theirs will be whole when it is wanted
                    break
                time.sleep(min(max(WRITTEN_S - age, 0.1), 1.0))


def is_damaged(library: Path) -> bool:
    """Whether the file is zeros (the machine went off), or too short for an ELF library (Linux).

    That has a table of its sections at its end.
    """
    size = library.stat().st_size
    with library.open("rb") as file:
        header = file.read(64)
    if size < len(header) or len(header) < 64 or not any(header):
        return True
    if header[:5] != b"\x7fELF\x02":  # of another system
        return False
    order = "<" if header[5] == 1 else ">"
    (sections_at,) = struct.unpack_from(f"{order}Q", header, 0x28)
    section_size, sections = struct.unpack_from(f"{order}HH", header, 0x3A)
    return size < sections_at + section_size * sections
