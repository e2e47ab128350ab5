"""``self_play.csv``: how the newest policy does against each snapshot of a pool."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from masac.process.stop_signals import StopRequest
from masac.training.checkpointing.run_files import Metrics, cut_metrics
from masac.training.evaluator import Evaluation, Evaluator
from masac.training.policies.policy import Policy
from masac.training.policies.self_play import pools, snapshots_met

COLUMNS = ["frames", "group", "snapshot_frames", "episodes", "return_of_snapshot", "return_of_others", "others_win"]


class SelfPlayTable:
    """Writes a row per snapshot at every evaluation.

    With fewer evaluation episodes than snapshots, some snapshots have a row, spread over the pool: see
    :func:`~masac.training.policies.self_play.snapshots_met`.

    Args:
        run_dir: the folder of the run.
        policy: of the run.
        evaluator: of the run.
    """

    def __init__(self, run_dir: Path, policy: Policy, evaluator: Evaluator) -> None:
        self.path = run_dir / "self_play.csv"
        self.policy, self.evaluator = policy, evaluator

    def write(self, found: Evaluation, *, frames: int, past: Collection[str], stop: StopRequest | None = None) -> None:
        """Evaluate against each group with snapshots in turn, and add the rows.

        Args:
            found: the evaluation at these frames.
            frames: so far; later rows, of a run that is resumed, are deleted.
            past: the groups for which snapshots acted in it.
            stop: see :meth:`~masac.training.evaluator.Evaluator.evaluate`.
        """
        rows: list[dict[str, float | int | str]] = []
        for group, pool in pools(self.policy).items():
            if pool.frames:
                alone = (
                    found
                    if group in past and len(past) == 1
                    else self.evaluator.evaluate(self.policy, past=[group], stop=stop)
                )
                rows += self._rows(alone, group, pool.frames, frames)
        if not rows:
            return
        if self.path.is_file():
            cut_metrics(self.path, COLUMNS, frames - 1)
        with Metrics(self.path, COLUMNS, append=self.path.is_file()) as table:
            for row in rows:
                table.write(row)

    @staticmethod
    def _rows(found: Evaluation, group: str, taken: list[int], frames: int) -> list[dict[str, float | int | str]]:
        snapshot = found.episode_returns([group])
        others = found.episode_returns([name for name in found.returns if name != group])
        wins = (others > snapshot).double() + 0.5 * (others == snapshot)
        rows: list[dict[str, float | int | str]] = []
        met = snapshots_met(len(snapshot), len(taken))
        for number in met.unique().tolist():
            own, theirs, won = (values[met == number] for values in (snapshot, others, wins))
            means = [float(values.mean()) for values in (own, theirs, won)]
            rows.append(dict(zip(COLUMNS, [frames, group, taken[number], len(own), *means], strict=True)))
        return rows
