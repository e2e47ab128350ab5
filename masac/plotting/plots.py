"""Learning curves: of one run (``learning_curve.png``), of several runs (``masac plot``). Imports no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masac.errors import ConfigError
from masac.plotting.curves import aggregate
from masac.plotting.recorded_runs import EVALUATION, RecordedRun, read_run, sample_size
from masac.plotting.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".pdf", ".svg")
"""The kinds of pictures, by the end of the file's name."""

X_LABELS = {"frames": "frames", "time": "seconds of training"}

SHORT = {"algorithm": "algorithm.name"}
"""Short names of keys."""

POINTS = 200
"""Most points of a curve that is averaged over runs; more points are first averaged over time."""

DASHED: Mapping[str, Any] = {"linewidth": 1.2, "linestyle": (0, (3, 2))}

Color = str | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a picture.

    Args:
        x: [points].
        y: [points].
        color: Matplotlib's.
        label: in the legend, which leaves out empty ones.
        low: [points], the lower end of a band around the line; None for no band.
        high: [points], its upper end.
        end: text at the end of the line.
        style: keyword arguments of Matplotlib.
    """

    x: Floats
    y: Floats
    color: Color
    label: str = ""
    low: Floats | None = None
    high: Floats | None = None
    end: str = ""
    style: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Args:
        title: above the axes.
        lines: in the order in which they are drawn.
    """

    title: str
    lines: Sequence[Line]


def plot_learning_curve(run_dir: Path) -> None:
    """Draw ``learning_curve.png`` into the folder of a run."""
    plot_runs([read_run(run_dir)], run_dir / "learning_curve.png")


def plot_runs(
    runs: Sequence[RecordedRun],
    out: Path,
    *,
    x: str = "frames",
    by: Sequence[str] = ("algorithm",),
    group: str | None = None,
    metric: str = EVALUATION,
) -> None:
    """Draw learning curves: of one run, each of its groups; of several runs, one panel per task.

    Args:
        runs: at least one.
        out: the picture; its name ends with one of ``SUFFIXES``.
        x: frames or time.
        by: keys of the config. Runs that agree in all of them share a line: their interquartile mean, with its 95%
            bootstrap interval from three runs on. With seed among them each run has its own line.
        group: the group whose metric to draw; null for all groups of one run, or the mean over the agents that learn
            of several runs.
        metric: the column of metrics.csv, or what follows ``group/`` in its name.

    Raises:
        ConfigError: for another kind of picture, or one that cannot be written.
    """
    check_picture(out)
    y_label = f"{'mean return per agent' if metric == EVALUATION else metric}{f' of {group}' if group else ''}"
    if len(runs) == 1:
        save_panels([_run_panel(runs[0], x, group, metric)], out, x=x, y_label=y_label, caption="")
        return
    apart = [key for key in by if key != "seed"] or ["algorithm"]
    names = sorted({settings(run, apart) for run in runs}, key=_in_order)
    colors = dict(zip(names, _colors(len(names)), strict=True))
    by_task = [list(of_task) for _, of_task in groupby(sorted(runs, key=_task), key=_task)]
    lines_of = _run_lines if "seed" in by else _mean_lines
    panels = [
        Panel(title=of_task[0].title, lines=list(lines_of(of_task, apart, colors, x, group, metric)))
        for of_task in by_task
    ]
    what = "evaluation: " if metric == EVALUATION else ""
    caption = "interquartile mean over seeds; band: its 95% bootstrap interval"
    if "seed" in by:
        caption = "one line per run, with its seed at the end"
    save_panels(panels, out, x=x, y_label=y_label, caption=f"{what}{caption}")


def check_picture(out: Path) -> None:
    """Raise :class:`ConfigError` for an unknown kind of picture."""
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"a picture's name must end with {', '.join(SUFFIXES)}; got {str(out)!r}. Change it with -o.")


def alike(runs: Sequence[RecordedRun], by: Sequence[str]) -> list[list[RecordedRun]]:
    """Runs grouped by task and by the values of the keys ``by``, in the order of these."""

    def key(run: RecordedRun) -> tuple[object, ...]:
        return (*_task(run), _in_order(settings(run, by)))

    return [list(same) for _, same in groupby(sorted(runs, key=key), key=key)]


def settings(run: RecordedRun, by: Sequence[str]) -> tuple[str, ...]:
    """The values of the keys ``by`` in the config of a run."""
    return tuple(run.setting(SHORT.get(key, key)) for key in by)


def settings_text(run: RecordedRun, by: Sequence[str]) -> str:
    """The same as text: ``isac``, ``isac, training.actor_lr=0.001``."""
    return ", ".join(
        value if key in SHORT else f"{key}={value}" for key, value in zip(by, settings(run, by), strict=True)
    )


def _in_order(values: tuple[str, ...]) -> tuple[tuple[bool, float, str], ...]:
    """A sort key: numbers by size, before words."""
    return tuple(_number_first(value) for value in values)


def _number_first(value: str) -> tuple[bool, float, str]:
    try:
        number = float(value)
    except ValueError:
        return True, 0.0, value
    return False, number, value


def _task(run: RecordedRun) -> tuple[str, str]:
    return run.suite, run.task


def _run_panel(run: RecordedRun, x: str, group: str | None, metric: str) -> Panel:
    """A metric of one run; for returns, training (pale) and evaluation (bold) of every group."""
    title = f"{run.title} · {run.algorithm} · seed {run.seed}"
    if metric != EVALUATION:
        curves = [(name, run.column(name, x=x)) for name in run.names(metric, group)]
        return Panel(title=title, lines=[Line(x=c.x, y=c.y, color=f"C{i}", label=n) for i, (n, c) in enumerate(curves)])
    lines = []
    for index, name in enumerate(run.groups):
        if group not in (None, name):
            continue
        whose = f"{name}, " if len(run.groups) > 1 else ""
        styled: list[tuple[str, str, dict[str, Any]]] = [
            (f"{name}/train/return_mean", "training, with noise", {"alpha": 0.4, "linewidth": 1.2}),
            (f"{name}/{EVALUATION}", "evaluation", {"linewidth": 2, "marker": "o", "markersize": 4}),
        ]
        for column, label, style in styled:
            curve = run.column(column, x=x)
            if len(curve.x):
                lines.append(Line(x=curve.x, y=curve.y, color=f"C{index}", label=f"{whose}{label}", style=style))
    return Panel(title=title, lines=lines)


def _mean_lines(
    runs: Sequence[RecordedRun],
    by: Sequence[str],
    colors: Mapping[tuple[str, ...], Color],
    x: str,
    group: str | None,
    metric: str,
) -> Iterator[Line]:
    """The interquartile mean over runs with the same settings, dashed where it is not over all of them."""
    partial = False
    for same in alike(runs, by):
        label = f"{settings_text(same[0], by)} ({sample_size(same)})"
        pieces = aggregate([run.curve(metric, group, x=x).thinned(POINTS) for run in same])
        for piece in sorted(pieces, key=lambda piece: -piece.runs):  # the legend shows the first, which is solid
            whole = piece.runs == len(same)
            yield Line(
                x=piece.x,
                y=piece.mean,
                color=colors[settings(same[0], by)],
                label=label,
                low=piece.low,
                high=piece.high,
                style={"linewidth": 2.2} if whole else DASHED,
            )
            label, partial = "", partial or not whole
    if partial:
        nothing = np.empty(0)
        yield Line(x=nothing, y=nothing, color="0.4", label="not all runs", style=DASHED)


def _run_lines(
    runs: Sequence[RecordedRun],
    by: Sequence[str],
    colors: Mapping[tuple[str, ...], Color],
    x: str,
    group: str | None,
    metric: str,
) -> Iterator[Line]:
    """A thin line per run, in one colour for runs with the same settings."""
    for same in alike(runs, by):
        for index, run in enumerate(same):
            curve = run.curve(metric, group, x=x)
            label = f"{settings_text(run, by)} ({sample_size(same)})" if index == 0 else ""
            color, style = colors[settings(run, by)], {"linewidth": 1.1, "alpha": 0.85}
            yield Line(x=curve.x, y=curve.y, color=color, label=label, end=str(run.seed), style=style)


def _colors(count: int) -> list[Color]:
    """Distinguishable colours."""
    from matplotlib import colormaps

    if count <= 10:
        return [f"C{index}" for index in range(count)]
    return [tuple(color) for color in colormaps["turbo"](np.linspace(0.05, 0.95, count))]


def save_panels(
    panels: Sequence[Panel],
    out: Path,
    *,
    x: str,
    y_label: str,
    caption: str,
    panel_size: tuple[float, float] = (5.2, 3.8),
    one_legend: bool = False,
) -> None:
    """Draw panels beside and below each other.

    Args:
        panels: at least one.
        out: the picture.
        x: frames or time.
        y_label: of all panels.
        caption: below the picture; empty for none.
        panel_size: of one of several panels, in inches.
        one_legend: above all panels, with the labels of all; otherwise each has its own.

    Raises:
        ConfigError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure  # imported here as it is slow, and needed only at the end of a run

    columns = len(panels) if len(panels) <= 3 else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(
        figsize=(7, 4.2) if len(panels) == 1 else (panel_size[0] * columns, panel_size[1] * rows), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for index, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False)):
        _draw(panel, axes, x)
        if not one_legend and any(line.label for line in panel.lines):
            axes.legend(frameon=False, loc="best")
        below_is_empty = index + columns >= len(panels)
        axes.set(xlabel=X_LABELS[x] if below_is_empty else "", ylabel=y_label if index % columns == 0 else "")
    if one_legend:
        drawn = [axes.get_legend_handles_labels() for axes in grid.flat[: len(panels)]]
        handles = {label: handle for some in drawn for handle, label in zip(*some, strict=True)}
        figure.legend(handles.values(), handles, loc="outside upper left", ncols=6, frameon=False)
    if caption:
        figure.supxlabel(caption, fontsize="small", color="0.4")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150, format=out.suffix[1:].lower())
    except OSError as error:
        raise ConfigError(f"a picture must be a writable file; got {str(out)!r}: {error}.") from error


def _draw(panel: Panel, axes: Axes, x: str) -> None:
    from matplotlib.ticker import EngFormatter

    for line in panel.lines:
        style: dict[str, Any] = {"color": line.color, **line.style}
        if len(line.x) == 1:
            style.setdefault("marker", "o")
        axes.plot(line.x, line.y, label=line.label or None, **style)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=line.color, alpha=0.18, linewidth=0)
        if line.end and len(line.x):
            end = (float(line.x[-1]), float(line.y[-1]))
            offset: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(line.end, end, color=line.color, fontsize="small", **offset)
    axes.set_title(panel.title)
    if x == "frames":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k, as labels of six digits overlap
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
