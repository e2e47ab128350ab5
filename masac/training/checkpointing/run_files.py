"""The files of a run besides its checkpoints: config, metrics, summary, policy, learning curve, videos."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import math
import os
import platform
import shlex
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tensordict import TensorDictBase

from masac.errors import ConfigError, RunFailedError
from masac.files.atomic_write import disk_is_full, flush_names, write_atomically
from masac.files.package_versions import installed_version
from masac.keys import as_path
from masac.plotting.plots import plot_learning_curve
from masac.training.checkpointing.checkpoints import FOLDER, found_in
from masac.training.config import ExperimentConfig
from masac.training.distributed.ranks import OtherRankFailedError, RankLostError
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import save_policy

PACKAGES = ("masac", "torch", "torchrl", "tensordict", "numpy", "vmas", "pettingzoo", "mpe2")
"""The packages whose versions a summary and a checkpoint record, if they are installed."""

VIDEOS = "videos"
"""The folder of the videos of a run."""


class RunFiles:
    """The files of one run.

    Args:
        run_dir: their folder, created if it does not exist.
        writes: whether this process writes; otherwise the methods do nothing.
        resumes: whether the folder may hold a run already.

    Raises:
        ConfigError: if the folder holds a run that is not resumed, or cannot be written to.
    """

    def __init__(self, run_dir: Path, *, writes: bool = True, resumes: bool = False) -> None:
        self.run_dir = run_dir
        self.writes = writes
        if not writes:
            return
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._unlock = weakref.finalize(self, os.close, _lock(run_dir))
            if not resumes and (found_in(run_dir / FOLDER) or self._worth_keeping()):
                self._unlock()
                raise ConfigError(
                    f"run_dir must not hold a run yet; got {str(run_dir)!r}. Change it with run_dir=..., or resume the "
                    f"run with {self.resume_command}"
                )
            flush_names(run_dir.parent)
            (run_dir / "error.log").unlink(missing_ok=True)  # of an earlier start
        except OSError as error:
            step = "Make it writable, or resume a copy of it" if resumes else "Change it with run_dir=..."
            raise ConfigError(f"run_dir must be a writable folder; got {str(run_dir)!r}: {error}. {step}") from None

    @property
    def resume_command(self) -> str:
        """The command that resumes the run."""
        return f"masac train --resume {shlex.quote(str(self.run_dir))}"

    def explain(self, error: BaseException, *, newest: Path | None) -> RunFailedError | None:
        """The error to raise for a full disk or a lost rank, with the command that resumes the run; None for others.

        Args:
            error: what was raised.
            newest: the last complete checkpoint.
        """
        if disk_is_full(error):
            return RunFailedError(
                f"the disk must have free space for the files of a run; got none below {self.run_dir}. The last "
                f"complete checkpoint is {newest or 'none'}. Free some, then resume with {self.resume_command}",
                names_resume_command=True,
            )
        if isinstance(error, RankLostError | OtherRankFailedError):
            return RunFailedError(f"{error} Resume with {self.resume_command}", names_resume_command=True)
        return None

    def check_barely_begun(self) -> None:
        """Raise ConfigError if starting a run without checkpoints again would overwrite its results."""
        if self.writes and (name := self._worth_keeping()):
            raise ConfigError(
                f"a run must have checkpoints to be resumed; {str(self.run_dir)!r} has a {name} but no checkpoint. "
                "Start another run with another run_dir=..."
            )

    def _worth_keeping(self) -> str | None:
        """The first result file in the folder; None after a run that failed before it had any."""
        return next((name for name in ("summary.json", "policy.pt") if (self.run_dir / name).exists()), None)

    def close(self) -> None:
        """Release the lock, so that another process may resume the run."""
        if self.writes:
            self._unlock()

    def write_config(self, config: ExperimentConfig) -> None:
        """Write ``config.yaml``."""
        if not self.writes:
            return
        text = OmegaConf.to_yaml(OmegaConf.create(asdict(config)))
        write_atomically(self.run_dir / "config.yaml", lambda file: file.write(text.encode()))

    def open_metrics(
        self, columns: list[str], *, frames: int, warn: Callable[[str], None] = lambda line: None
    ) -> Metrics:
        """Start ``metrics.csv``, or continue it from ``frames``.

        Args:
            columns: its header; columns of the file that callbacks added are appended.
            frames: of a resumed run; 0 for a new one.
            warn: prints a warning with the new name of an earlier ``metrics.csv`` whose run left no checkpoint.
        """
        if not self.writes:
            return Metrics(Path(os.devnull), columns)
        path = self.run_dir / "metrics.csv"
        if frames:
            columns += [name for name in header_of(path) if name not in columns]  # of callbacks
            cut_metrics(path, columns, frames)
        elif has_updates(path):
            kept = next(name for n in itertools.count(1) if not (name := path.with_name(f"metrics-{n}.csv")).exists())
            path.rename(kept)
            warn(f"an earlier run in {self.run_dir} left no checkpoint; its metrics.csv is kept as {kept.name}")
        return Metrics(path, columns, append=frames > 0)

    def first_success(self, rate: float) -> dict[str, int | float | None]:
        """Frames and seconds of the first evaluation in ``metrics.csv`` with a success rate of at least ``rate``."""
        path = self.run_dir / "metrics.csv"
        if path.is_file():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if row.get("eval/success_rate") and float(row["eval/success_rate"]) >= rate:
                        return {"solved_frames": int(row["frames"]), "solved_s": float(row["wall_time_s"])}
        return {"solved_frames": None, "solved_s": None}

    def last_evaluated_row(self, frames: int) -> dict[str, str]:
        """The last row of ``metrics.csv`` with an evaluation, of those up to ``frames``; empty if there is none."""
        rows = whole_rows(self.run_dir / "metrics.csv")
        evaluated = [row for row in rows if row.get("eval/return_mean") and int(row["frames"]) <= frames]
        return evaluated[-1] if evaluated else {}

    def complete_last_row(self, frames: int, evaluation: Mapping[str, float | int | str | None]) -> None:
        """Write an evaluation into the row of these frames, if it is the last one of ``metrics.csv``."""
        path = self.run_dir / "metrics.csv"
        rows = whole_rows(path)
        if self.writes and rows and int(rows[-1]["frames"]) == frames:
            row = rows[-1] | {name: _text(value) for name, value in evaluation.items() if name in rows[-1]}
            cut_metrics(path, list(row), frames - 1, then=[row])

    def video_file(self, frames: int, suffix: str) -> Path:
        """The file of the video at these frames."""
        return self.run_dir / VIDEOS / f"frames-{frames:012d}{suffix}"

    def delete_later_videos(self, frames: int) -> None:
        """Delete the videos after these frames, which a resumed run collects again."""
        if self.writes:
            for file in (self.run_dir / VIDEOS).glob("frames-*.*"):
                if (number := file.stem.removeprefix("frames-")).isdecimal() and int(number) > frames:
                    file.unlink()

    def write_policy(self, policy: Policy, config: ExperimentConfig, *, frames: int) -> None:
        """Write ``policy.pt``."""
        if self.writes:
            save_policy(self.run_dir / "policy.pt", policy, config, frames=frames)

    def write_batch(self, batch: TensorDictBase) -> Path:
        """Write ``nonfinite_batch.pt``, a batch's tensors by name."""
        path = self.run_dir / "nonfinite_batch.pt"
        tensors = {"/".join(as_path(key)): value.detach().cpu() for key, value in batch.items(True, True)}
        if self.writes:
            write_atomically(path, lambda file: torch.save(tensors, file))
        return path

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        if not self.writes:
            return
        text = json.dumps({**summary, "versions": installed_versions()}, indent=2)
        write_atomically(self.run_dir / "summary.json", lambda file: file.write(f"{text}\n".encode()))

    def draw_learning_curve(self, warn: Callable[[str], None]) -> None:
        """Draw ``learning_curve.png``. A finished run must not fail for its picture, so errors become warnings.

        Args:
            warn: prints a warning.
        """
        if not self.writes:
            return
        try:
            plot_learning_curve(self.run_dir)
        except (ConfigError, OSError) as error:
            warn(f"there is no learning curve: {error}")


class Metrics:
    """A CSV file with one row per iteration.

    Args:
        path: the file.
        columns: its header.
        append: whether the file exists and gets more rows.
    """

    def __init__(self, path: Path, columns: list[str], *, append: bool = False) -> None:
        self._path, self._columns = path, list(columns)
        self._open("a" if append else "w")
        if not append:
            self._writer.writeheader()

    def _open(self, mode: str) -> None:
        self._file = self._path.open(mode, newline="", buffering=1)
        self._writer = csv.DictWriter(self._file, self._columns)

    def add_columns(self, names: Sequence[str]) -> None:
        """Append columns, whose cells are empty in the rows so far."""
        self._columns += names
        self._file.close()
        if self._path.is_file():  # not os.devnull
            cut_metrics(self._path, self._columns, math.inf)
        self._open("a")

    def write(self, row: Mapping[str, float | int | str | None]) -> None:
        """Append a row; the cell of None is empty."""
        self._writer.writerow({name: _text(value) for name, value in row.items()})

    def replace_last(self, row: Mapping[str, float | int | str | None]) -> None:
        """Replace the last row by one of the same frames; names without a column get one."""
        self._columns += [name for name in row if name not in self._columns]
        self._file.close()
        if self._path.is_file():
            texts = {name: _text(value) for name, value in row.items()}
            cut_metrics(self._path, self._columns, int(row["frames"] or 0) - 1, then=[texts])
        self._open("a")

    def flush(self) -> None:
        """Flush all rows to the disk."""
        self._file.flush()
        with suppress(OSError):  # os.devnull has no disk
            os.fsync(self._file.fileno())

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages that a run's numbers depend on."""
    found = {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}}
    return {name: number for name, number in found.items() if number is not None}


def has_updates(path: Path) -> bool:
    """Whether a ``metrics.csv`` has a row with updates."""
    if not path.is_file():
        return False
    with path.open(newline="") as file:
        return any((row.get("updates") or "0") != "0" for row in csv.DictReader(file))


def header_of(path: Path) -> list[str]:
    """The columns of a ``metrics.csv``; empty without a file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def whole_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a ``metrics.csv``; empty without a file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        # The row being written when the process was killed is incomplete: it has too few numbers.
        return [row for row in csv.DictReader(file) if None not in row.values() and row["frames"].isdigit()]


def cut_metrics(path: Path, columns: list[str], frames: float, *, then: Sequence[Mapping[str, str]] = ()) -> None:
    """Keep the rows of ``metrics.csv`` up to ``frames``, as a resumed run collects the later frames again.

    Args:
        path: of the file.
        columns: its new header.
        frames: of the last row to keep.
        then: rows that follow it.
    """
    rows = (row for row in whole_rows(path) if int(row["frames"]) <= frames)
    kept = [{name: row.get(name, "") for name in columns} for row in rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows([*kept, *then])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _lock(run_dir: Path) -> int:
    """Lock a folder against other training processes until the returned descriptor is closed."""
    descriptor = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
                return descriptor
            os.close(descriptor)
            raise ConfigError(
                f"a run must be trained by one process at a time; another process trains {str(run_dir)!r}. Wait for "
                "it, or end it"
            ) from None
    return descriptor


def _text(value: float | int | str | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int | str) else f"{value:.6g}"
