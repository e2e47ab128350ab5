"""Returns and times of the default run: python -m benchmarks.default_run [--seeds 0 1 2] [--json FILE].

Runs ``masac train`` once per seed, one after another, and prints a table of the runs' summaries.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import print_table, write_json


def main() -> None:
    """Run all seeds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--overrides", nargs="*", default=[], help="more arguments for masac train")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [train(seed, Path(folder), arguments.overrides) for seed in arguments.seeds]
    columns = (
        "seed",
        "evaluation return per agent",
        "success rate (95% interval)",
        "frames",
        "training, s",
        "to solved, s",
        "to solved, frames",
    )
    rows = [
        (
            run["seed"],
            f"{run['eval_return_mean']:.3f}",
            f"{run['eval_success_rate']:.0%} ({run['eval_success_low']:.0%} to {run['eval_success_high']:.0%})",
            f"{run['frames']:,}",
            f"{run['wall_time_s']:.0f}",
            "-" if run["solved_s"] is None else f"{run['solved_s']:.0f}",
            "-" if run["solved_frames"] is None else f"{run['solved_frames']:,}",
        )
        for run in runs
    ]
    print_table("masac train", columns, rows)
    write_json(arguments.json, {"runs": runs}, device="cpu")


def train(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run ``masac train seed=...`` and read its summary; solved means an evaluation of 97% success or more."""
    run_dir = folder / str(seed)
    command = [sys.executable, "-m", "masac", "train", f"seed={seed}", f"run_dir={run_dir}", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((run_dir / "summary.json").read_text())


if __name__ == "__main__":
    main()
