"""What the benchmarks share: tables, and JSON that says where its numbers come from."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from masac.files.versions import installed_version

RESULTS = Path(__file__).parent / "results"
"""What the benchmarks wrote that README.md quotes and ``benchmarks.guard`` compares with."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=140).print(table)


def write_json(path: Path | None, results: Mapping[str, Any], *, device: str) -> None:
    """Write results with versions, device and threads, if a path was given."""
    if path is None:
        return
    about = {
        "versions": {name: installed_version(name) for name in ("masac", "torch", "torchrl", "tensordict")},
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    path.write_text(json.dumps({**about, **results}, indent=2) + "\n")
