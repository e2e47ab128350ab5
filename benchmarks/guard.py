"""Fails if masac has become slower relative to TorchRL: python -m benchmarks.guard.

Repeats small cases of ``benchmarks.update_step`` and ``benchmarks.collection`` and compares their ratios of TorchRL's
time to masac's with the recorded ones in ``benchmarks/results``. Ratios within one process also hold on a slower
machine. A ratio below ``TOLERATED`` times the recorded one is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from typing import Any

from benchmarks import collection, update_step
from benchmarks.report import RESULTS, print_table

TOLERATED = 0.8
UPDATES = [(128, True, True), (128, True, False), (128, False, True), (128, False, False)]
"""(batch, shared, centralized)."""
COLLECTIONS = [("navigation", 64)]


def main() -> None:
    """Run and print the cases; fail if one is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    found = [*_updates(arguments.device), *_collections(arguments.device)]
    rows = [(name, f"{recorded:.2f}", f"{now:.2f}", f"{now / recorded:.0%}") for name, recorded, now in found]
    print_table("TorchRL's time / masac's", ("case", "recorded", "now", "now / recorded"), rows)
    slow = [name for name, recorded, now in found if now < TOLERATED * recorded]
    if slow:
        sys.exit(
            f"ratios must be at least {TOLERATED:.0%} of the recorded ones; got less for {', '.join(slow)}. Find out "
            "what became slower, or record the results again (see benchmarks/README.md) and explain why"
        )


def _updates(device: str) -> list[tuple[str, float, float]]:
    recorded = json.loads((RESULTS / "update_step.json").read_text())["cases"]
    found = []
    for batch, share, centralized in UPDATES:
        sizes = {"batch": batch, "shared": share, "centralized": centralized}
        before = _find(recorded, sizes)
        now = update_step.time_case(
            batch,
            share=share,
            centralized=centralized,
            contenders=["graph"],
            device=device,
            rounds=7,
            seconds=0.4,
            rate=1.0,
        )
        found.append((f"update {sizes}", before["ratio"]["graph"], now["ratio"]["graph"]))
    return found


def _collections(device: str) -> list[tuple[str, float, float]]:
    recorded = json.loads((RESULTS / "collection.json").read_text())["cases"]
    found = []
    for task, envs in COLLECTIONS:
        sizes = {"task": task, "envs": envs}
        before = _find(recorded, sizes)
        now = collection.time_case(task, envs, device=device, steps=10, rounds=7, seconds=0.5)
        found.append((f"collection {sizes}", before["masac_over_torchrl"], now["masac_over_torchrl"]))
    return found


def _find(cases: list[dict[str, Any]], sizes: dict[str, Any]) -> dict[str, Any]:
    return next(case for case in cases if all(case[name] == value for name, value in sizes.items()))


if __name__ == "__main__":
    main()
