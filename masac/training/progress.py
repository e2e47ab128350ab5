"""What a run shows while it trains: a live line in a terminal, plain lines without one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from masac.training.config import LoggingConfig


class ProgressDisplay:
    """Shows frames, frames a second, returns, losses, temperature and time left.

    Args:
        logging: which kind, and how often.
        title: of the run.
        total_frames: where it ends.
        console: where to print.
    """

    def __init__(self, logging: LoggingConfig, *, title: str, total_frames: int, console: Console) -> None:
        kind = logging.progress
        if kind == "auto":
            kind = "live" if console.is_terminal else "plain"
        self.kind = kind
        self.console = console
        self.title = title
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

    def show(self, row: Mapping[str, float | int | None], *, evaluation: float | None) -> None:
        """Show the newest row of metrics and the last evaluation's return."""
        now = time.perf_counter()
        frames = int(row["frames"] or 0)
        rate = frames / max(now - self.started, 1e-9)
        shown = [
            f"{frames:,} frames",
            f"{rate:,.0f}/s",
            *(
                f"{label} {value:.3g}"
                for label, value in (
                    ("eval", evaluation),
                    ("train", row.get("train/return_mean")),
                    ("actor", row.get("loss/actor")),
                    ("critic", row.get("loss/qvalue")),
                    ("alpha", row.get("alpha")),
                )
                if value is not None
            ),
        ]
        text = "  ".join(shown)
        self.live.update(self.bar, completed=frames, text=text)
        done = frames >= self.total_frames
        if self.kind == "plain" and (done or now - self.last_line >= self.line_every_s):
            self.last_line = now
            left = (self.total_frames - frames) / rate if rate else 0.0
            self.console.print(f"{text}  left {max(left, 0):.0f} s", highlight=False, soft_wrap=True)
