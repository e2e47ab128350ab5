"""The progress display: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from masac.training.config import LoggingConfig

Row = Mapping[str, float | int | None]

BAR_WIDTH = 10
BESIDE_BAR = BAR_WIDTH + len(" 100%  1:00:00 ")
"""The width of the live line before its numbers."""

SLOW_COLLECTING = 0.9
"""The run prints a hint if collecting takes at least this fraction of the time."""

SECONDS_BEFORE_HINT = 20.0
"""The hint is printed after this time in iterations with updates."""


class ProgressDisplay:
    """Shows a bar, the remaining time, evaluation and training returns, frames, speed and losses, in this order.

    Args:
        logging: kind of display, and how often it prints.
        done_frames: frames at the start.
        total_frames: frames at the end.
        groups: whose returns it shows.
        console: where to print.
    """

    def __init__(
        self,
        logging: LoggingConfig,
        *,
        done_frames: int,
        total_frames: int,
        groups: Sequence[str],
        console: Console,
    ) -> None:
        kind = logging.progress
        if kind == "auto":
            kind = "live" if console.is_terminal else "plain"
        self.kind = kind
        self.console = console
        self.groups = tuple(groups)
        self.done_frames = done_frames
        self.total_frames = total_frames
        self.line_every_s = logging.line_every_s
        self.started = self.last_line = time.perf_counter()
        self.updates = 0
        self.collecting = self.learning = 0.0
        self.hinted = False
        self.live = Progress(
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.percentage:3.0f}%"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            refresh_per_second=4,
            disable=kind != "live",
        )

    def __enter__(self) -> ProgressDisplay:
        self.live.start()
        self.bar = self.live.add_task("", total=self.total_frames, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def show(self, row: Row, *, evaluation: Row) -> None:
        """Show the newest row of metrics, and the returns of the last evaluation."""
        now = time.perf_counter()
        frames = int(row["frames"] or 0)
        rate = (frames - self.done_frames) / max(now - self.started, 1e-9)
        parts = list(self._parts({**row, **evaluation}, frames=frames, rate=rate))
        if self.kind == "live":
            text = fitting(parts, self.console.width - BESIDE_BAR)
            self.live.update(self.bar, completed=frames, text=text)
        done = frames >= self.total_frames
        if self.kind == "plain" and (done or now - self.last_line >= self.line_every_s):
            self.last_line = now
            left = timedelta(seconds=round(max(self.total_frames - frames, 0) / rate)) if rate else "?"
            line = [f"{frames / self.total_frames:.0%}", f"{left} left", *parts]
            width = self.console.width if self.console.is_terminal else None
            self.console.print(fitting(line, width), highlight=False, soft_wrap=True)
        self._hint_at_slow_collecting(row)

    def _parts(self, row: Row, *, frames: int, rate: float) -> Iterator[str]:
        """The parts of a line: evaluation, success, training, frames, speed, and the losses of a single group."""
        yield from self._of_groups("eval", "eval/return_mean", row)
        success = row.get("eval/success_rate")
        if success is not None:
            low, high = row["eval/success_low"] or 0.0, row["eval/success_high"] or 0.0
            yield f"success {success:.0%} [{low:.0%}, {high:.0%}]"
        yield from self._of_groups("train", "train/return_mean", row)
        yield f"{frames:,} frames"
        yield f"{rate:,.0f}/s"
        if len(self.groups) == 1:
            for label, name in {"actor": "loss/actor", "critic": "loss/qvalue", "alpha": "alpha"}.items():
                yield from self._of_groups(label, name, row)

    def _of_groups(self, label: str, name: str, row: Row) -> Iterator[str]:
        for group in self.groups:
            value = row.get(f"{group}/{name}")
            if value is not None:
                yield f"{f'{group} ' if len(self.groups) > 1 else ''}{label} {value:.3g}"

    def _hint_at_slow_collecting(self, row: Row) -> None:
        """Print once that collecting takes nearly all of the time, and how to change that."""
        updates = int(row.get("updates") or 0)
        if updates == self.updates or self.hinted:
            return
        self.updates = updates
        self.collecting += row.get("time/collect_s") or 0.0
        self.learning += sum(row.get(f"time/{stage}_s") or 0.0 for stage in ("sample", "update"))
        together = self.collecting + self.learning
        if together < SECONDS_BEFORE_HINT or self.collecting < SLOW_COLLECTING * together or self.kind == "off":
            return
        self.hinted = True
        self.console.print(
            f"collecting takes {self.collecting / together:.0%} of the time: more updates (training.updates_per_frame) "
            "would cost little; more environments (task.num_envs) or processes that step them (task.num_workers, "
            "collector=processes) collect faster",
            highlight=False,
            soft_wrap=True,
        )


def fitting(parts: Sequence[str], width: int | None) -> str:
    """The first parts that fit into ``width`` columns, at least one."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if line and width is not None and len(longer) > width:
            break
        line = longer
    return line
