"""The row of numbers that an iteration leaves: of the run, of every group (``group/...``) and of every agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from masac.groups import GroupSpec
from masac.training.episodes import EpisodeTracker, Evaluation

LOGGED = ("loss/qvalue", "loss/actor", "loss/alpha", "alpha", "entropy")
"""What a learning group's loss says of itself."""

CLIPPED = ("grad_norm/actor", "grad_norm/qvalue")
"""What is logged where gradients are clipped."""

Row = dict[str, float | int | None]


def columns(groups: Sequence[GroupSpec], learning: Sequence[str], *, success: bool, clipped: bool) -> list[str]:
    """The names of all numbers, in order."""
    names = ["frames", "updates", "wall_time_s", "train/return_mean", "eval/return_mean", "eval/return_std"]
    names += ["eval/episode_length_mean", *(["eval/success_rate"] if success else [])]
    for group in groups:
        agents = [str(index) for index in range(group.n_agents)]
        learned = (*LOGGED, *(CLIPPED if clipped else ())) if group.name in learning else ()
        for name in (
            *("train/return_mean", *(f"train/return/{agent}" for agent in agents)),
            *("eval/return_mean", "eval/return_std", "eval/life_mean", *(f"eval/return/{agent}" for agent in agents)),
            *learned,
        ):
            names.append(f"{group.name}/{name}")
    return names


def training_numbers(episodes: EpisodeTracker, learning: Sequence[str]) -> Row:
    """Mean returns over the last finished episodes: of the agents that learn, of every group and agent."""
    numbers: Row = {}
    learners: list[Tensor] = []
    for group in episodes.groups:
        returns = episodes.returns(group.name)
        if returns is None:
            return {}
        numbers[f"{group.name}/train/return_mean"] = returns.mean().item()
        numbers.update({f"{group.name}/train/return/{i}": value for i, value in enumerate(returns.tolist())})
        learners += [returns] if group.name in learning else []
    return {"train/return_mean": torch.cat(learners).mean().item(), **numbers}


def evaluation_numbers(evaluation: Evaluation, learning: Sequence[str]) -> Row:
    """Mean and standard deviation over episodes of the return an agent, episode length, lives, success rate."""
    numbers: Row = _moments("eval/", evaluation.episode_returns(learning))
    numbers["eval/episode_length_mean"] = evaluation.lengths.double().mean().item()
    if evaluation.successes is not None:
        numbers["eval/success_rate"] = evaluation.successes.double().mean().item()
    for group, returns in evaluation.returns.items():
        numbers |= _moments(f"{group}/eval/", returns.mean(-1))
        numbers[f"{group}/eval/life_mean"] = evaluation.lives[group].double().mean().item()
        numbers |= {f"{group}/eval/return/{i}": value for i, value in enumerate(returns.mean(0).tolist())}
    return numbers


def learning_numbers(updates: Sequence[Mapping[str, Tensor]]) -> Row:
    """The mean over the updates of an iteration of everything they logged."""
    if not updates:
        return {}
    return {name: torch.stack([one[name] for one in updates]).mean().item() for name in updates[0]}


def of_group(numbers: Row, group: GroupSpec, prefix: str) -> Row:
    """The numbers of one group that begin with ``prefix``, by what follows it."""
    start = f"{group.name}/{prefix}"
    return {name.removeprefix(start): value for name, value in numbers.items() if name.startswith(start)}


def _moments(prefix: str, episode_returns: Tensor) -> Row:
    return {
        f"{prefix}return_mean": episode_returns.mean().item(),
        f"{prefix}return_std": episode_returns.std(unbiased=False).item(),
    }
