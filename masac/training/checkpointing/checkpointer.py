"""When a run writes a checkpoint, and how it resumes from one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from torch import Tensor

from masac.files.atomic_write import disk_is_full
from masac.training.checkpointing.checkpoints import Checkpoint
from masac.training.checkpointing.run_files import RunFiles
from masac.training.checkpointing.run_state import RunState
from masac.training.config import ExperimentConfig
from masac.training.schedule import Schedule


class Checkpointer:
    """Writes the state of a run to checkpoints, and resumes the run from the newest one.

    Args:
        config: of the run.
        state: of the run.
        schedule: of the run; changed where a run resumes with an empty replay buffer.
        files: the other files of the run.
        warn: prints a warning.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        state: RunState,
        schedule: Schedule,
        files: RunFiles,
        *,
        warn: Callable[[str], None],
    ) -> None:
        self.config = config
        self.state, self.schedule, self.files = state, schedule, files
        self._warn = warn
        self._remember()

    def due(self, evaluation: Mapping[str, float | int | None]) -> bool:
        """Whether to write a checkpoint now.

        That is every ``training.checkpoint_every``, at the best evaluation so far, before the first evaluation, and at
        the end.

        Args:
            evaluation: the numbers of an evaluation at these frames; empty if there was none.
        """
        frames, checkpoints = self.state.frames, self.state.checkpoints
        value = evaluation.get("eval/return_mean")
        return (
            frames >= self.schedule.total_frames
            or frames - self._saved_frames >= self.config.training.checkpoint_frames
            or time.perf_counter() - self._saved_at >= self.config.training.checkpoint_seconds
            or (value is not None and value > checkpoints.best_return)
            or (
                checkpoints.newest is None and self.schedule.evaluation_due(frames + self.schedule.frames_per_iteration)
            )
        )

    def save(self, evaluation: Mapping[str, float | int | None]) -> dict[str, Tensor]:
        """Write a checkpoint; returns its state.

        Args:
            evaluation: as in :meth:`due`.
        """
        tensors = self.state.save(eval_return=evaluation.get("eval/return_mean"))
        self._remember()
        return tensors

    def save_new_frames(self) -> None:
        """Write a checkpoint if frames were collected since the last one."""
        if self.state.frames > self._saved_frames:
            self.save({})

    def save_after(self, error: BaseException) -> None:
        """Save a checkpoint and the policy after an error, if possible. Several ranks have no checkpoint to save alone.

        Args:
            error: what ends the run.
        """
        with suppress(Exception):  # saving may fail for the same reason
            if self.state.rank.world_size == 1 and not disk_is_full(error):
                self.save_new_frames()
            if self.state.frames:
                self.files.write_policy(self.state.policy, self.config, frames=self.state.frames)

    def resume(self) -> Checkpoint | None:
        """Load the newest complete checkpoint; returns it, or None if there is none and the run starts again.

        Raises:
            ConfigError: if there is none but there are results, or if all are damaged.
        """
        found = self.state.load(self._warn)
        if found is None:
            self.files.check_barely_begun()
            return None
        checkpoint, tensors = found
        if checkpoint.has_buffers_of(self.state.rank.world_size) and any(checkpoint.written):
            self.schedule.continue_after_refill(checkpoint.frames, checkpoint.learns_from, checkpoint.dropped)
        else:
            self.schedule.fill_buffer_first(checkpoint.frames, checkpoint.updates + checkpoint.skipped)
        self.state.dropped_updates = self.schedule.dropped_updates
        self.state.learns_from = self.schedule.learns_from if self.schedule.dropped_updates else 0
        self.state.begin_episodes(tensors)
        self._remember()
        if not (self.files.run_dir / "metrics.csv").is_file():
            self._warn("metrics.csv is missing; a new one starts here")
        return checkpoint

    def _remember(self) -> None:
        self._saved_frames, self._saved_at = self.state.frames, time.perf_counter()
