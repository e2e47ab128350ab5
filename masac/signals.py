"""Expand, reduce and align the signals of a group of agents.

Shape legend: ``*B`` is the batch size of the data (``[B]`` or ``[B, T]``), ``N`` the number of agents in the group.

A signal (done, terminated, truncated, reward, mask) of a group reaches a loss in one of four shapes: ``[*B]`` or
``[*B, 1]``, one value for the team, and ``[*B, N]`` or ``[*B, N, 1]``, one value per agent. These functions turn one
shape into another. They take ``batch_size`` explicitly, so that the number of dimensions alone decides which shape a
signal has, also where sizes happen to agree (``B == N``). With ``N == 1`` a ``[*B, 1]`` signal is read as the team's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["any", "all", "sum", "mean"]


def expand_to_agents(signal: Tensor, batch_size: Sequence[int], n_agents: int, *, name: str = "signal") -> Tensor:
    """Give every agent of the group its entry of a signal.

    Args:
        signal: ``[*B]``, ``[*B, 1]``, ``[*B, N]`` or ``[*B, N, 1]``, of any dtype.
        batch_size: ``*B``, the batch size of the data that the signal belongs to.
        n_agents: ``N``, the number of agents in the group.
        name: of the signal, for error messages.

    Returns:
        ``[*B, N, 1]``, a view of ``signal``.

    Raises:
        ValueError: if ``signal`` has another shape.
    """
    batch, n_agents = _check_sizes(batch_size, n_agents)
    if _is_per_agent(signal, batch, n_agents, name):
        return signal.reshape(*batch, n_agents, 1)
    return signal.reshape(*batch, 1, 1).expand(*batch, n_agents, 1)


def reduce_over_agents(
    signal: Tensor,
    batch_size: Sequence[int],
    n_agents: int,
    how: Reduction,
    *,
    mask: Tensor | None = None,
    name: str = "signal",
) -> Tensor:
    """Reduce a signal with one entry per agent to one entry for the team.

    Agents whose ``mask`` is False are skipped, whatever their entries hold (NaN included). Over no agent at all
    ``"all"`` is True, ``"any"`` is False, ``"sum"`` and ``"mean"`` are 0. A signal of the team is returned
    unchanged.

    Args:
        signal: ``[*B, N]`` or ``[*B, N, 1]``; or a signal of the team, ``[*B]`` or ``[*B, 1]``.
        batch_size: ``*B``, the batch size of the data that the signal belongs to.
        n_agents: ``N``, the number of agents in the group.
        how: ``"any"`` or ``"all"`` for a bool signal, ``"sum"`` (float or integer) or ``"mean"`` (float).
        mask: True for the agents that count, bool in any of the four shapes; all agents without one.
        name: of the signal, for error messages.

    Returns:
        ``[*B, 1]``.

    Raises:
        ValueError: if a shape is another one, or ``how`` does not fit the dtype of ``signal``.
    """
    batch, n_agents = _check_sizes(batch_size, n_agents)
    _check_reduction(signal, how, name)
    if not _is_per_agent(signal, batch, n_agents, name):
        return signal.reshape(*batch, 1)
    agents = signal.reshape(*batch, n_agents, 1)
    if mask is None:
        counted = torch.ones_like(agents, dtype=torch.bool)
    else:
        if mask.dtype != torch.bool:
            raise ValueError(f"the mask of {name} must be bool; got {mask.dtype}. Convert it with .bool().")
        counted = expand_to_agents(mask, batch, n_agents, name=f"mask of {name}")
    if how == "any":
        return (agents & counted).any(dim=-2)
    if how == "all":
        return (agents | ~counted).all(dim=-2)
    total = torch.where(counted, agents, torch.zeros_like(agents)).sum(dim=-2)
    return total if how == "sum" else total / counted.sum(dim=-2).clamp_min(1)


def align_signal(
    signal: Tensor,
    like: Tensor,
    batch_size: Sequence[int],
    n_agents: int,
    *,
    reduce: Reduction | None = None,
    mask: Tensor | None = None,
    name: str = "signal",
) -> Tensor:
    """Bring a signal to the shape of another tensor: expand it to the agents, or reduce it over them.

    Args:
        signal: ``[*B]``, ``[*B, 1]``, ``[*B, N]`` or ``[*B, N, 1]``.
        like: a tensor of the wanted shape, such as a value estimate; one of the same four shapes.
        batch_size: ``*B``, the batch size of the data that both belong to.
        n_agents: ``N``, the number of agents in the group.
        reduce: how to reduce over agents where ``like`` is the team's; see :func:`reduce_over_agents`.
        mask: True for the agents that count in a reduction.
        name: of the signal, for error messages.

    Returns:
        A tensor with the shape of ``like``.

    Raises:
        ValueError: if a shape is another one, or a reduction is needed and ``reduce`` is None.
    """
    batch, n_agents = _check_sizes(batch_size, n_agents)
    if _is_per_agent(like, batch, n_agents, f"the tensor to align {name} with"):
        return expand_to_agents(signal, batch, n_agents, name=name).reshape(like.shape)
    if reduce is None:
        if _is_per_agent(signal, batch, n_agents, name):
            raise ValueError(
                f"{name} must be reduced over the agents to fit the shape {_show(like.shape)}, but reduce is None; "
                f"got shape {_show(signal.shape)} with batch size {_show(batch)} and {n_agents} agents. "
                "Pass reduce='any' or 'all' (bool), 'sum' or 'mean' (float)."
            )
        return signal.reshape(like.shape)
    return reduce_over_agents(signal, batch, n_agents, reduce, mask=mask, name=name).reshape(like.shape)


def _is_per_agent(signal: Tensor, batch: tuple[int, ...], n_agents: int, name: str) -> bool:
    """Whether ``signal`` has one entry per agent (True) or one for the team (False); raises for any other shape."""
    shape = tuple(signal.shape)
    if shape in (batch, (*batch, 1)):
        return False
    if shape in ((*batch, n_agents), (*batch, n_agents, 1)):
        return True
    raise ValueError(
        f"{name} must have shape {_show(batch)} or {_show((*batch, 1))} (one for the team), or "
        f"{_show((*batch, n_agents))} or {_show((*batch, n_agents, 1))} (one per agent), for batch size {_show(batch)} "
        f"and {n_agents} agents; got {_show(shape)}. Reshape it, or pass its batch size and number of agents."
    )


def _check_sizes(batch_size: Sequence[int], n_agents: int) -> tuple[tuple[int, ...], int]:
    if n_agents < 1:
        raise ValueError(f"n_agents must be at least 1; got {n_agents}. Pass the number of agents in the group.")
    return tuple(batch_size), n_agents


def _check_reduction(signal: Tensor, how: str, name: str) -> None:
    if how in ("any", "all"):
        fits, kind, instead = signal.dtype == torch.bool, "bool", "Convert it with .bool(), or use 'sum' or 'mean'."
    elif how == "sum":
        fits, kind, instead = signal.dtype != torch.bool, "float or integer", "Use 'any' or 'all'."
    elif how == "mean":
        fits, kind, instead = signal.is_floating_point(), "float", "Convert it with .float(), or use another reduction."
    else:
        raise ValueError(f"the reduction of {name} must be 'any', 'all', 'sum' or 'mean'; got {how!r}.")
    if not fits:
        raise ValueError(f"{name} must be {kind} to be reduced with '{how}'; got {signal.dtype}. {instead}")


def _show(shape: Sequence[int]) -> str:
    return str(list(shape))
