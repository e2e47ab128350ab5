"""The numbers of an iteration: of the run, of each group (``group/...``) and of each agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from masac.groups import GroupSpec
from masac.plotting.statistics import wilson_interval
from masac.training.counters import Counters
from masac.training.episodes import EpisodeTracker
from masac.training.evaluator import Evaluation

STAGES = ("collect", "sample", "update", "evaluate", "checkpoint")
"""The stages of an iteration whose time is measured."""

RUN = (
    *("frames", "updates", "updates_skipped", "wall_time_s", "frames_per_second", "updates_per_second"),
    *("collect/policy_lag", "collect/policy_lag_updates", "collect/restarts"),
    *("buffer/rows", "buffer/fill", "train/return_mean", "train/episode_length_mean"),
    *("eval/return_mean", "eval/return_std", "eval/episode_length_mean"),
)
"""The columns of the run as a whole."""

SUCCESS = ("eval/success_rate", "eval/success_low", "eval/success_high")
"""The success rate of an evaluation, and its 95% Wilson interval."""

LOGGED = (
    *("loss/qvalue", "loss/actor", "loss/alpha", "alpha", "entropy", "target_entropy", "qvalue", "td_error"),
    *("grad_norm/actor", "grad_norm/qvalue", "fraction_masked", "fraction_terminal", "fraction_skipped"),
)
"""The columns of a learning group's updates."""

OTHER = ("return_mean", "return_std", "episode_length_mean")
"""The columns of an evaluation in another task, ``eval/NAME/...``."""

Row = dict[str, float | int | None]


def columns(groups: Sequence[GroupSpec], learning: Sequence[str], *, success: bool) -> list[str]:
    """The names of all columns, in order."""
    names = [*RUN, *(SUCCESS if success else ()), *(f"time/{stage}_s" for stage in STAGES)]
    for group in groups:
        agents = [str(index) for index in range(group.n_agents)]
        for name in (
            *("train/return_mean", *(f"train/return/{agent}" for agent in agents)),
            *("eval/return_mean", "eval/return_std", "eval/life_mean", *(f"eval/return/{agent}" for agent in agents)),
            *((*LOGGED, *_of_hybrid(group), "reward_factor") if group.name in learning else ()),
        ):
            names.append(f"{group.name}/{name}")
    return names


def _of_hybrid(group: GroupSpec) -> tuple[str, ...]:
    """The columns of a group with hybrid actions alone."""
    return () if group.discrete_part is None else ("alpha_discrete",)


def run_numbers(counters: Counters, *, rows: int, buffer_size: int) -> Row:
    """The progress of the run, and the fill of its replay buffer.

    Args:
        counters: of the run.
        rows: in the buffer.
        buffer_size: largest number of rows.
    """
    return {
        "frames": counters.frames,
        "updates": counters.updates,
        "updates_skipped": counters.skipped,
        "wall_time_s": round(counters.wall_time_s, 3),
        "buffer/rows": rows,
        "buffer/fill": rows / buffer_size,
    }


def training_numbers(episodes: EpisodeTracker, learning: Sequence[str]) -> Row:
    """Means over the last finished episodes: returns of learning agents, of each group and agent, and length."""
    numbers: Row = {}
    learners: list[Tensor] = []
    for group in episodes.groups:
        returns = episodes.returns(group.name)
        if returns is None:
            return {}
        numbers[f"{group.name}/train/return_mean"] = returns.mean().item()
        numbers.update({f"{group.name}/train/return/{i}": value for i, value in enumerate(returns.tolist())})
        learners += [returns] if group.name in learning else []
    mean = torch.cat(learners).mean().item()
    return {"train/return_mean": mean, "train/episode_length_mean": episodes.length(), **numbers}


def evaluation_numbers(evaluation: Evaluation, learning: Sequence[str]) -> Row:
    """Over the episodes: mean and standard deviation of the return per agent, length, lives, success rate."""
    numbers: Row = _moments("eval/", evaluation.episode_returns(learning))
    numbers["eval/episode_length_mean"] = evaluation.lengths.double().mean().item()
    if evaluation.successes is not None:
        numbers |= success_numbers(evaluation.successes)
    for group, returns in evaluation.returns.items():
        numbers |= _moments(f"{group}/eval/", returns.mean(-1))
        numbers[f"{group}/eval/life_mean"] = evaluation.lives[group].double().mean().item()
        numbers |= {f"{group}/eval/return/{i}": value for i, value in enumerate(returns.mean(0).tolist())}
    return numbers


def other_columns(name: str, groups: Sequence[GroupSpec], *, success: bool) -> list[str]:
    """The columns of evaluations in another task.

    Args:
        name: of the task, in ``evaluation.others``.
        groups: that it has.
        success: whether it defines success.
    """
    whole = [f"eval/{one}" for one in OTHER] + (list(SUCCESS) if success else [])
    of_groups = [f"{group.name}/eval/{one}" for group in groups for one in ("return_mean", "return_std", "life_mean")]
    return list(other_numbers(name, dict.fromkeys([*whole, *of_groups])))


def other_numbers(name: str, evaluation: Row) -> Row:
    """The numbers of an evaluation by their columns if it is in another task."""
    return {column.replace("eval/", f"eval/{name}/", 1): value for column, value in evaluation.items()}


def success_numbers(successes: Tensor) -> Row:
    """The success rate of episodes, bool ``[E]``, and its interval."""
    succeeded, episodes = int(successes.sum()), successes.numel()
    return dict(zip(SUCCESS, (succeeded / episodes, *wilson_interval(succeeded, episodes)), strict=True))


def learning_numbers(updates: Sequence[Mapping[str, Tensor]], *, skips: bool) -> Row:
    """The means of all logged values over the updates of an iteration.

    Args:
        updates: the logged values of each.
        skips: whether the next states of agents that end are skipped.
    """
    if not updates:
        return {}
    numbers: Row = {name: torch.stack([one[name] for one in updates]).mean().item() for name in updates[0]}
    for name, value in list(numbers.items()):
        if name.endswith("/fraction_terminal"):
            numbers[name.replace("terminal", "skipped")] = value if skips else 0.0
    return numbers


def speed_numbers(seconds: Mapping[str, float], passed: float, *, frames: int, updates: int) -> Row:
    """The seconds of each stage, and frames and updates per second.

    Args:
        seconds: by stage.
        passed: in all.
        frames: collected in this time.
        updates: applied in this time.
    """
    updating = seconds.get("sample", 0.0) + seconds.get("update", 0.0)
    return {
        **{f"time/{stage}_s": seconds.get(stage, 0.0) for stage in STAGES},
        "frames_per_second": frames / passed,
        "updates_per_second": updates / updating if updates else None,
    }


def of_group(numbers: Row, group: GroupSpec, prefix: str) -> Row:
    """The numbers of one group that begin with ``prefix``, by the rest of their names."""
    start = f"{group.name}/{prefix}"
    return {name.removeprefix(start): value for name, value in numbers.items() if name.startswith(start)}


def _moments(prefix: str, episode_returns: Tensor) -> Row:
    return {
        f"{prefix}return_mean": episode_returns.mean().item(),
        f"{prefix}return_std": episode_returns.std(unbiased=False).item() if len(episode_returns) > 1 else None,
    }
