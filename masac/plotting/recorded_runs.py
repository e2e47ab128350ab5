"""Reads configs and metrics from the folders of runs. Imports no PyTorch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from masac.envs.config import task_name
from masac.errors import ConfigError
from masac.plotting.statistics import Floats

X_COLUMNS = {"frames": "frames", "time": "wall_time_s"}
"""The x axes of a curve and their columns in metrics.csv."""

EVALUATION = "eval/return_mean"
"""The column of the mean return per agent in evaluations; with the prefix ``group/`` that of one group."""

NOT_SET = "not set"
"""The value of a key that the config of a run does not have."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Values over frames or seconds.

    Args:
        x: [points], increasing.
        y: [points].
    """

    x: Floats
    y: Floats

    def at(self, x: Floats) -> Floats:
        """The values at ``x``, linear between the points; NaN before the first and after the last."""
        return np.interp(x, self.x, self.y, left=np.nan, right=np.nan) if len(self.x) else np.full(len(x), np.nan)

    def thinned(self, most: int) -> Curve:
        """At most ``most`` points, each the mean of consecutive points; itself if it has no more."""
        if len(self.x) <= most:
            return self
        stretches = np.linspace(0, len(self.x), most + 1).astype(int)[:-1]
        counts = np.diff(np.append(stretches, len(self.x)))
        return Curve(np.add.reduceat(self.x, stretches) / counts, np.add.reduceat(self.y, stretches) / counts)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """A run as its folder records it.

    Args:
        path: the folder.
        suite: the suite of the task, such as vmas.
        task: its name in the suite.
        algorithm: its name.
        seed: of everything random.
        config: the contents of config.yaml.
        table: the columns of metrics.csv by name, NaN where a cell is empty.
        groups: the groups of agents, in order.
        finished: whether it has the number of frames that its config sets.
    """

    path: Path
    suite: str
    task: str
    algorithm: str
    seed: int
    config: Mapping[str, Any]
    table: Mapping[str, Floats]
    groups: tuple[str, ...]
    finished: bool

    @property
    def title(self) -> str:
        """The task with its suite, as ``task=`` takes it."""
        return f"{self.suite}/{self.task}"

    def setting(self, key: str) -> str:
        """The value of a dotted key of the config, as text."""
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return NOT_SET
            value = value[part]
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    def names(self, metric: str, group: str | None = None) -> list[str]:
        """The columns of a metric: the one with this name, else those named ``group/metric``."""
        if group is not None:
            name = metric if metric.startswith(f"{group}/") else f"{group}/{metric}"
            return [name] if name in self.table else []
        if metric in self.table:
            return [metric]
        return [name for name in (f"{one}/{metric}" for one in self.groups) if name in self.table]

    def curve(self, metric: str = EVALUATION, group: str | None = None, *, x: str = "frames") -> Curve:
        """A metric over frames or time; without points if the run has no such column, or several.

        Args:
            metric: a column of metrics.csv, or what follows ``group/`` in its name.
            group: the group; None for all agents that learn, or the only group with this metric.
            x: frames or time.
        """
        names = self.names(metric, group)
        return self.column(names[0] if len(names) == 1 else "", x=x)

    def column(self, name: str, *, x: str = "frames") -> Curve:
        """The finite values of a column over frames or time; without points if there is no such column."""
        over = self.table[X_COLUMNS[x]]
        values = self.table.get(name, np.full(len(over), np.nan))
        there = np.isfinite(values) & np.isfinite(over)
        return Curve(over[there], values[there])


def find_runs(folders: Iterable[Path]) -> list[RecordedRun]:
    """Read all runs in the folders and below them, each once, ordered by task, algorithm and seed.

    A run's folder holds config.yaml and metrics.csv.

    Raises:
        ConfigError: for a folder that does not exist or holds no run, and for a run that cannot be read.
    """
    paths: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"RUN_DIR must be a folder; got {str(folder)!r}, which is not one.")
        found = [file.parent for file in folder.rglob("metrics.csv") if (file.parent / "config.yaml").is_file()]
        if not found:
            raise ConfigError(
                f"RUN_DIR must hold a run (config.yaml and metrics.csv) or folders of runs; got {str(folder)!r}, "
                "which contains none. masac train writes them."
            )
        paths |= {path.resolve(): path for path in found}
    runs = [read_run(path) for path in paths.values()]
    return sorted(runs, key=lambda run: (run.suite, run.task, run.algorithm, run.seed, run.path))


def read_run(path: Path) -> RecordedRun:
    """Read the folder of a run, finished or not.

    Raises:
        ConfigError: if a file is not as ``masac train`` writes it.
    """
    config = _read_config(path / "config.yaml")
    table = read_table(path / "metrics.csv")
    groups = tuple(name.removesuffix(f"/{EVALUATION}") for name in table if name.endswith(f"/{EVALUATION}"))
    try:
        task, algorithm, seed = config["task"], str(config["algorithm"]["name"]), int(config["seed"])
        suite, name = task["suite"], task_name(task.get("scenario"), task.get("factory"))
        finished = bool((table["frames"] >= config["training"]["total_frames"]).any())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from None
    return RecordedRun(
        path=path,
        suite=suite,
        task=name,
        algorithm=algorithm,
        seed=seed,
        config=config,
        table=table,
        groups=groups,
        finished=finished,
    )


def sample_size(runs: Sequence[RecordedRun]) -> str:
    """``5 seeds``; ``6 runs`` if a seed was run more than once."""
    what = "seed" if len({run.seed for run in runs}) == len(runs) else "run"
    return f"{len(runs)} {what}{'s' if len(runs) != 1 else ''}"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error).splitlines()[0]) from None
    if not isinstance(config, dict):
        raise _unreadable(path, f"a {type(config).__name__} in config.yaml")
    return {str(key): value for key, value in config.items()}


def read_table(path: Path) -> dict[str, Floats]:
    """The columns of a ``metrics.csv`` by name, NaN where a cell is empty.

    Raises:
        ConfigError: if the file is not as ``masac train`` writes it.
    """
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # the run is still writing its last row
    reader = csv.reader(lines)
    names = next(reader, [])
    try:
        rows = [[float(cell) if cell else np.nan for cell in row] for row in reader]
        cells = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    except ValueError as error:
        raise _unreadable(path, str(error)) from None
    table = dict(zip(names, cells.T, strict=True))
    if missing := [name for name in X_COLUMNS.values() if name not in table]:
        raise _unreadable(path, f"no column {missing[0]} in metrics.csv")
    return table


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"a run must be as masac train writes it; got {str(path)!r}: {why}. Leave it out.")
