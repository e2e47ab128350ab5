"""Tables and JSON files of results, for all benchmarks."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from masac.files.package_versions import installed_version

RESULTS = Path(__file__).parent / "results"
"""The recorded results. README.md and docs quote them, and ``benchmarks.guard`` compares with them."""


def summary(values: Sequence[float]) -> dict[str, float]:
    """The median over rounds, and the range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t, two-sided 95%, by the number of runs."""


def mean_with_interval(values: Sequence[float], *, digits: int = 2, unit: str = "") -> str:
    """The mean of 1 to 10 runs, with the interval of the mean (95%, Student's t) from two on: ``3.1 [2.9, 3.3]``."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}{unit}"
    half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f}{unit} [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


def spread(found: Mapping[str, float], digits: int = 1) -> str:
    """A summary as text: ``3.1 (2.9 to 3.3)``."""
    median, least, most = (f"{found[name]:,.{digits}f}" for name in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def runs_except(
    runs: Sequence[dict[str, Any]], keys: Sequence[str], again: Iterable[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """The runs whose values of ``keys`` are not in ``again``: what ``--add`` keeps of an earlier call."""
    again = set(again)
    return [run for run in runs if tuple(run[key] for key in keys) not in again]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=140).print(table)


def write_json(path: Path | None, results: Mapping[str, Any], *, device: str) -> None:
    """Write results with versions, device and threads; without a path nothing."""
    if path is None:
        return
    about = {
        "versions": {name: installed_version(name) for name in ("masac", "torch", "torchrl", "tensordict")},
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    path.write_text(json.dumps({**about, **results}, indent=2) + "\n")
