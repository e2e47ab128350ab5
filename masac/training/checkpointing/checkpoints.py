"""Checkpoints of a run, from which it resumes as if it had not stopped.

A checkpoint is a folder ``checkpoints/frames-NNNNNNNNNNNN`` with ``state.pt`` (tensors by name), ``policy.pt`` and
``checkpoint.json`` (counters, config, versions, digests of the files); the rows of the replay buffer are in
``checkpoints/buffer``, shared by all checkpoints. It is written under another name, flushed to the disk, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masac.files.atomic_write import flush_names, write_through
from masac.files.integrity import DamagedError, check_digest, digest_of, read_tensors
from masac.training.checkpointing.replay_files import ReplayFiles, Segment
from masac.training.replay.sharded import AnyReplay

FORMAT = 1
FOLDER = "checkpoints"
NAME = re.compile(r"frames-(\d{12})")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of ``checkpoint.json``.

    Args:
        folder: of the checkpoint.
        frames: environment frames collected.
        updates: applied updates.
        skipped: updates that were skipped because something in them was not finite.
        dropped: updates that will never be taken, as their frames filled an empty replay buffer.
        learns_from: frames from which on updates are due after that; 0 if the buffer never had to be filled again.
        wall_time_s: duration of the run so far.
        eval_return: mean evaluation return at these frames; None if there was no evaluation.
        config: of the run.
        versions: of the packages that it was written with.
        written: for each rank, the rows that its buffer stored in all.
        segments: the files of the buffers; None without buffers.
        digests: SHA-256 of its files.
    """

    folder: Path
    frames: int
    updates: int
    skipped: int
    dropped: int
    learns_from: int
    wall_time_s: float
    eval_return: float | None
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    written: Sequence[int]
    segments: Sequence[Segment] | None
    digests: Mapping[str, str]

    def has_buffers_of(self, ranks: int) -> bool:
        """Whether it holds replay buffers, for this number of ranks."""
        return self.segments is not None and len(self.written) == ranks

    def tensors(self) -> dict[str, Tensor]:
        """The state.

        Raises:
            DamagedError: if a file is missing or damaged.
        """
        for name, digest in self.digests.items():
            check_digest(self.folder / name, digest)
        return read_tensors(self.folder / "state.pt")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run_dir: the run's folder.
        keep: number of newest checkpoints that are kept, besides the best.
        with_buffer: whether they hold the replay buffer.
    """

    def __init__(self, run_dir: Path, *, keep: int, with_buffer: bool) -> None:
        self.folder = run_dir / FOLDER
        self.keep = keep
        self.replay_files = ReplayFiles(self.folder / "buffer") if with_buffer else None
        self.best_return = -math.inf
        self.newest: Path | None = None

    def save(
        self,
        tensors: Mapping[str, Tensor],
        write_policy: Callable[[Path], None],
        replays: Sequence[AnyReplay],
        *,
        about: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint, then delete those that are no longer kept.

        Args:
            tensors: the state, by name.
            write_policy: writes the policy to a file.
            replays: the buffers of all ranks.
            about: the other fields of a :class:`Checkpoint`.

        Returns:
            Its folder.
        """
        segments = None if self.replay_files is None else self.replay_files.save(replays)
        folder = self.folder / f"frames-{about['frames']:012d}"
        temporary = self.folder / f".{folder.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            write_through(temporary / "state.pt", lambda file: torch.save(dict(tensors), file))
            write_policy(temporary / "policy.pt")
            fields = {
                **about,
                "written": [replay.written for replay in replays],
                "segments": None if segments is None else [asdict(segment) for segment in segments],
                "digests": {name: digest_of(temporary / name) for name in ("state.pt", "policy.pt")},
            }
            text = json.dumps({"format": FORMAT, "digest": _digest(fields), "checkpoint": fields}, indent=1)
            write_through(temporary / "checkpoint.json", lambda file: file.write(text.encode()))
            flush_names(temporary)
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        flush_names(self.folder)
        flush_names(self.folder.parent)
        self.newest = folder
        self._prune()
        return folder

    def bytes_on_disk(self) -> int:
        """The size of all checkpoints."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def load_buffers(self, checkpoint: Checkpoint, replays: Sequence[AnyReplay]) -> None:
        """Fill the buffers of all ranks with those of a checkpoint; empty them if it has none for this number of ranks.

        Raises:
            DamagedError: if a file of the buffer is missing or damaged.
        """
        if checkpoint.has_buffers_of(len(replays)) and self.replay_files is not None:
            self.replay_files.load(checkpoint.segments or (), replays, written=checkpoint.written)
            return
        for replay in replays:
            replay.restore((), written=0)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint the newest one; later ones, which are damaged, are renamed."""
        self.newest = checkpoint.folder
        for folder in found_in(self.folder):
            if _frames(folder) > checkpoint.frames:
                aside = folder.with_name(f"damaged-{folder.name}")
                _remove(aside)
                os.replace(folder, aside)
        best = _best(_readable(self.folder))
        self.best_return = -math.inf if best is None or best.eval_return is None else best.eval_return

    def _prune(self) -> None:
        """Delete all but the newest and the best, then the rows that none of these needs."""
        whole = _readable(self.folder)  # newest first
        best = _best(whole)
        if best is not None and best.eval_return is not None:
            self.best_return = best.eval_return
        kept = [one for index, one in enumerate(whole) if index < self.keep or one is best]
        for one in whole:
            if one not in kept:
                _remove(one.folder)
        for path in self.folder.iterdir():
            if path.name.startswith("."):  # left by a killed process
                shutil.rmtree(path, ignore_errors=True)
        # A checkpoint that cannot be read at the moment may need rows too.
        if self.replay_files is not None and len(found_in(self.folder)) == len(kept):
            self.replay_files.delete_all_but(segment for one in kept for segment in one.segments or ())


def found_in(folder: Path) -> list[Path]:
    """The folders of checkpoints below ``folder``, damaged or not, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), key=_frames, reverse=True)


def newest_of(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint of a run."""
    return next(iter(_readable(run_dir / FOLDER)), None)


def best_of(run_dir: Path) -> Checkpoint | None:
    """The checkpoint of a run with the highest evaluation return; the newest of several."""
    return _best(_readable(run_dir / FOLDER))


def _best(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    rated = [one for one in checkpoints if one.eval_return is not None and math.isfinite(one.eval_return)]
    return max(rated, key=lambda one: (one.eval_return, one.frames), default=None)


def _readable(folder: Path) -> list[Checkpoint]:
    """The checkpoints below ``folder`` with a readable ``checkpoint.json``, the newest first."""
    found = []
    for one in found_in(folder):
        with suppress(DamagedError):
            found.append(read_checkpoint(one))
    return found


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read ``checkpoint.json``.

    Raises:
        DamagedError: if it is damaged, or was written by another program or version.
    """
    try:
        content = json.loads((folder / "checkpoint.json").read_text())
        fields = content["checkpoint"]
        if content["format"] != FORMAT:
            raise DamagedError(f"it has format {content['format']}, this version of masac reads {FORMAT}")
        if content["digest"] != _digest(fields):
            raise DamagedError("checkpoint.json was changed after it was written")
        segments = fields["segments"]
        names = Checkpoint.__dataclass_fields__
        return Checkpoint(
            folder=folder,
            segments=None if segments is None else [Segment(**segment) for segment in segments],
            **{name: fields[name] for name in names if name not in ("folder", "segments")},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"checkpoint.json cannot be read ({type(error).__name__}: {error})") from None


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _frames(folder: Path) -> int:
    match = NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1])


def _remove(folder: Path) -> None:
    """Delete a folder; it is renamed first, so that a half-deleted one is never read."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(folder, doomed)
        shutil.rmtree(doomed)
