"""The summary of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from masac.groups import GroupSpec
from masac.training.config import ExperimentConfig
from masac.training.logging import metrics


def summarize(
    config: ExperimentConfig,
    groups: Sequence[GroupSpec],
    evaluation: metrics.Row,
    *,
    evaluation_frames: int | None,
    frames: int,
    updates: int,
    skipped: int,
    wall_time_s: float,
    interrupted: bool,
    threads: int,
    checkpoint_bytes: int,
    first_success: Mapping[str, int | float | None],
) -> dict[str, object]:
    """What a run came to, for ``summary.json``.

    Args:
        config: of the run.
        groups: all of its groups.
        evaluation: the numbers of the last evaluation; none if there was none.
        evaluation_frames: when that was.
        frames: collected.
        updates: applied.
        skipped: updates that were not.
        wall_time_s: how long it took.
        interrupted: whether somebody asked it to stop.
        threads: that PyTorch computed with.
        checkpoint_bytes: what its checkpoints take on the disk.
        first_success: when an evaluation first solved the task, see :meth:`RunFiles.first_success`.
    """
    named = {name.replace("eval/", "eval_"): value for name, value in evaluation.items() if name.startswith("eval/")}
    success: dict[str, object] = {}
    if "eval/success_rate" in evaluation:
        solved = (evaluation["eval/success_rate"] or 0.0) >= config.evaluation.solved_at
        success = {"solved": solved, "solved_at": config.evaluation.solved_at, **first_success}
        success["success_means"] = config.task.success_means
    return {
        "task": f"{config.task.suite}/{config.task.name}",
        "algorithm": config.algorithm.name,
        "seed": config.seed,
        **named,
        **success,
        "groups": {group.name: metrics.of_group(evaluation, group, "eval/") for group in groups},
        "eval_frames": evaluation_frames,
        "eval_episodes": config.evaluation.episodes,
        "eval_stochastic": config.evaluation.stochastic,
        "frames": frames,
        "updates": updates,
        "updates_skipped": skipped,
        "wall_time_s": round(wall_time_s, 3),
        "frames_per_second": round(frames / wall_time_s, 1),
        "threads": threads,
        "checkpoint_bytes": checkpoint_bytes,
        "interrupted": interrupted,
    }
