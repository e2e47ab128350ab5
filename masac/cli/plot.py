"""``masac plot``: learning curves of runs, and a file with their returns for marl-eval."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.console import Console

from masac.cli.errors import errors_as_lines
from masac.cli.overrides import suggest
from masac.dotted_keys import flatten
from masac.errors import ConfigError
from masac.plotting.marl_eval import marl_eval_data
from masac.plotting.plots import SHORT, SUFFIXES, X_LABELS, alike, check_picture, plot_runs, settings_text
from masac.plotting.recorded_runs import EVALUATION, RecordedRun, find_runs, sample_size
from masac.plotting.statistics import FEWEST_FOR_INTERVAL, bootstrap_interval, interquartile_mean

DESCRIPTION = """\
Draw the learning curves of runs: the interquartile mean over seeds of the mean return per agent in evaluations, with
its 95% bootstrap interval from three seeds on. There is a panel per task and a colour per algorithm. A single run is
drawn as in its learning_curve.png.
"""

EXAMPLES = f"""\
Examples:
  masac train -m seed=0,1,2 algorithm=isac,masac run_dir=runs/sweep
  masac plot runs/sweep                            all runs of a sweep, into runs/sweep/curve.png
  masac plot runs/a runs/b --by seed               a line per run
  masac plot runs/sweep --by training.actor_lr     a line per value of a key, or of several: KEY,KEY
  masac plot runs/sweep --metric eval/success_rate another column of metrics.csv; entropy is agents/entropy
  masac plot runs/sweep --x time -o time.pdf       over seconds of training; pictures: {", ".join(SUFFIXES)}
  masac plot runs/sweep --group adversary          the return of one group, where several compete
  masac plot runs/sweep --export marl-eval.json    a file for marl-eval and BenchMARL's plots; its metric is "return"
"""

NOT_COMPARED = ("seed", "run_dir", "logging")
"""Keys in which the runs of a curve may differ without a note."""


def plot(arguments: Sequence[str]) -> None:
    """Run ``masac plot`` with its arguments; exits with 2 for a mistake in them."""
    chosen = parser().parse_args(arguments)
    with errors_as_lines("masac plot"):
        _plot(chosen, Console())


def _plot(chosen: argparse.Namespace, console: Console) -> None:
    out = chosen.out or (chosen.runs[0] if len(chosen.runs) == 1 else Path()) / "curve.png"
    check_picture(out)
    found = find_runs(chosen.runs)
    by, group, metric = chosen.by.split(","), chosen.group, chosen.metric
    _check_group(found, group)
    _check_keys(found, by)
    _check_metric(found, metric, group)
    if chosen.export is not None and metric != EVALUATION:
        raise ConfigError(
            f"--export writes evaluation returns and must be without --metric; got --metric {metric}. Leave one out."
        )
    if len(found) == 1:
        runs = [run for run in found if any(len(run.column(name).x) for name in run.names(metric, group))]
    else:
        runs = [run for run in found if len(run.curve(metric, group).x)]
    if not runs:
        folders, what = ", ".join(map(str, chosen.runs)), "an evaluation" if metric == EVALUATION else metric
        raise ConfigError(
            f"RUN_DIR must hold a run with {what}; got {folders}, whose {len(found)} have none yet. "
            "Runs evaluate every evaluation.every_frames frames, and at the end."
        )
    plot_runs(runs, out, x=chosen.x, by=by, group=group, metric=metric)
    keys = [key for key in by if key != "seed"] or ["algorithm"]
    written, notes = [out], list(_notes(found, runs, keys, group, metric))
    if chosen.export is not None:
        _write_json(marl_eval_data(runs, group=chosen.group), chosen.export)
        written.append(chosen.export)
    for line in [*_table(runs, keys, group, metric), *notes, f"written: {', '.join(map(str, written))}"]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="masac plot",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="the folder of a run, or of a sweep")
    made.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="the picture (default: RUN_DIR/curve.png; of several, curve.png)"
    )
    made.add_argument(
        "--by",
        default="algorithm",
        metavar="KEY,...",
        help="draw a line per value of: algorithm, seed, any key of the config, or several (default: algorithm)",
    )
    made.add_argument(
        "--metric",
        default=EVALUATION,
        metavar="COLUMN",
        help=f"the column of metrics.csv, with or without its group (default: {EVALUATION})",
    )
    made.add_argument("--x", choices=tuple(X_LABELS), default="frames", help="the x axis (default: frames)")
    made.add_argument(
        "--group", metavar="NAME", help="the group of agents whose return to take (default: all agents that learn)"
    )
    made.add_argument("--export", type=Path, metavar="FILE", help="also write the returns as JSON for marl-eval")
    return made


def _check_group(runs: Sequence[RecordedRun], group: str | None) -> None:
    known = sorted({name for run in runs for name in run.groups})
    if group is not None and group not in known:
        raise ConfigError(f"--group must name a group of agents; got {group!r}. There are: {', '.join(known)}.")


def _check_keys(runs: Sequence[RecordedRun], by: Sequence[str]) -> None:
    for key in by:
        known = {name for run in runs for name in flatten(run.config)} | {*SHORT, "seed"}
        nested = {name for name in known if name.startswith(f"{key}.")} if key not in known else set()
        if key not in known:
            said = f"It has {_listed(sorted(nested))}." if nested else suggest(key, known)
            raise ConfigError(f"--by must name keys of the config; got {key!r}. {said}")


def _check_metric(runs: Sequence[RecordedRun], metric: str, group: str | None) -> None:
    if metric == EVALUATION:
        return
    found = {name for run in runs for name in run.names(metric, group)}
    if not found:
        columns = sorted({name for run in runs for name in run.table})
        close = get_close_matches(metric, columns, n=3, cutoff=0.5)
        said = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(columns)}."
        of = f" of {group}" if group else ""
        raise ConfigError(f"--metric must name a column of metrics.csv; got {metric!r}{of}. {said}")
    if len(found) > 1 and len(runs) > 1:
        groups = ", ".join(name.removesuffix(f"/{metric}") for name in sorted(found))
        raise ConfigError(f"--metric {metric} must be of one group; there are {groups}. Choose one with --group.")


def _table(runs: Sequence[RecordedRun], by: Sequence[str], group: str | None, metric: str) -> Iterator[str]:
    """The final values, one line per task and setting."""
    what = "mean return per agent" if metric == EVALUATION else metric
    rows = [("task", ", ".join(by), "runs", f"final {what} [95% interval]", "frames")]
    for same in alike(runs, by):
        if len(runs) == 1:  # its metric may be one of several groups
            curves = [run.column(name) for run in same for name in run.names(metric, group)]
            final = [curve.y[-1] for curve in curves if len(curve.x)]
            mean = ", ".join(f"{value:.3f}" for value in final)
        else:
            curves = [run.curve(metric, group) for run in same]
            final = [curve.y[-1] for curve in curves]
            mean = f"{float(interquartile_mean(final)):.3f}"
        frames = sorted({int(curve.x[-1]) for curve in curves if len(curve.x)})
        if len(runs) > 1 and len(final) >= FEWEST_FOR_INTERVAL:
            low, high = bootstrap_interval(final)
            mean += f" [{float(low):.3f}, {float(high):.3f}]"
        reached = f"{frames[0]:,}" if len(frames) == 1 else f"{frames[0]:,} to {frames[-1]:,}"
        values = settings_text(same[0], by).replace(f"{by[0]}=", "") if len(by) == 1 else settings_text(same[0], by)
        rows.append((same[0].title, values, sample_size(same), mean, reached))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _notes(
    found: Sequence[RecordedRun], runs: Sequence[RecordedRun], by: Sequence[str], group: str | None, metric: str
) -> Iterator[str]:
    """Remarks on what a picture does not show."""
    without = [run for run in found if run not in runs and group in (None, *run.groups)]
    if without:
        what = "evaluation" if metric == EVALUATION else metric
        yield f"left out: {_listed([str(run.path) for run in without])}, which have no {what} yet"
    if foreign := len(found) - len(runs) - len(without):
        yield f"left out: {foreign} of {len(found)} runs, which have no group {group}"
    if going_on := [run for run in runs if not run.finished]:
        yield f"not finished: {len(going_on)} of {len(runs)} runs, drawn up to now"
    for same in alike(runs, by):
        settings = [flatten(run.config) for run in same]
        keys = sorted({key for each in settings for key in each if key.partition(".")[0] not in NOT_COMPARED})
        differing = [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
        if differing:
            yield (
                f"one curve, several settings: the runs of {settings_text(same[0], by)} on {same[0].title} differ in "
                f"{_listed(differing)}; draw separate curves with --by {','.join([*by, differing[0]])}, or --by seed"
            )


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Names, of many only the first."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _write_json(data: Mapping[str, Any], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--export must be a writable file; got {str(path)!r}: {error}.") from error
