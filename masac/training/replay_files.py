"""A replay buffer on disk: segments of rows that are only ever added, shared by the checkpoints that are kept.

A memory map of the live buffer would be no snapshot: rows are overwritten while training goes on. Here the rows added
since the last checkpoint become one more file, and a checkpoint is a list of files. Files that no checkpoint lists are
deleted, so the disk holds the buffer once, and what older checkpoints need beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDictBase

from masac.keys import as_path
from masac.training.atomic import write_atomically
from masac.training.damage import DamagedError, check_digest, digest_of, read_tensors
from masac.training.replay import Replay, size_of

SEGMENT_BYTES = 64 * 2**20
"""What a segment holds at most, and so the memory that writing and reading take besides the buffer."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A file of rows, counted from the first one the buffer ever got.

    Args:
        file: its name.
        first: its first row.
        end: the row after its last one.
        digest: SHA-256 of the file.
    """

    file: str
    first: int
    end: int
    digest: str


class ReplayFiles:
    """The segments of one buffer.

    Args:
        folder: theirs, made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: list[Segment] = []

    def save(self, replay: Replay) -> list[Segment]:
        """Write the rows that no segment holds yet; returns the segments that hold the buffer as it is."""
        oldest = replay.written - len(replay)
        saved = self.segments[-1].end if self.segments else 0
        first = max(saved, oldest)
        while first < replay.written:
            self.folder.mkdir(parents=True, exist_ok=True)
            rows = max(SEGMENT_BYTES // size_of(replay.rows(first, first + 1)), 1)
            end = min(first + rows, replay.written)
            self.segments.append(self._write(replay, first, end))
            first = end
        self.segments = [segment for segment in self.segments if segment.end > oldest]
        return list(self.segments)

    def load(self, segments: Sequence[Segment], replay: Replay, *, written: int) -> None:
        """Fill a buffer with the rows that segments hold, in their places.

        Raises:
            DamagedError: if a segment is missing or not as it was written.
        """
        oldest = written - min(written, replay.size)
        if written and (not segments or segments[0].first > oldest or segments[-1].end != written):
            raise DamagedError(f"the segments in {str(self.folder)!r} must hold the rows {oldest} to {written}")
        replay.restore((self._read(segment, oldest, replay) for segment in segments), written=written)
        self.segments = list(segments)

    def delete_all_but(self, kept: Iterable[Segment]) -> None:
        """Delete the files of all other segments, and what an interrupted write left."""
        names = {segment.file for segment in kept} | {segment.file for segment in self.segments}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _write(self, replay: Replay, first: int, end: int) -> Segment:
        rows = replay.rows(first, end)
        tensors = {"/".join(as_path(key)): value.cpu() for key, value in rows.items(True, True)}
        path = self.folder / f"rows-{first:012d}-{end:012d}.pt"
        write_atomically(path, lambda file: torch.save(tensors, file))
        return Segment(file=path.name, first=first, end=end, digest=digest_of(path))

    def _read(self, segment: Segment, oldest: int, replay: Replay) -> TensorDictBase:
        """The rows of a segment from ``oldest`` on."""
        path = self.folder / segment.file
        check_digest(path, segment.digest)
        rows = replay.rows_from(read_tensors(path))
        return rows[max(oldest - segment.first, 0) :]  # pyright: ignore[reportReturnType]
