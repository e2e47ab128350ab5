"""Terminal-state skipping: inputs of the networks at the next states of agents that do not act there.

Shape legend: ``*B`` batch, ``N`` agents, ``P`` (row, agent) pairs that continue, ``R`` rows with such a pair.

An agent that terminated has no next action, so its next observation may be anything: zeros, a reset state, NaN. Its
value is not needed, and selecting results with ``torch.where`` keeps it out of the critic targets. But a network may
reject such an input (as a Cholesky layer does), or mix agents. ``"fill"`` replaces these inputs of the actor and keeps
shapes static; ``"drop"`` runs the actor only on agents that continue. Both give the same critic targets for the same
noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor

from masac.keys import get_entry, in_group

SkipMode = Literal["off", "fill", "drop"]
TerminalFill = str | float | Callable[[NestedKey, Tensor], Tensor]
"""``"current"``, a number, or a function of (key, current entry of the same rows) that returns a valid entry."""

PolicyTensors = tuple[Tensor, ...]
"""The output of an actor: tensors with leading dimensions ``[*B, N]``."""

RunActor = Callable[[TensorDictBase], PolicyTensors]


def resolve_skip_mode(skip_done_states: bool | str) -> SkipMode:
    """One of three modes for ``False | True | "fill" | "drop"``.

    Raises:
        ValueError: for anything else.
    """
    if skip_done_states is False:
        return "off"
    if skip_done_states is True or skip_done_states == "fill":
        return "fill"
    if skip_done_states == "drop":
        return "drop"
    raise ValueError(f"skip_done_states must be False, True, 'fill' or 'drop'; got {skip_done_states!r}.")


def check_terminal_fill(terminal_fill: TerminalFill) -> None:
    """Raises ValueError unless ``terminal_fill`` is ``"current"``, a number or a function."""
    if terminal_fill == "current" or callable(terminal_fill):
        return
    if isinstance(terminal_fill, bool) or not isinstance(terminal_fill, int | float):
        raise ValueError(f"terminal_fill must be 'current', a number or a function; got {terminal_fill!r}.")


def replace_entries(
    tensordict: TensorDictBase,
    keys: Iterable[NestedKey],
    group: NestedKey,
    keep: Tensor,
    substitute: Callable[[NestedKey, Tensor], Tensor],
) -> TensorDict:
    """Select the entries ``keys``, and replace those of agents that are not kept.

    An entry inside the group has one value per agent. Any other entry belongs to the row, and is replaced in the rows
    in which no agent is kept.

    Args:
        tensordict: of batch size ``*B``.
        keys: the entries to select.
        group: key of the agents' entries.
        keep: bool ``[*B, N, 1]``.
        substitute: a function of (key, entry) that returns the entry to use instead, of a shape that broadcasts to it.

    Returns:
        A new TensorDict with these entries only; the input is not changed.
    """
    out = _empty_like(tensordict, group, keep)
    keep_rows = keep.any(dim=-2)
    for key in keys:
        value = get_entry(tensordict, key, "a network")
        kept = keep if in_group(key, group) else keep_rows
        other = substitute(key, value)
        out.set(key, torch.where(_expand_right(kept, value), value, other.to(value.dtype)))
    return out


def zero_substitute(key: NestedKey, value: Tensor) -> Tensor:
    """The entry that a centralized critic sees for an agent that does not act."""
    return torch.zeros_like(value)


@dataclass(frozen=True, kw_only=True)
class ValidEntries:
    """Valid network inputs that replace those that must not be seen.

    Args:
        current: the data of the current state, batch size ``*B``.
        alive: the agents that act there, bool ``[*B, N, 1]``.
        group: key of the agents' entries.
        fill: ``"current"``, a number (for floating-point entries; others use the current ones), or a function.
        has_no_mask: whether ``alive`` is known to be True everywhere.
    """

    current: TensorDictBase
    alive: Tensor
    group: NestedKey
    fill: TerminalFill
    has_no_mask: bool

    def __call__(self, key: NestedKey, value: Tensor) -> Tensor:
        """The valid entry at ``key``, of the shape of ``value`` or one that broadcasts to it."""
        if isinstance(self.fill, int | float) and value.is_floating_point():
            return torch.full_like(value, self.fill)
        current = get_entry(self.current, key, "terminal_fill='current'")
        if not self.has_no_mask:
            current = _replace_by_living(current, self.alive if in_group(key, self.group) else self.alive.any(dim=-2))
        if not callable(self.fill):
            return current
        filled = self.fill(key, current)
        if not isinstance(filled, Tensor) or not _broadcasts(filled.shape, value.shape):
            raise ValueError(
                f"terminal_fill must return a tensor that broadcasts to {list(value.shape)} for the entry {key!r}; "
                f"got {list(filled.shape) if isinstance(filled, Tensor) else type(filled).__name__}."
            )
        return filled


def act_on_pairs(
    act: RunActor,
    tensordict: TensorDictBase,
    keys: Iterable[NestedKey],
    group: NestedKey,
    continues: Tensor,
    *,
    pack_rows: bool,
) -> list[Tensor]:
    """Run a shared actor on exactly the (row, agent) pairs that continue, and scatter the results back.

    Args:
        act: runs the actor on a TensorDict of batch size ``[P]`` (``[ceil(P / N)]`` with ``pack_rows``).
        tensordict: the next state, batch size ``*B``.
        keys: the entries that the actor reads.
        group: key of the agents' entries.
        continues: bool ``[*B, N, 1]``, True somewhere.
        pack_rows: pack the pairs into rows of N, for a module that requires an agent axis. Copies of the first pair
            complete the last row.

    Returns:
        The actor's tensors ``[*B, N, ...]``, zero for the other pairs.
    """
    n_agents = continues.shape[-2]
    pairs = continues.reshape(-1).nonzero().squeeze(-1)
    n_pairs = pairs.numel()
    if pack_rows:
        pairs = torch.cat([pairs, pairs[:1].expand(-n_pairs % n_agents)])
    lead = (pairs.numel() // n_agents, n_agents) if pack_rows else (n_pairs,)
    results = act(_select_pairs(tensordict, keys, group, pairs, lead, n_agents))
    pairs = pairs[:n_pairs]
    scattered = []
    for result in results:
        if result.shape[: len(lead)] != lead:
            raise ValueError(
                f"a shared actor must give results of shape {[*lead, '...']} for {list(lead)} inputs; "
                f"got {list(result.shape)}. Pass actor_layout='per_agent'."
            )
        flat = result.flatten(0, len(lead) - 1)
        out = flat.new_zeros(continues.numel(), *flat.shape[1:])
        out[pairs] = flat[:n_pairs]
        scattered.append(out.view(*continues.shape[:-1], *flat.shape[1:]))
    return scattered


def why_not_on_pairs(
    fingerprint: Callable[[TensorDictBase], Tensor],
    tensordict: TensorDictBase,
    keys: Iterable[NestedKey],
    group: NestedKey,
    n_agents: int,
    *,
    pack_rows: bool,
) -> str | None:
    """Why an actor cannot run on (row, agent) pairs outside of their rows.

    Args:
        fingerprint: deterministic outputs of the policies, ``[*B, N, ...]``.
        tensordict: valid inputs of at least two rows, batch size ``*B``.
        keys: the entries that the fingerprint reads.
        group: key of the agents' entries.
        n_agents: N.
        pack_rows: see :func:`act_on_pairs`.

    Returns:
        None if it can, else the difference.
    """
    n_pairs = tensordict.batch_size.numel() * n_agents
    # Every pair moves to another position beside other pairs: rows start one agent later.
    in_rows = fingerprint(tensordict).flatten(0, tensordict.batch_dims)
    pairs = torch.arange(n_pairs, device=in_rows.device).roll(-1)
    expected = in_rows[pairs]
    lead = (n_pairs // n_agents, n_agents) if pack_rows else (n_pairs,)
    try:
        got = fingerprint(_select_pairs(tensordict, keys, group, pairs, lead, n_agents)).flatten(0, len(lead) - 1)
    except (RuntimeError, ValueError, IndexError) as error:
        return f"on pairs it raised {type(error).__name__}: {error}"
    if got.shape == expected.shape and torch.allclose(got, expected, 1e-3, 1e-4, equal_nan=True):
        return None
    return (
        "its results for pairs differ from those for rows of agents (weights or positions of agents matter, it mixes "
        "agents, or it is random)"
    )


def select_rows(tensordict: TensorDictBase, rows: Tensor) -> TensorDictBase:
    """The rows (indices into the flattened batch) of a TensorDict, as one of batch size ``[R]``."""
    return tensordict.reshape(-1)[rows]


def scatter_rows(values: Tensor, rows: Tensor, batch_size: torch.Size) -> Tensor:
    """Put ``values`` ``[R, ...]`` back at their rows of a zero tensor ``[*B, ...]``."""
    out = values.new_zeros(batch_size.numel(), *values.shape[1:])
    out[rows] = values
    return out.view(*batch_size, *values.shape[1:])


def _select_pairs(
    tensordict: TensorDictBase,
    keys: Iterable[NestedKey],
    group: NestedKey,
    pairs: Tensor,
    lead: tuple[int, ...],
    n_agents: int,
) -> TensorDict:
    """The entries of (row, agent) pairs (indices into the flattened ``[*B, N]``), with leading dimensions ``lead``."""
    batch_dims = tensordict.batch_dims
    selected = TensorDict({}, batch_size=lead[:1], device=pairs.device)
    selected.set(group, TensorDict({}, batch_size=lead, device=pairs.device))
    for key in keys:
        value = get_entry(tensordict, key, "the actor")
        if in_group(key, group):
            selected.set(key, value.flatten(0, batch_dims)[pairs].unflatten(0, lead))
        else:
            selected.set(key, _flatten_rows(value, batch_dims)[pairs // n_agents])
    return selected


def _empty_like(tensordict: TensorDictBase, group: NestedKey, pairs: Tensor) -> TensorDict:
    out = TensorDict({}, batch_size=tensordict.batch_size, device=tensordict.device)
    out.set(group, TensorDict({}, batch_size=pairs.shape[:-1], device=tensordict.device))
    return out


def _replace_by_living(value: Tensor, alive: Tensor) -> Tensor:
    """Replace the entry of every dead pair (or row) by that of a living one.

    Args:
        value: ``[*B, N, ...]`` (or ``[*B, ...]``).
        alive: bool ``[*B, N, 1]`` (or ``[*B, 1]``).

    Returns:
        Of the shape of ``value``; zeros for the dead if no agent is alive.
    """
    if alive.numel() == 0:
        return value
    entries = value.unsqueeze(0).flatten(0, alive.ndim - 1)
    living = alive.reshape(-1)
    first = entries.index_select(0, living.int().argmax().reshape(1))[0]  # indexing by a tensor would read its value
    donor = torch.where(living.any(), first, torch.zeros_like(first))
    return torch.where(_expand_right(alive, value), value, donor)


def _flatten_rows(value: Tensor, batch_dims: int) -> Tensor:
    return value.flatten(0, batch_dims - 1) if batch_dims else value.unsqueeze(0)


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    """Whether a tensor of ``shape`` can be expanded to ``to``."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def _expand_right(mask: Tensor, like: Tensor) -> Tensor:
    """``[..., 1]`` as a mask that broadcasts against ``like``, which has the same leading dimensions."""
    lead = mask.shape[:-1]
    return mask.reshape(*lead, *(1,) * (like.ndim - len(lead)))
