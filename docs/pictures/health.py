"""Draws docs/pictures/health.png, a run that learns beside two that do not: python -m docs.pictures.health [-o FILE].

Trains the three runs first, on VMAS navigation (``--frames`` each, into ``--runs``), unless they exist already.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt

RUNS = {
    "learns: the default run": [],
    "temperature fixed too high": ["algorithm.fixed_alpha=true", "algorithm.alpha_init=0.3"],
    "too few updates": ["training.updates_per_frame=0.004"],
}
"""The overrides of each run, by its label."""

COLUMNS = {
    "agents/entropy": "entropy, nats per agent",
    "agents/alpha": "temperature",
    "agents/qvalue": "mean value",
    "eval/return_mean": "mean evaluation return per agent",
}


def train(run_dir: Path, overrides: list[str], *, frames: int) -> None:
    """Train a run, unless it exists already."""
    if not (run_dir / "summary.json").exists():
        words = [f"run_dir={run_dir}", f"training.total_frames={frames}", "logging.progress=off", *overrides]
        subprocess.run([sys.executable, "-m", "masac", "train", *words], check=True)


def read(metrics: Path) -> dict[str, list[tuple[float, float]]]:
    """The columns of a metrics.csv as (frames, value), without empty cells."""
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [(float(row["frames"]), float(row[name])) for row in rows if row[name]] for name in COLUMNS}


def draw(tables: dict[str, dict[str, list[tuple[float, float]]]], file: Path) -> None:
    """Draw every column of every run.

    Args:
        tables: results of :func:`read`, by the labels of the runs.
        file: where the picture is written.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), sharex=True, layout="constrained")
    for axis, (column, title) in zip(axes.flat, COLUMNS.items(), strict=True):
        for label, table in tables.items():
            axis.plot(*zip(*table[column], strict=True), label=label, linewidth=1.5)
        axis.set_title(title, loc="left", fontsize=12)
        axis.grid(alpha=0.3)
    axes[0, 1].set_yscale("log")  # the temperature falls by orders of magnitude
    for axis in axes[1]:
        axis.set_xlabel("frames")
    axes[0, 0].legend(frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Train the runs and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--frames", type=int, default=60_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/health"))
    arguments = parser.parse_args()
    tables = {}
    for index, (label, overrides) in enumerate(RUNS.items()):
        run_dir = arguments.runs / str(index)
        train(run_dir, overrides, frames=arguments.frames)
        tables[label] = read(run_dir / "metrics.csv")
    draw(tables, arguments.out)


if __name__ == "__main__":
    main()
