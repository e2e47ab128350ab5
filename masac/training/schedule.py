"""When a run acts at random, learns and ends, counted in frames."""

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
        learns_from: the frames after which updates are taken.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        training = config.training
        self.frames_per_iteration = step = config.task.num_envs * training.steps_per_iteration
        self.warmup_frames = math.ceil(training.warmup_frames / step) * step
        self.total_frames = math.ceil(training.total_frames / step) * step
        self.updates_per_frame = training.updates_per_frame
        self.learns_from = self.warmup_frames

    def acts_at_random(self, frames: int) -> bool:
        """Whether all groups act at random after so many frames."""
        return frames < self.warmup_frames

    def updates_by(self, frames: int) -> int:
        """The updates of a run of so many frames."""
        return int(max(frames - self.warmup_frames, 0) * self.updates_per_frame)

    def updates_due(self, frames: int, taken: int) -> int:
        """The updates to take after so many frames, where so many were taken."""
        return self.updates_by(frames) - taken if frames >= self.learns_from else 0

    def fill_buffer_first(self, frames: int) -> int:
        """Learn only when an empty replay buffer has the frames of a warm-up again; returns how many those are.

        The updates of these frames are taken then.
        """
        self.learns_from = frames + self.warmup_frames
        return self.warmup_frames
