"""Writes one row of numbers per iteration to metrics.csv, the loggers and the display."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from torch import Tensor

from masac.groups import GroupSpec
from masac.training.checkpointing.run_files import Metrics, RunFiles
from masac.training.collectors.base import Collector
from masac.training.config import ExperimentConfig
from masac.training.counters import Counters
from masac.training.episodes import EpisodeTracker
from masac.training.logging import metrics
from masac.training.logging.loggers import LoggedRun, Loggers
from masac.training.logging.progress import ProgressDisplay
from masac.training.reward_scaling import RewardScaling
from masac.training.schedule import Schedule


class RunLog:
    """Collects the numbers of an iteration and writes them everywhere.

    Args:
        config: of the run.
        groups: all of its groups.
        learning: the names of those that learn.
        others: the columns of evaluations in other tasks.
        schedule: of the run.
        collector: gives numbers on the newest batch.
        episodes: returns of the last episodes.
        rewards: the factors on rewards.
        files: of the run, with ``metrics.csv``.
        console: where progress is shown.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        groups: Sequence[GroupSpec],
        learning: Sequence[str],
        others: Sequence[str] = (),
        schedule: Schedule,
        collector: Collector,
        episodes: EpisodeTracker,
        rewards: RewardScaling,
        files: RunFiles,
        console: Console,
    ) -> None:
        self.config = config
        self.groups, self.learning, self.schedule = groups, learning, schedule
        self.collector, self.episodes, self.rewards = collector, episodes, rewards
        self.files, self.console = files, console
        self.columns = metrics.columns(groups, learning, success=config.task.success is not None)
        self.columns += others
        self.others = frozenset(others)
        self.own_columns = frozenset(self.columns)
        self._table: Metrics
        self._row: metrics.Row
        self._loggers: Loggers
        self._display: ProgressDisplay

    @contextmanager
    def open(self, *, frames: int, resumes: bool, warn: Callable[[str], None]) -> Iterator[None]:
        """Open metrics.csv, the loggers and the display.

        Args:
            frames: at which the run starts.
            resumes: whether the run is resumed; earlier log entries of later frames are then void.
            warn: see :meth:`RunFiles.open_metrics`.
        """
        files, config, logging = self.files, self.config, self.config.logging
        logged = LoggedRun(
            run_dir=files.run_dir,
            name=f"{config.task.name}-{config.algorithm.name}-seed{config.seed}",
            config=asdict(config),
            void_from=frames + 1 if resumes else None,
        )
        display = ProgressDisplay(
            logging,
            done_frames=frames,
            total_frames=self.schedule.total_frames,
            groups=[group.name for group in self.groups],
            console=self.console,
        )
        with (
            files.open_metrics(self.columns, frames=frames, warn=warn) as self._table,
            Loggers(logging.loggers if files.writes else (), logged, every_s=logging.logger_every_s) as self._loggers,
            display as self._display,
        ):
            files.delete_later_videos(frames)
            yield

    def write(
        self,
        counters: Counters,
        *,
        rows: int,
        updates: Sequence[Mapping[str, Tensor]],
        evaluation: metrics.Row,
        last_evaluation: metrics.Row,
        logged: metrics.Row,
        seconds: tuple[Mapping[str, float], float],
    ) -> None:
        """Write the row of an iteration.

        Args:
            counters: after it.
            rows: in the replay buffers of all ranks.
            updates: the logged values of each of its updates.
            evaluation: the numbers of its evaluation; empty if there was none.
            last_evaluation: the numbers of the last evaluation, which the display keeps showing.
            logged: the numbers of callbacks; a new name adds a column.
            seconds: see :meth:`Timers.take`.
        """
        if added := [name for name in logged if name not in self.columns]:
            self.columns += added
            self._table.add_columns(added)
        numbers: metrics.Row = {
            **metrics.run_numbers(counters, rows=rows, buffer_size=self.config.buffer_rows),
            **self.collector.numbers(),
            **metrics.training_numbers(self.episodes, self.learning),
            **evaluation,
            **metrics.learning_numbers(updates, skips=self.config.algorithm.skip_done_states != "off"),
            **({f"{name}/reward_factor": factor for name, factor in self.rewards.factors.items()} if updates else {}),
            **logged,
            **metrics.speed_numbers(*seconds, frames=self.schedule.frames_per_iteration, updates=len(updates)),
        }
        row = {name: numbers.get(name) for name in self.columns}
        self._table.write(row)
        self._row = row
        self._loggers.log(row)
        self._display.show(row, evaluation=last_evaluation)

    def add(self, logged: metrics.Row) -> None:
        """Add numbers of callbacks to the row that was written last; see :meth:`write`."""
        if logged:
            self._row |= logged
            self.columns += [name for name in logged if name not in self.columns]
            self._table.replace_last(self._row)
            self._loggers.log({"frames": self._row["frames"], **logged}, at_once=True)

    def evaluation_by(self, frames: int) -> tuple[metrics.Row, metrics.Row, int | None]:
        """The last evaluation in metrics.csv up to these frames: its numbers, those in other tasks, and its frames."""
        row = self.files.last_evaluated_row(frames)
        numbers = {name: float(row[name]) for name in self.columns if "eval/" in name and row.get(name)}
        in_others: metrics.Row = {name: value for name, value in numbers.items() if name in self.others}
        of_task: metrics.Row = {name: value for name, value in numbers.items() if name not in self.others}
        return of_task, in_others, int(row["frames"]) if row else None

    def video(self, file: Path, frames: int) -> None:
        """Pass a video on to the loggers."""
        self._loggers.log_video(file, frames)

    def flush(self) -> None:
        """Flush all rows to the disk."""
        self._table.flush()
