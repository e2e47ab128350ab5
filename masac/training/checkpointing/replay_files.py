"""Replay buffers on disk: segments of rows that are only ever added, shared by the checkpoints that are kept.

A memory map of the live buffer would not be a snapshot, as training overwrites its rows. Here the rows added since the
last checkpoint become one more file, and a checkpoint is a list of files. Other files are deleted, so the
disk holds the buffer once, plus the rows that only older checkpoints need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.files.atomic_write import write_atomically
from masac.files.integrity import DamagedError, check_digest, digest_of, read_tensors
from masac.training.replay.buffer import size_of
from masac.training.replay.sharded import AnyReplay, as_tensors

SEGMENT_BYTES = 64 * 2**20
"""The largest size of a segment, and so the memory that reading and writing take besides the buffer."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A file of rows, counted from the first row that the buffer ever stored.

    Args:
        file: its name.
        first: its first row.
        end: the row after its last one.
        digest: SHA-256 of the file.
        shard: the rank whose buffer has these rows.
    """

    file: str
    first: int
    end: int
    digest: str
    shard: int


class ReplayFiles:
    """The segments of the buffers of a run, one buffer per rank.

    Args:
        folder: of the segments, created with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: list[Segment] = []

    def save(self, replays: Sequence[AnyReplay]) -> list[Segment]:
        """Write the rows that no segment holds yet; returns the segments of the current buffers."""
        self.segments = [segment for shard, replay in enumerate(replays) for segment in self._save(replay, shard)]
        return list(self.segments)

    def load(self, segments: Sequence[Segment], replays: Sequence[AnyReplay], *, written: Sequence[int]) -> None:
        """Fill each buffer with the rows that it held, in their places.

        Args:
            segments: of all buffers.
            replays: the buffers, as many as were saved.
            written: the rows that each buffer stored in all.

        Raises:
            DamagedError: if a segment is missing or damaged.
        """
        for shard, (replay, rows) in enumerate(zip(replays, written, strict=True)):
            own = [segment for segment in segments if segment.shard == shard]
            oldest = max(rows - replay.size, 0)
            if rows and (not own or own[0].first > oldest or own[-1].end != rows):
                raise DamagedError(f"the segments in {str(self.folder)!r} must hold the rows {oldest} to {rows}")
            replay.restore((self._read(segment, oldest, replay) for segment in own), written=rows)
        self.segments = list(segments)

    def load_newest(
        self, segments: Sequence[Segment], replays: Sequence[AnyReplay], *, like: Mapping[str, Tensor]
    ) -> None:
        """Fill the buffers of another run with as many of the newest rows as they hold.

        Args:
            segments: of all buffers.
            replays: the buffers, as many as were saved.
            like: rows of the other run, by name.

        Raises:
            DamagedError: if a segment is missing or damaged.
            ValueError: if its rows differ from those of the other run.
        """
        for shard, replay in enumerate(replays):
            own = [segment for segment in segments if segment.shard == shard]
            if not own:
                continue
            check_digest(self.folder / own[-1].file, own[-1].digest)
            there = read_tensors(self.folder / own[-1].file)
            for name in {**like, **there}:
                shapes = [None if name not in rows else list(rows[name].shape[1:]) for rows in (like, there)]
                if shapes[0] != shapes[1]:
                    raise ValueError(f"entry {name} of a row: expected {shapes[0]}, found {shapes[1]}")
            oldest = max(own[-1].end - replay.size, own[0].first)
            parts = (self._read(segment, oldest, replay) for segment in own if segment.end > oldest)
            replay.restore(parts, written=own[-1].end - oldest)

    def delete_all_but(self, kept: Iterable[Segment]) -> None:
        """Delete the files of all other segments, and files that were not written to their end."""
        names = {segment.file for segment in kept} | {segment.file for segment in self.segments}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _save(self, replay: AnyReplay, shard: int) -> list[Segment]:
        mine = [segment for segment in self.segments if segment.shard == shard]
        oldest = replay.written - len(replay)
        first = max(mine[-1].end if mine else 0, oldest)
        while first < replay.written:
            self.folder.mkdir(parents=True, exist_ok=True)
            rows = max(SEGMENT_BYTES // size_of(replay.rows(first, first + 1)), 1)
            end = min(first + rows, replay.written)
            mine.append(self._write(replay, first, end, shard))
            first = end
        return [segment for segment in mine if segment.end > oldest]

    def _write(self, replay: AnyReplay, first: int, end: int, shard: int) -> Segment:
        tensors = as_tensors(replay.rows(first, end))
        # No two files have the same name, also where a resumed run counts its rows from 0 again.
        path = self.folder / f"rank{shard}-rows-{first:012d}-{end:012d}-{uuid4().hex[:8]}.pt"
        write_atomically(path, lambda file: torch.save(tensors, file))
        return Segment(file=path.name, first=first, end=end, digest=digest_of(path), shard=shard)

    def _read(self, segment: Segment, oldest: int, like: AnyReplay) -> TensorDictBase:
        """The rows of a segment from ``oldest`` on."""
        path = self.folder / segment.file
        check_digest(path, segment.digest)
        rows = like.rows_from(read_tensors(path))
        return rows[max(oldest - segment.first, 0) :]  # pyright: ignore[reportReturnType]
