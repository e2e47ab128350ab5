"""``masac plot``: learning curves of runs, and their returns for other programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from masac.checks import ConfigError
from masac.cli.errors import errors_as_lines
from masac.training.marl_eval import marl_eval_data, unmet_conditions
from masac.training.plots import BY, SUFFIXES, X_LABELS, by_algorithm, check_picture, plot_runs
from masac.training.recorded_runs import RecordedRun, find_runs, sample_size
from masac.training.statistics import FEWEST_FOR_INTERVAL, bootstrap_interval, interquartile_mean

DESCRIPTION = """\
Draw the learning curves of runs: the interquartile mean of the evaluation return over seeds, with its 95% bootstrap
interval; a panel a task, a colour an algorithm. One run alone gets the picture that its learning_curve.png shows.
"""

EXAMPLES = f"""\
Examples:
  masac train -m seed=0,1,2 algorithm=isac,masac run_dir=sweep
  masac plot sweep                          all runs of a sweep, into curve.png
  masac plot runs/a runs/b --by seed        a line a run
  masac plot sweep --x time -o time.pdf     over seconds of training; pictures: {", ".join(SUFFIXES)}
  masac plot sweep --group adversary        the return of one group, where several compete
  masac plot sweep --export marl-eval.json  what marl-eval reads, and BenchMARL's plots; the metric is called return
"""

NOT_COMPARED = ("seed", "run_dir", "logging")
"""Keys in which the runs of a curve may differ without it being worth a word."""


def plot(arguments: Sequence[str]) -> None:
    """Run ``masac plot`` with its arguments; exits with 2 for a mistake in them."""
    chosen = parser().parse_args(arguments)
    with errors_as_lines("masac plot"):
        _plot(chosen, Console())


def _plot(chosen: argparse.Namespace, console: Console) -> None:
    check_picture(chosen.out)
    found = find_runs(chosen.runs)
    _check_group(found, chosen.group)
    runs = [run for run in found if len(run.evaluation(chosen.group).x)]
    if not runs:
        folders = ", ".join(map(str, chosen.runs))
        raise ConfigError(
            f"RUN_DIR must hold a run with an evaluation; got {folders}, whose {len(found)} have none yet. "
            "Runs evaluate every evaluation.every_frames frames, and at the end."
        )
    plot_runs(runs, chosen.out, x=chosen.x, by=chosen.by, group=chosen.group)
    written, notes = [chosen.out], list(_notes(found, runs, chosen.group))
    if chosen.export is not None:
        data = marl_eval_data(runs, group=chosen.group)
        _write_json(data, chosen.export)
        written.append(chosen.export)
        notes += [f"for marl-eval {condition}" for condition in unmet_conditions(data)]
    for line in [*_table(runs, chosen.group), *notes, f"written: {', '.join(map(str, written))}"]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def parser() -> argparse.ArgumentParser:
    """What ``masac plot`` takes."""
    made = argparse.ArgumentParser(
        prog="masac plot",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN_DIR", help="the folder of a run, or one with runs below it: a sweep"
    )
    made.add_argument(
        "-o", "--out", type=Path, default=Path("curve.png"), metavar="FILE", help="the picture (default: curve.png)"
    )
    made.add_argument("--by", choices=BY, default="algorithm", help="what gets a line (default: algorithm)")
    made.add_argument("--x", choices=tuple(X_LABELS), default="frames", help="what curves run over (default: frames)")
    made.add_argument(
        "--group", metavar="NAME", help="the group of agents whose return to take (default: all agents that learn)"
    )
    made.add_argument("--export", type=Path, metavar="FILE", help="write the returns as JSON for marl-eval too")
    return made


def _check_group(runs: Sequence[RecordedRun], group: str | None) -> None:
    known = sorted({name for run in runs for name in run.groups})
    if group is not None and group not in known:
        raise ConfigError(f"--group must name a group of agents; got {group!r}. There are: {', '.join(known)}.")


def _table(runs: Sequence[RecordedRun], group: str | None) -> Iterator[str]:
    """The last evaluations of each task and algorithm, a line each."""
    rows = [("task", "algorithm", "runs", "final return [95% interval]", "frames")]
    for same in by_algorithm(runs):
        curves = [run.evaluation(group) for run in same]
        final, frames = [curve.y[-1] for curve in curves], sorted({int(curve.x[-1]) for curve in curves})
        mean = f"{float(interquartile_mean(final)):.3f}"
        if len(final) >= FEWEST_FOR_INTERVAL:
            low, high = bootstrap_interval(final)
            mean += f" [{float(low):.3f}, {float(high):.3f}]"
        reached = f"{frames[0]:,}" if len(frames) == 1 else f"{frames[0]:,} to {frames[-1]:,}"
        rows.append((same[0].title, same[0].algorithm, sample_size(same), mean, reached))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _notes(found: Sequence[RecordedRun], runs: Sequence[RecordedRun], group: str | None) -> Iterator[str]:
    """What to know about a picture before believing it."""
    without = [run for run in found if run not in runs and group in (None, *run.groups)]
    if without:
        yield f"left out: {_listed([str(run.path) for run in without])}, without an evaluation so far"
    if foreign := len(found) - len(runs) - len(without):
        yield f"left out: {foreign} of {len(found)} runs, which have no group {group}"
    if going_on := [run for run in runs if not run.finished]:
        yield f"not finished: {len(going_on)} of {len(runs)} runs, drawn as far as they got"
    for same in by_algorithm(runs):
        settings = [_flat(run.config) for run in same]
        keys = sorted({key for each in settings for key in each})
        differing = [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
        if differing:
            yield (
                f"one curve, several settings: the runs of {same[0].algorithm} on {same[0].title} differ in "
                f"{_listed(differing)}; plot them apart, or with --by seed"
            )


def _listed(names: Sequence[str], most: int = 3) -> str:
    """The first of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys of a config that say what was trained, as the command line writes them."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if prefix or key not in NOT_COMPARED:
            flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _write_json(data: Mapping[str, Any], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--export must be a file that can be written; got {str(path)!r}: {error}.") from error
