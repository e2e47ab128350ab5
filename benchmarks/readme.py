"""Copies measured numbers into README.md: python -m benchmarks.readme [--check].

A block of README.md between ``<!-- numbers: NAME -->`` and ``<!-- end -->`` is written from
``benchmarks/results/NAME.json``; with --check nothing is written, and a block that differs is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write the blocks, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    before = README.read_text()
    after = BLOCK.sub(lambda block: f"{block[1]}{text_of(block[2])}{block[3]}", before)
    if not arguments.check:
        README.write_text(after)
    elif after != before:
        sys.exit("README.md must quote benchmarks/results; it says something else. Run python -m benchmarks.readme")


def text_of(name: str) -> str:
    """The text of a block."""
    results = json.loads((RESULTS / f"{name}.json").read_text())
    return f"{TEXTS[name](results)}\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _update_step(results: dict[str, Any]) -> str:
    means = results["geometric_mean_ratio"]
    rows = []
    for batch in means["masac"]:
        cases = [case for case in results["cases"] if case["batch"] == int(batch)]
        ratios = [case["ratio"]["masac"] for case in cases]
        floors = [case["over_floor"]["masac"] for case in cases]
        rows.append(
            (
                batch,
                f"{means['masac'][batch]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{means['graph'][batch]:.2f}",
                f"{min(floors):.2f} to {max(floors):.2f}",
            )
        )
    return _table(("batch", "compiled", "not compiled", "compiled, over the floor"), rows)


def _collection(results: dict[str, Any]) -> str:
    rows = [
        (
            case["task"],
            case["envs"],
            f"{case['steps_per_second']['masac']['median']:,.0f}",
            f"{case['masac_over_raw']:.2f}",
            f"{case['masac_over_torchrl']:.2f}",
        )
        for case in results["cases"]
    ]
    columns = ("task", "environments", "masac, steps a second", "over a plain loop on VMAS", "over TorchRL's collector")
    return _table(columns, rows)


def _growth(results: dict[str, Any]) -> str:
    names = list(results["updates"][0]["us_a_transition"])
    rows = [
        (case["agents"], *(f"{case['us_a_transition'][name]['median']:,.0f}" for name in names))
        for case in results["updates"]
    ]
    frames = ", ".join(
        f"{case['us_a_frame']['median']:.1f} with {case['environments']:,}" for case in results["collections"]
    )
    return (
        f"{_table(('agents', *names), rows)}\n\nCollecting a frame of `navigation` takes, in µs: {frames} environments."
    )


def _navigation(results: dict[str, Any]) -> str:
    rows = [
        (
            run["seed"],
            f"{run['eval_return_mean']:.3f}",
            f"{run['eval_success_rate']:.0%}",
            f"{run['frames']:,}",
            f"{run['wall_time_s']:.0f} s",
            "-" if run["solved_s"] is None else f"after {run['solved_s']:.0f} s, {run['solved_frames']:,} frames",
        )
        for run in results["runs"]
    ]
    columns = ("seed", "evaluation return an agent", "success rate", "frames", "training")
    return _table((*columns, "first evaluation of 0.9 or more"), rows)


def _startup(results: dict[str, Any]) -> str:
    return _table(
        ("command", "seconds"), [(f"`{name}`", f"{s['median']:.2f}") for name, s in results["seconds"].items()]
    )


TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "update_step": _update_step,
    "collection": _collection,
    "growth": _growth,
    "navigation": _navigation,
    "startup": _startup,
}

if __name__ == "__main__":
    main()
