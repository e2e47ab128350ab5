"""Runs whose results are recorded in a folder, so that the same command continues an interrupted table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masac.files.atomic_write import write_atomically


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run.

    Args:
        task: what is learned.
        system: the contender.
        seed: of everything random.
        overrides: its settings as words; those of a name in a folder must stay the same.
        run: runs it in a folder, or the rest of it, and returns what is recorded, ``seconds`` among it.
    """

    task: str
    system: str
    seed: int
    overrides: Sequence[str]
    run: Callable[[Path], dict[str, Any]]

    @property
    def name(self) -> str:
        """In files and output."""
        return f"{self.task}-{self.system.replace('/', '-').replace(' ', '-')}-seed{self.seed}"


def finished(jobs: Sequence[Job], folder: Path, *, at_a_time: int) -> Iterator[tuple[Job, dict[str, Any] | None]]:
    """The jobs in their order, each with its result once it has one; None for one that failed, which is printed."""
    with ThreadPoolExecutor(at_a_time) as pool:
        for job, found in zip(jobs, pool.map(lambda job: attempt(job, folder), jobs), strict=True):
            if isinstance(found, Exception):
                print(f"{job.name} failed: {found}", flush=True)
            yield job, None if isinstance(found, Exception) else found


def attempt(job: Job, folder: Path) -> dict[str, Any] | Exception:
    """The result of a run, or why there is none."""
    try:
        return result(job, folder)
    except RuntimeError as error:
        return error


def result(job: Job, folder: Path) -> dict[str, Any]:
    """The result of a run, which is started or continued if it is not recorded yet.

    Raises:
        RuntimeError: if it fails, or if the folder has a run of this name with other overrides.
    """
    record = folder / f"{job.name}.json"
    known = json.loads(record.read_text()) if record.exists() else {"overrides": list(job.overrides)}
    if known["overrides"] != list(job.overrides):
        differ = sorted(set(known["overrides"]) ^ set(job.overrides))
        raise RuntimeError(
            f"{record} must have the overrides of its contender; {' '.join(differ)} differ. Give the contender another "
            "name, or use another --folder"
        )
    if "seconds" in known:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    _write(record, known)  # for a run that is cut
    known = {"task": job.task, "system": job.system, "seed": job.seed, **known, **job.run(folder / job.name)}
    _write(record, known)
    return known


def _write(record: Path, known: Mapping[str, Any]) -> None:
    write_atomically(record, lambda file: file.write(json.dumps(known).encode()))
