"""What a run leaves behind: config.yaml, metrics.csv, summary.json, policy.pt, learning_curve.png."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from masac.checks import ConfigError
from masac.training.atomic import write_atomically
from masac.training.config import ExperimentConfig
from masac.training.policy import Policy
from masac.training.saved_policy import save_policy

PACKAGES = ("masac", "torch", "torchrl", "tensordict", "numpy", "vmas", "pettingzoo", "mpe2")
"""The packages whose versions a summary records, where they are installed."""


class RunFiles:
    """The files of one run.

    Args:
        run_dir: their folder, made if need be.
        writes: whether this process is the one that writes; the methods of another do nothing.

    Raises:
        ConfigError: if a run is there already.
    """

    def __init__(self, run_dir: Path, *, writes: bool = True) -> None:
        self.run_dir = run_dir
        self.writes = writes
        if not writes:
            return
        if (run_dir / "metrics.csv").exists():
            raise ConfigError(f"run_dir must not hold a run yet; got {str(run_dir)!r}. Change it with run_dir=...")
        run_dir.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: ExperimentConfig) -> None:
        """Write ``config.yaml``, which ``masac`` can read back."""
        if not self.writes:
            return
        (self.run_dir / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(config))))

    def open_metrics(self, columns: list[str]) -> Metrics:
        """Start ``metrics.csv``."""
        return Metrics(self.run_dir / "metrics.csv" if self.writes else Path(os.devnull), columns)

    def write_policy(self, policy: Policy, config: ExperimentConfig, *, frames: int) -> None:
        """Write ``policy.pt``."""
        if self.writes:
            save_policy(self.run_dir / "policy.pt", policy, config, frames=frames)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        if not self.writes:
            return
        installed = {}
        for name in PACKAGES:
            with suppress(PackageNotFoundError):
                installed[name] = version(name)
        text = json.dumps({**summary, "versions": installed}, indent=2)
        write_atomically(self.run_dir / "summary.json", lambda path: path.write_text(text + "\n"))


class Metrics:
    """A CSV file with one row an iteration.

    Args:
        path: the file.
        columns: its header.
    """

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._file = path.open("w", newline="", buffering=1)
        self._writer = csv.DictWriter(self._file, columns)
        self._writer.writeheader()

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Append a row; what is None stays empty."""
        self._writer.writerow({name: _text(value) for name, value in row.items()})

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _text(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
