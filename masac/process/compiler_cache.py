"""Removes what a killed compilation left in the on-disk cache of PyTorch's compiler.

Linkers write libraries in place, and PyTorch loads any library that it finds: an empty one is an error at every start,
and a half-written one ends the process (SIGBUS).
"""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

WRITTEN_S = 10.0
"""An incomplete library that did not change for this time is abandoned. We wait this long at most."""


def remove_damaged_libraries(folder: Path) -> None:
    """Remove incomplete libraries from a cache, which PyTorch then compiles again; wait for those being written."""
    deadline = time.monotonic() + WRITTEN_S
    for library in folder.rglob("*.so"):
        with suppress(OSError):  # a file of another user, or gone
            while is_damaged(library):
                # On a shared file system the clock of another machine may put it into the future.
                age = abs(time.time() - library.stat().st_mtime)
                if age >= WRITTEN_S:
                    library.unlink()
                    break
                if time.monotonic() >= deadline:  # another process still writes it
                    break
                time.sleep(min(max(WRITTEN_S - age, 0.1), 1.0))


def is_damaged(library: Path) -> bool:
    """Whether the file is all zeros (after a power loss), or too short for an ELF library (Linux).

    An ELF library ends with the table of its sections, whose place its header names.
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
