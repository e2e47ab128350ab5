"""The learning curve."""

from __future__ import annotations

import csv
from pathlib import Path


def plot_learning_curve(metrics: Path, out: Path, *, title: str) -> None:
    """Draw the training and evaluation return of ``metrics.csv`` over frames."""
    from matplotlib.figure import Figure  # imported where used: slow, and needed at the end of a run only

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    for column, label, style in (
        ("train/return_mean", "training, with noise", {"color": "0.65", "linewidth": 1.2}),
        ("eval/return_mean", "evaluation", {"color": "tab:blue", "linewidth": 2, "marker": "o", "markersize": 4}),
    ):
        points = [(int(row["frames"]), float(row[column])) for row in rows if row[column]]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.set(xlabel="environment frames", ylabel="mean return per agent", title=title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(out)
