"""The updates between two rollouts, and how non-finite ones are handled."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

from tensordict import TensorDictBase
from torch import Tensor

from masac.errors import RunFailedError
from masac.keys import as_path
from masac.process.stop_signals import StopRequest
from masac.training.checkpointing.run_files import RunFiles
from masac.training.checkpointing.run_state import RunState
from masac.training.config import TrainingConfig
from masac.training.distributed.ranks import Rank
from masac.training.learner import Learner, log_name
from masac.training.logging.timers import Timers
from masac.training.replay.sharded import whole_batch
from masac.training.schedule import Schedule
from masac.training.update import NonFiniteError


class UpdateRound:
    """Takes the updates that are due, the same number on every rank.

    Args:
        training: whether non-finite updates are skipped.
        rank: of this process.
        schedule: how many updates are due.
        state: counts updates.
        learner: takes the updates.
        files: of the run; a batch with a non-finite update is saved there.
    """

    def __init__(
        self,
        training: TrainingConfig,
        rank: Rank,
        *,
        schedule: Schedule,
        state: RunState,
        learner: Learner,
        files: RunFiles,
    ) -> None:
        self.training, self.rank = training, rank
        self.schedule, self.state = schedule, state
        self.learner, self.files = learner, files
        self._all_ranks_have_rows = False

    def due(self, *, rows: int) -> int:
        """The number of updates that are due; 0 until every rank has rows.

        Args:
            rows: in the replay buffer of this rank.
        """
        if not self._all_ranks_have_rows:
            self._all_ranks_have_rows = not self.rank.any(rows == 0)
        if not self._all_ranks_have_rows:
            return 0
        return self.schedule.updates_due(self.state.frames, taken=self.state.updates_taken)

    def run(
        self, batches: Iterable[TensorDictBase], stop: StopRequest, timers: Timers
    ) -> tuple[list[dict[str, Tensor]], Exception | None]:
        """Take an update on every batch.

        Args:
            batches: one per update that is due.
            stop: ends the round before the next update is applied, if a user asks for that.
            timers: of sampling and updating.

        Returns:
            The logged values of each update, and the error that ends the run (None to continue).
        """
        logged: list[dict[str, Tensor]] = []
        alone = self.rank.world_size == 1  # several ranks must take the same updates
        try:
            for batch in timers.each("sample", batches):
                compiles = alone and not self.learner.updates
                with timers("update"):
                    with stop.cutting("the first update") if compiles else nullcontext():
                        results = self.learner.step.compute(batch)
                    if stop.now and alone:
                        break
                    try:
                        logged.append(self.learner.apply(batch, results))  # completely, or not at all
                    except NonFiniteError as error:
                        self.state.skipped_updates += 1
                        if not self._may_skip():
                            return logged, self._failure(error)
        except Exception as error:
            if not alone:  # the other ranks wait for this one in the middle of an update
                raise
            return logged, error
        return logged, None

    def _may_skip(self) -> bool:
        training = self.training
        return training.on_nonfinite == "skip" and self.state.skipped_updates <= training.nonfinite_limit

    def _failure(self, error: NonFiniteError) -> RunFailedError:
        """Save the batch of an update that was not applied, with the rows of all ranks; returns the error to raise."""
        iteration = self.state.frames // self.schedule.frames_per_iteration
        where = f"update {self.learner.updates + 1} (iteration {iteration}, frame {self.state.frames})"
        batch = whole_batch(error.batch, self.rank)
        file = self.files.write_batch(batch)
        keys = [as_path(key) for key, value in batch.items(True, True) if not bool(value.isfinite().all())]
        entries = ", ".join("/".join(key) for key in keys) or "no entries"
        terms = ", ".join(map(log_name, error.terms))
        return RunFailedError(
            f"losses and gradients must be finite; got non-finite values in {terms}, at {where}, which was not "
            f"applied. In its batch, {file}, {entries} are not finite. Everything before is saved in "
            f"{self.files.run_dir}. Check the environment's rewards and observations, lower training.critic_lr and "
            "training.actor_lr, set training.max_grad_norm=10, or skip such updates with training.on_nonfinite=skip "
            "(up to training.nonfinite_limit)"
        )
