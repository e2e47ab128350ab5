"""The frames at which a run starts to learn, evaluates and ends."""

from __future__ import annotations

import math

from masac.training.config import ExperimentConfig


class Schedule:
    """The schedule of a run in frames.

    Args:
        config: of the run.

    Attributes:
        frames_per_iteration: frames collected between two rounds of updates.
        warmup_frames: frames with random actions, rounded up to whole iterations.
        total_frames: frames of the run, rounded up to whole iterations.
        updates_per_frame: updates for each frame after the warm-up.
        first_update_frames: the warm-up, or the frames before the first row of the replay buffer, where rows of several
            steps take longer; updates are counted from here.
        learns_from: frames from which on updates are due.
        dropped_updates: updates of frames that filled an empty replay buffer, which are never taken.
        refill_frames: frames that a run resumed with an empty replay buffer collects before its next update; else 0.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        training = config.training
        self.frames_per_iteration = config.task.num_envs * training.steps_per_iteration
        self.warmup_frames = self.whole_iterations(training.warmup_frames)
        self.total_frames = self.whole_iterations(training.total_frames)
        self.updates_per_frame = training.updates_per_frame
        row_steps = config.row_shape[0] if config.row_shape else training.n_step
        before_rows = self.whole_iterations(config.task.num_envs * (row_steps - 1))
        self.first_update_frames = self.learns_from = max(self.warmup_frames, before_rows)
        self.refill_frames = 0
        self.evaluate_every = config.evaluation.every_frames
        self.video_every = config.evaluation.video_every
        self.snapshot_every = training.self_play_every
        self.dropped_updates = 0

    def whole_iterations(self, frames: int) -> int:
        """Round frames up to whole iterations."""
        return math.ceil(frames / self.frames_per_iteration) * self.frames_per_iteration

    def acts_at_random(self, frames: int) -> bool:
        """Whether all groups act at random after this number of frames."""
        return frames < self.warmup_frames

    def updates_by(self, frames: int) -> int:
        """The updates of a run with this number of frames."""
        product = max(frames - self.first_update_frames, 0) * self.updates_per_frame
        return math.floor(round(product, 6))  # 100 * 0.29 is a little less than 29

    def updates_due(self, frames: int, taken: int) -> int:
        """The updates that are due.

        Args:
            frames: so far.
            taken: updates so far.
        """
        return self.updates_by(frames) - self.dropped_updates - taken if frames >= self.learns_from else 0

    def snapshot_due(self, frames: int) -> bool:
        """Whether self-play takes a snapshot: at multiples of ``training.self_play_every`` after the warm-up."""
        return frames > self.warmup_frames and self._passes_multiple(self.snapshot_every, frames)

    def evaluation_due(self, frames: int) -> bool:
        """Whether an evaluation is due: at multiples of ``evaluation.every_frames``, and at the end."""
        return frames >= self.total_frames or self._passes_multiple(self.evaluate_every, frames)

    def video_due(self, frames: int) -> bool:
        """Whether a video is due: at multiples of ``evaluation.video_every``, and at the end; never if that is 0."""
        return self.video_every > 0 and (frames >= self.total_frames or self._passes_multiple(self.video_every, frames))

    def _passes_multiple(self, every: int, frames: int) -> bool:
        """Whether the iteration that ends at ``frames`` reaches a multiple of ``every``; never if that is 0."""
        return every > 0 and frames // every > (frames - self.frames_per_iteration) // every

    def fill_buffer_first(self, frames: int, taken: int) -> None:
        """Collect as many frames as before the first update into an empty replay buffer, before the next update.

        The updates of these frames are dropped, as they would all be taken on few rows. Near its end a run still learns
        in its last iteration.

        Args:
            frames: so far.
            taken: updates so far.
        """
        last = self.total_frames - self.frames_per_iteration
        self.learns_from = max(min(frames + self.first_update_frames, last), frames)
        self.dropped_updates = self.updates_by(self.learns_from) - taken
        self.refill_frames = self.learns_from - frames

    def continue_after_refill(self, frames: int, learns_from: int, dropped_updates: int) -> None:
        """Go on with a buffer that was filled again, or still is: its dropped updates are not due either.

        Args:
            frames: so far.
            learns_from: of the run that is resumed.
            dropped_updates: of the run that is resumed.
        """
        self.learns_from = max(self.first_update_frames, learns_from)
        self.dropped_updates = dropped_updates
        self.refill_frames = max(learns_from - frames, 0)
