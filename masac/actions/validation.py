"""Checks of the values of discrete actions and action masks. Only agents that act are checked.

Shape legend: ``*B`` batch, ``N`` agents, ``D`` the choices of all factors of an action side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import NestedKey
from torch import Tensor


def agents_without_choice(action_mask: Tensor, acts: Tensor, sizes: Sequence[int]) -> Tensor:
    """The agents for which the action mask allows no choice of some factor, bool ``[*B, N]``.

    Args:
        action_mask: ``[*B, N, D]``, True for legal choices.
        acts: bool ``[*B, N]``.
        sizes: choices of each factor.
    """
    choices = [part.any(-1) for part in action_mask.bool().split(list(sizes), -1)]
    return acts & ~torch.stack(choices).all(0)


def agents_without_action(vectors: Tensor, acts: Tensor, sizes: Sequence[int]) -> Tensor:
    """The agents whose action is not one choice of every factor, bool ``[*B, N]``.

    Args:
        vectors: the actions, a one-hot vector per factor, ``[*B, N, D]``.
        acts: bool ``[*B, N]``.
        sizes: choices of each factor.
    """
    one_hot = [((part == 1).sum(-1) == 1) & ((part != 0).sum(-1) == 1) for part in vectors.split(list(sizes), -1)]
    return acts & ~torch.stack(one_hot).all(0)


def agents_with_illegal_action(vectors: Tensor, action_mask: Tensor, acts: Tensor) -> Tensor:
    """The agents whose action the action mask forbids, bool ``[*B, N]``; arguments as above."""
    return acts & (vectors.bool() & ~action_mask.bool()).any(-1)


def first_agent(wrong: Tensor) -> tuple[tuple[int, ...], int] | None:
    """Row and agent of the first True in a bool ``[*B, N]``; None if there is none. Waits for the tensor's device."""
    if not bool(wrong.any()):
        return None
    *row, agent = wrong.nonzero()[0].tolist()
    return tuple(row), agent


def action_error(group: NestedKey, agent: int, rule: str, got: object, advice: str) -> str:
    """The message for an agent whose action or action mask is wrong."""
    return (
        f"agent {agent} of group {group!r} must {rule}; got {got}. For that, {advice}, or set the agent mask to False "
        "for agents that do not act"
    )
