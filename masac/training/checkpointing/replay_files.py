"""Replay buffers on disk: segments of rows that are only ever added, shared by the checkpoints that are kept.

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

from masac.files.atomic_write import write_atomically
from masac.files.integrity import DamagedError, check_digest, digest_of, read_tensors
from masac.training.replay.buffer import size_of
from masac.training.replay.sharded import AnyReplay, as_tensors, deal

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
        shard: the rank whose buffer it is of.
    """

    file: str
    first: int
    end: int
    digest: str
    shard: int = 0


class ReplayFiles:
    """The segments of the buffers of a run, one buffer a rank.

    Args:
        folder: theirs, made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: list[Segment] = []

    def save(self, replays: Sequence[AnyReplay]) -> list[Segment]:
        """Write the rows that no segment holds yet; returns the segments that hold the buffers as they are."""
        self.segments = [segment for shard, replay in enumerate(replays) for segment in self._save(replay, shard)]
        return list(self.segments)

    def load(
        self,
        segments: Sequence[Segment],
        replays: Sequence[AnyReplay],
        *,
        written: Sequence[int],
        held: Sequence[int] | None = None,
    ) -> None:
        """Fill buffers with the rows that segments hold.

        Into as many buffers as there were, each gets its own in their places; else the rows of all, in about the order
        in which they came, are dealt out in turn.

        Args:
            segments: of all buffers.
            replays: the buffers to fill.
            written: the rows that every buffer ever got.
            held: the rows that it held; None for as many as it could.

        Raises:
            DamagedError: if a segment is missing or not as it was written.
        """
        size = sum(replay.size for replay in replays) // len(written)
        held = [min(rows, size) for rows in written] if held is None else held
        oldest = [rows - there for rows, there in zip(written, held, strict=True)]
        for shard, rows in enumerate(written):
            mine = [segment for segment in segments if segment.shard == shard]
            if rows and (not mine or mine[0].first > oldest[shard] or mine[-1].end != rows):
                raise DamagedError(f"the segments in {str(self.folder)!r} must hold the rows {oldest[shard]} to {rows}")
        if len(replays) == len(written):
            for shard, replay in enumerate(replays):
                replay.begin(written[shard], held[shard])
            for segment in segments:
                replays[segment.shard].put(self._read(segment, oldest[segment.shard], replays[0]))
            self.segments = list(segments)
            return
        # Counted from where no file was counted before, as those are kept for other checkpoints.
        start = -(-max(written) // replays[0].size) * replays[0].size
        for index, replay in enumerate(replays):
            rows = len(range(index, sum(held), len(replays)))
            replay.begin(start + rows, rows)
        turn = 0
        for segment in sorted(segments, key=lambda segment: segment.end / written[segment.shard]):
            turn = deal(self._read(segment, oldest[segment.shard], replays[0]), replays, turn)
        self.segments = []

    def delete_all_but(self, kept: Iterable[Segment]) -> None:
        """Delete the files of all other segments, and what an interrupted write left."""
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
        of_rank = f"rank{shard}-" if shard else ""
        path = self.folder / f"{of_rank}rows-{first:012d}-{end:012d}.pt"
        write_atomically(path, lambda file: torch.save(tensors, file))
        return Segment(file=path.name, first=first, end=end, digest=digest_of(path), shard=shard)

    def _read(self, segment: Segment, oldest: int, like: AnyReplay) -> TensorDictBase:
        """The rows of a segment from ``oldest`` on."""
        path = self.folder / segment.file
        check_digest(path, segment.digest)
        rows = like.rows_from(read_tensors(path))
        return rows[max(oldest - segment.first, 0) :]  # pyright: ignore[reportReturnType]
