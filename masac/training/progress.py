"""What a run shows while it trains: a live line in a terminal, plain lines without one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from masac.training.config import LoggingConfig


class ProgressDisplay:
    """Shows frames, frames a second, returns, losses, temperature and time left.

    Args:
        logging: which kind, and how often.
        title: of the run.
        done_frames: where it begins.
        total_frames: where it ends.
        groups: whose returns to show.
        console: where to print.
    """

    def __init__(
        self,
        logging: LoggingConfig,
        *,
        title: str,
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
        self.title = title
        self.groups = tuple(groups)
        self.done_frames = done_frames
        self.total_frames = total_frames
        self.line_every_s = logging.line_every_s
        self.started = self.last_line = time.perf_counter()
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:3.0f}% {task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
            disable=kind != "live",
        )

    def __enter__(self) -> ProgressDisplay:
        self.live.start()
        self.bar = self.live.add_task(self.title, total=self.total_frames, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def show(self, row: Mapping[str, float | int | None], *, evaluation: Mapping[str, float | int | None]) -> None:
        """Show the newest row of metrics, and the returns of the last evaluation."""
        now = time.perf_counter()
        frames = int(row["frames"] or 0)
        rate = (frames - self.done_frames) / max(now - self.started, 1e-9)
        text = "  ".join([f"{frames:,} frames", f"{rate:,.0f}/s", *self._numbers({**row, **evaluation})])
        self.live.update(self.bar, completed=frames, text=text)
        done = frames >= self.total_frames
        if self.kind == "plain" and (done or now - self.last_line >= self.line_every_s):
            self.last_line = now
            left = (self.total_frames - frames) / rate if rate else 0.0
            self.console.print(f"{text}  left {max(left, 0):.0f} s", highlight=False, soft_wrap=True)

    def _numbers(self, row: Mapping[str, float | int | None]) -> list[str]:
        """Of every group the returns; with one group, what its loss says too."""
        names = {"eval": "eval/return_mean", "train": "train/return_mean"}
        if len(self.groups) == 1:
            names |= {"actor": "loss/actor", "critic": "loss/qvalue", "alpha": "alpha"}
        shown = []
        for group in self.groups:
            values = [(label, row.get(f"{group}/{name}")) for label, name in names.items()]
            parts = [f"{label} {value:.3g}" for label, value in values if value is not None]
            if parts:
                shown.append("  ".join(parts) if len(self.groups) == 1 else f"{group}: {' '.join(parts)}")
        return shown
