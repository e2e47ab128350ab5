"""The summary of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from masac.groups import GroupSpec
from masac.training.config import ExperimentConfig
from masac.training.counters import Counters
from masac.training.logging import metrics


def summarize(
    config: ExperimentConfig,
    groups: Sequence[GroupSpec],
    evaluation: metrics.Row,
    in_others: metrics.Row,
    *,
    evaluation_frames: int | None,
    counters: Counters,
    interrupted: bool,
    ended_by: str,
    threads: int,
    checkpoint_bytes: int,
    first_success: Mapping[str, int | float | None],
) -> dict[str, object]:
    """The contents of ``summary.json``.

    Args:
        config: of the run.
        groups: all of its groups.
        evaluation: the numbers of the last evaluation; empty if there was none.
        in_others: its numbers in other tasks, by their columns; empty if there was none.
        evaluation_frames: the frames of that evaluation.
        counters: of the run.
        interrupted: whether a signal stopped it.
        ended_by: why a callback ended it; empty if none did.
        threads: number of PyTorch's threads.
        checkpoint_bytes: size of its checkpoints.
        first_success: of the first evaluation that solved the task, see :meth:`RunFiles.first_success`.
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
        **({"others": _by_task(config.evaluation.others, in_others)} if in_others else {}),
        "groups": {group.name: metrics.of_group(evaluation, group, "eval/") for group in groups},
        "eval_frames": evaluation_frames,
        "eval_episodes": config.evaluation.episodes,
        "eval_stochastic": config.evaluation.stochastic,
        "frames": counters.frames,
        "updates": counters.updates,
        "updates_skipped": counters.skipped,
        "wall_time_s": round(counters.wall_time_s, 3),
        "frames_per_second": round(counters.frames / counters.wall_time_s, 1),
        "threads": threads,
        "checkpoint_bytes": checkpoint_bytes,
        "interrupted": interrupted,
        **({"ended_by": ended_by} if ended_by else {}),
    }


def _by_task(names: Iterable[str], numbers: metrics.Row) -> dict[str, dict[str, float | int | None]]:
    """The numbers of evaluations in other tasks, by the name of the task: ``{"five": {"return_mean": ...}}``."""
    return {
        name: {
            column.replace(f"eval/{name}/", "", 1): value
            for column, value in numbers.items()
            if f"eval/{name}/" in column
        }
        for name in names
    }
