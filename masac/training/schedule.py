"""When a run acts at random, learns, evaluates and ends, counted in frames."""

from __future__ import annotations

import math

from masac.training.config import ExperimentConfig


class Schedule:
    """The frames at which things change.

    Args:
        config: of the run.

    Attributes:
        frames_per_iteration: collected between two rounds of updates.
        warmup_frames: of random actions, whole iterations.
        total_frames: of the run, whole iterations.
        updates_per_frame: collected after the warm-up.
        learns_from: the frames after which updates are taken.
        refill_frames: to collect before that where a run was resumed without its replay buffer; 0 otherwise.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        training = config.training
        self.frames_per_iteration = config.task.num_envs * training.steps_per_iteration
        self.warmup_frames = self.whole_iterations(training.warmup_frames)
        self.total_frames = self.whole_iterations(training.total_frames)
        self.updates_per_frame = training.updates_per_frame
        self.learns_from = self.warmup_frames
        self.refill_frames = 0
        self.evaluate_every = config.evaluation.every_frames
        self._dropped = 0

    def whole_iterations(self, frames: int) -> int:
        """The frames of the whole iterations in which so many are collected."""
        return math.ceil(frames / self.frames_per_iteration) * self.frames_per_iteration

    def acts_at_random(self, frames: int) -> bool:
        """Whether all groups act at random after so many frames."""
        return frames < self.warmup_frames

    def updates_by(self, frames: int) -> int:
        """The updates of a run of so many frames."""
        return int(max(frames - self.warmup_frames, 0) * self.updates_per_frame)

    def updates_due(self, frames: int, taken: int) -> int:
        """The updates to take after so many frames, where so many were taken."""
        return self.updates_by(frames) - self._dropped - taken if frames >= self.learns_from else 0

    def evaluation_due(self, frames: int) -> bool:
        """Whether the policy is evaluated after so many frames: at multiples of some, and at the end."""
        every, before = self.evaluate_every, frames - self.frames_per_iteration
        return frames >= self.total_frames or (every > 0 and frames // every > before // every)

    def fill_buffer_first(self, frames: int, taken: int) -> None:
        """Learn only when an empty replay buffer has the frames of a warm-up again.

        The updates of these frames are dropped: all at once they would be taken on few rows. Near its end a run learns
        in its last iteration all the same.

        Args:
            frames: so far.
            taken: updates so far.
        """
        last = self.total_frames - self.frames_per_iteration
        self.learns_from = max(min(frames + self.warmup_frames, last), frames)
        self._dropped = self.updates_by(self.learns_from) - taken
        self.refill_frames = self.learns_from - frames
