"""Copies measured numbers into README.md and docs/*.md: python -m benchmarks.fill_docs_numbers [--check].

All numbers come from ``benchmarks/results/NAME.json``. A block between ``<!-- numbers: NAME -->`` and ``<!-- end -->``
is replaced by the table ``TABLES[NAME]``, and a number in a sentence between ``<!-- number: NAME.WHICH -->`` and
``<!-- end -->`` by ``NUMBERS[NAME, WHICH]``.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmarl.tables import INSIDE_COLUMNS, WALL_COLUMNS, inside_rows, wall_rows
from benchmarks.memory_learning import COLUMNS as MEMORY_COLUMNS
from benchmarks.memory_learning import memory_rows
from benchmarks.pettingzoo_learning import COLUMNS as LEARNING_COLUMNS
from benchmarks.pettingzoo_learning import learning_rows
from benchmarks.report import RESULTS
from benchmarks.vmas_report import (
    IMPROVEMENT_COLUMNS,
    SCORE_COLUMNS,
    beside_columns,
    beside_rows,
    improvement_rows,
    return_columns,
    return_rows,
    score_rows,
    solved_rows,
)

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"(<!-- number: (\w+)\.(\w+) -->).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write the numbers, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page differs from the results")
    arguments = parser.parse_args()
    differing = []
    for page in PAGES:
        before = page.read_text()
        after = with_numbers(before)
        if after != before and arguments.check:
            differing.append(str(page.relative_to(ROOT)))
        elif after != before:
            page.write_text(after)
    if differing:
        sys.exit(
            f"pages must quote benchmarks/results; {', '.join(differing)} differ. "
            "Run python -m benchmarks.fill_docs_numbers"
        )


def with_numbers(page: str) -> str:
    """The text of a page with the numbers of the results."""
    page = BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]](_results(block[2]))}\n{block[3]}", page)
    return NUMBER.sub(lambda found: f"{found[1]}{NUMBERS[found[2], found[3]](_results(found[2]))}{found[4]}", page)


def _results(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


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
    return _table(("batch", "compiled", "not compiled", "compiled: time / floor"), rows)


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
    columns = ("task", "environments", "steps per second", "speed / plain loop on VMAS", "speed / TorchRL's collector")
    return _table(columns, rows)


def _pettingzoo_collection(results: dict[str, Any]) -> str:
    rows = [
        (
            case["task"],
            f"{case['steps_per_second']['masac']['median']:,.0f}",
            f"{case['masac_over_raw']:.2f}",
            f"{case['masac_over_torchrl']:.2f}",
        )
        for case in results["cases"]
    ]
    return _table(("task", "steps per second", "speed / plain loop", "speed / TorchRL's collector"), rows)


def _pettingzoo_learning(results: dict[str, Any]) -> str:
    return _table(LEARNING_COLUMNS, learning_rows(results["runs"]))


def _simple_tag_crossplay(results: dict[str, Any]) -> str:
    returns = {
        (match["row"], match["column"]): f"{match['mean']:.1f} [{match['low']:.1f}, {match['high']:.1f}]"
        for match in results["returns_per_agent"]
        if match["group"] == "adversary"
    }
    players = list(dict.fromkeys(row for row, _ in returns))
    rows = [(row, *(returns[row, column] for column in players)) for row in players]
    return _table(("adversaries of", *(f"prey of {player}" for player in players)), rows)


def _vmas_suite(results: dict[str, Any]) -> str:
    runs = results["runs"]
    tables = (
        (SCORE_COLUMNS, score_rows(runs)),
        (IMPROVEMENT_COLUMNS, improvement_rows(runs)),
        (return_columns(runs), return_rows(runs)),
        (beside_columns(runs), beside_rows(runs)),
        (beside_columns(runs), solved_rows(runs)),
    )
    return "\n\n".join(_table(columns, rows) for columns, rows in tables if rows)


def _inside_benchmarl(results: dict[str, Any]) -> str:
    return _table(INSIDE_COLUMNS, inside_rows(results["runs"]))


def _against_benchmarl(results: dict[str, Any]) -> str:
    return _table(WALL_COLUMNS, wall_rows(results["runs"]))


def _scaling(results: dict[str, Any]) -> str:
    rows = [
        (
            case["case"],
            f"{case['frames_per_second']:,.0f}",
            f"{case['updates_per_second']:.0f}",
            f"{case['speedup']:.2f}",
            f"{case['efficiency']:.0%}",
        )
        for case in results["cases"]
    ]
    columns = ("", "frames per second", "updates per second", "speedup over one thread", "efficiency per core")
    return _table(columns, rows)


def _scaling_collectors(results: dict[str, Any]) -> str:
    rows = [
        (
            case["task"],
            case["envs"],
            case["kind"],
            case["workers"],
            "{median:,.0f} ({min:,.0f} to {max:,.0f})".format(**case["frames_per_second"]),
            f"{case['efficiency']:.2f}",
            f"{case['over_local']:.2f}",
        )
        for case in results["collectors"]
    ]
    columns = ("task", "environments", "collector", "workers", "frames per second", "efficiency", "speed / local")
    return _table(columns, rows)


def _growth(results: dict[str, Any]) -> str:
    names = list(results["updates"][0]["us_per_row"])
    rows = [
        (case["agents"], *(f"{case['us_per_row'][name]['median']:,.0f}" for name in names))
        for case in results["updates"]
    ]
    frames = ", ".join(
        f"{case['us_per_frame']['median']:.1f} with {case['environments']:,}" for case in results["collections"]
    )
    table = _table(("agents", *names), rows)
    return f"{table}\n\nCollecting one frame of `navigation` takes, in µs: {frames} environments."


def _default_run(results: dict[str, Any]) -> str:
    rows = [
        (
            run["seed"],
            f"{run['eval_return_mean']:.3f}",
            f"{run['eval_success_rate']:.0%} ({run['eval_success_low']:.0%} to {run['eval_success_high']:.0%})",
            f"{run['frames']:,}",
            f"{run['wall_time_s']:.0f} s",
            "-" if run["solved_s"] is None else f"after {run['solved_s']:.0f} s, {run['solved_frames']:,} frames",
        )
        for run in results["runs"]
    ]
    columns = ("seed", "evaluation return per agent", "success rate (95% interval)", "frames", "training")
    return _table((*columns, "first evaluation of 97% success or more"), rows)


def _startup(results: dict[str, Any]) -> str:
    return _table(
        ("command", "seconds"), [(f"`{name}`", f"{s['median']:.2f}") for name, s in results["seconds"].items()]
    )


def _threads(results: dict[str, Any]) -> str:
    def times(case: dict[str, Any], name: str) -> list[str]:
        found, unit = case["contenders"][name], "ms" if case["case"].startswith("update") else "s"
        digits = 0 if unit == "ms" else 1
        return [f"{found[condition]['median']:.{digits}f} {unit}" for condition in ("alone", "beside")]

    rows = [
        (case["case"], case["contenders"]["auto"]["threads"], *times(case, "auto"), *times(case, "spinning"))
        for case in results["cases"]
    ]
    columns = ("threads", "alone", "beside a busy process", "spinning threads: alone", "beside a busy process")
    table = _table(("", *columns), rows)
    more = [
        f"{case['case']}: {', '.join(times(case, 'one'))} with one thread, {', '.join(times(case, 'passive'))} with "
        f"{case['contenders']['passive']['threads']} threads that sleep while they wait"
        for case in results["cases"]
        if "passive" in case["contenders"]
    ]
    return f"{table}\n\nAlone, and beside a busy process: {'; '.join(more)}."


def _done_signals(results: dict[str, Any]) -> str:
    names = {
        "torchrl": "TorchRL `SACLoss`, `DiscreteSACLoss`",
        "benchmarl": "BenchMARL `masac`, `isac`",
        "masac": "masac `GroupSACLoss`, `GroupDiscreteSACLoss`",
    }
    counts: dict[tuple[str, str], Counter[str]] = {}  # of continuous and discrete actions together
    for row in results["rows"]:
        for outcome, count in row["outcomes"].items():
            counts.setdefault((row["loss"], row["skip"]), Counter())[outcome.split()[0]] += count
    rows = [
        (
            names[loss],
            "no such option" if skip == "-" else f"`{skip}`" if skip in ("False", "True") else f'`"{skip}"`',
            f"{outcomes['finite']} of {sum(outcomes.values())}",
            outcomes["NaN"],
            outcomes["raises"],
        )
        for (loss, skip), outcomes in sorted(counts.items(), key=lambda item: list(names).index(item[0][0]))
    ]
    return _table(("loss", "`skip_done_states`", "finite losses and gradients, right targets", "NaN", "raises"), rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "update_step": _update_step,
    "collection": _collection,
    "against_benchmarl": _against_benchmarl,
    "inside_benchmarl": _inside_benchmarl,
    "scaling": _scaling,
    "scaling_collectors": _scaling_collectors,
    "growth": _growth,
    "default_run": _default_run,
    "startup": _startup,
    "threads": _threads,
    "done_signals": _done_signals,
    "pettingzoo_learning": _pettingzoo_learning,
    "simple_tag_crossplay": _simple_tag_crossplay,
    "vmas_suite": _vmas_suite,
    "pettingzoo_collection": _pettingzoo_collection,
    "memory_learning": lambda results: _table(MEMORY_COLUMNS, memory_rows(results["runs"])),
}


def _ratio(name: str, batch: int) -> Callable[[dict[str, Any]], str]:
    return lambda results: f"{results['geometric_mean_ratio'][name][str(batch)]:.1f}"


def _own_centralized(batch: int) -> Callable[[dict[str, Any]], str]:
    def text(results: dict[str, Any]) -> str:
        (case,) = (c for c in results["cases"] if c["batch"] == batch and c["shared"] and c["centralized"])
        return f"{case['ratio']['own']:.2f}"

    return text


def _benchmarl_ratios(results: dict[str, Any]) -> str:
    ratios = [float(row[WALL_COLUMNS.index("BenchMARL / masac")]) for row in wall_rows(results["runs"])]
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


def _return_inside(contender: str) -> Callable[[dict[str, Any]], str]:
    def text(results: dict[str, Any]) -> str:
        runs = [run for run in results["runs"] if (run["algorithm"], run["contender"]) == ("masac", contender)]
        return f"{statistics.mean(run['evaluations'][-1]['return'] for run in runs):.2f}"

    return text


def _scaling_case(name: str, form: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    return lambda results: form(next(case for case in results["cases"] if case["case"] == name))


def _knights_with_two_workers(results: dict[str, Any]) -> str:
    where = {"task": "pettingzoo/knights_archers_zombies", "kind": "processes", "workers": 2}
    (case,) = (case for case in results["collectors"] if where.items() <= case.items())
    return f"{case['over_local']:.1f}"


NUMBERS: dict[tuple[str, str], Callable[[dict[str, Any]], str]] = {
    ("update_step", "compiled_128"): _ratio("masac", 128),
    ("update_step", "compiled_4096"): _ratio("masac", 4096),
    ("update_step", "own_centralized_1024"): _own_centralized(1024),
    ("update_step", "own_centralized_4096"): _own_centralized(4096),
    ("against_benchmarl", "ratios"): _benchmarl_ratios,
    ("inside_benchmarl", "masac_return"): _return_inside("agent"),
    ("inside_benchmarl", "benchmarl_return"): _return_inside("benchmarl"),
    ("scaling", "one_rank"): _scaling_case("1 rank, 1 thread", lambda case: f"{case['frames_per_second']:,.0f}"),
    ("scaling", "same_work"): _scaling_case("2 ranks, same work", lambda case: f"{case['frames_per_second']:,.0f}"),
    ("scaling", "more_work"): _scaling_case("2 ranks, more work", lambda case: f"{case['speedup'] - 1:.0%}"),
    ("scaling_collectors", "knights_two_workers"): _knights_with_two_workers,
}

if __name__ == "__main__":
    main()
