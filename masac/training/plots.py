"""The learning curve."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_learning_curve(metrics: Path, out: Path, *, title: str, groups: Sequence[str]) -> None:
    """Draw the training and evaluation return of every group in ``metrics.csv`` over frames."""
    from matplotlib.figure import Figure  # imported where used: slow, and needed at the end of a run only

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    for index, group in enumerate(groups):
        whose = f"{group}, " if len(groups) > 1 else ""
        styled: list[tuple[str, str, dict[str, Any]]] = [
            (f"{group}/train/return_mean", "training, with noise", {"alpha": 0.4, "linewidth": 1.2}),
            (f"{group}/eval/return_mean", "evaluation", {"linewidth": 2, "marker": "o", "markersize": 4}),
        ]
        for column, label, style in styled:
            points = [(int(row["frames"]), float(row[column])) for row in rows if row[column]]
            if points:
                axes.plot(*zip(*points, strict=True), label=f"{whose}{label}", color=f"C{index}", **style)
    axes.set(xlabel="environment frames", ylabel="mean return per agent", title=title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, loc="best")
    figure.savefig(out)
