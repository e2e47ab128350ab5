"""The inputs of the networks: entries of a batch, replaced where an agent does not act.

Shape legend: ``*B`` batch, ``N`` agents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor

from masac.keys import as_path, get_entry, in_group, present_keys
from masac.skipping import replace_entries, zero_substitute


@dataclass(frozen=True, kw_only=True)
class GroupActions:
    """The agents of a group that act in a state, and their actions, as a critic sees them.

    Args:
        group: key of the group's entries.
        action_key: where a critic reads the action.
        alive_key: where a critic reads which agents act.
        action: ``[*B, N, A]``; values of agents that do not act do not matter. None if no critic reads it.
        acts: the agents that act, bool ``[*B, N, 1]``.
        everyone_acts: whether ``acts`` is known to be True everywhere.
    """

    group: NestedKey
    action_key: NestedKey
    alive_key: NestedKey
    action: Tensor | None
    acts: Tensor
    everyone_acts: bool


@dataclass(frozen=True, kw_only=True)
class OtherGroups:
    """Actions of the other groups, for critics that see them; empty where critics see their own group only.

    Args:
        executed: actions in the data.
        current: actions of their current policies in the current state, detached.
        next: actions of their current policies in the next state.
    """

    executed: Sequence[GroupActions] = ()
    current: Sequence[GroupActions] = ()
    next: Sequence[GroupActions] = ()


def actor_inputs(
    state: TensorDictBase,
    keys: Iterable[NestedKey],
    group: NestedKey,
    acts: Tensor | None,
    valid: Callable[[NestedKey, Tensor], Tensor],
) -> TensorDictBase:
    """The entries that an actor reads, valid ones in place of those of agents that do not act.

    Args:
        state: the current or next state, batch size ``*B``.
        keys: the keys that the actor reads.
        group: key of the agents' entries.
        acts: the agents that act, bool ``[*B, N, 1]``; None for all.
        valid: a function of (key, entry) that returns the entry to use instead.
    """
    if acts is not None:
        return replace_entries(state, keys, group, acts, valid)
    for key in keys:
        get_entry(state, key, "the actor")
    return state.select(*keys)


def critic_inputs(
    state: TensorDictBase,
    keys: Sequence[NestedKey],
    own: GroupActions,
    others: Sequence[GroupActions],
    valid: Callable[[NestedKey, Tensor], Tensor],
) -> TensorDict:
    """The entries that a critic reads.

    Entries of agents that do not act are replaced: in its own group by ``valid`` entries, in other groups by zeros.

    Args:
        state: the current or next state, batch size ``*B``.
        keys: the keys that the critic reads.
        own: the actions of its own group.
        others: the actions of the other groups that it may see.
        valid: a function of (key, entry) that returns the entry to use for agents of its own group that do not act.
    """
    inputs = TensorDict({}, batch_size=state.batch_size, device=state.device)
    rest = [as_path(key) for key in keys]
    _check_sight(state, rest, own, others)
    for actions in (*others, own):  # its own group last: it takes all remaining keys, those of the row too
        mine = [key for key in rest if actions is own or in_group(key, actions.group)]
        rest = [key for key in rest if key not in mine]
        if mine:
            _set_group(inputs, state, mine, actions, valid if actions is own else zero_substitute)
    return inputs


def _check_sight(
    state: TensorDictBase, keys: Sequence[tuple[str, ...]], own: GroupActions, others: Sequence[GroupActions]
) -> None:
    groups = [actions.group for actions in (own, *others)]
    for key in keys:
        if not any(in_group(key, group) for group in groups) and state.get(key, None) is None:
            raise KeyError(
                f"the critic of group {own.group!r} needs the entry {key!r}; the data has {present_keys(state)}. If it "
                "belongs to another group, put both losses into a MultiGroupLoss(..., critic_sees='all_groups'); if "
                "not, add the entry."
            )


def _set_group(
    inputs: TensorDict,
    state: TensorDictBase,
    keys: Sequence[tuple[str, ...]],
    actions: GroupActions,
    substitute: Callable[[NestedKey, Tensor], Tensor],
) -> None:
    """Add the entries ``keys`` of one group (and of the row)."""
    acts = actions.acts
    computed = {as_path(actions.action_key), as_path(actions.alive_key)}
    entries = [key for key in keys if key not in computed]
    if actions.everyone_acts:
        inputs.set(actions.group, TensorDict({}, batch_size=acts.shape[:-1], device=state.device))
        for key in entries:
            inputs.set(key, get_entry(state, key, "the critic"))
    else:
        inputs.update(replace_entries(state, entries, actions.group, acts, substitute))
    action = actions.action
    if as_path(actions.action_key) in keys and action is not None:
        if not actions.everyone_acts:
            keep = acts.reshape(*acts.shape[:-1], *(1,) * (action.ndim - acts.ndim + 1))
            action = torch.where(keep, action, torch.zeros_like(action))
        inputs.set(actions.action_key, action)
    if as_path(actions.alive_key) in keys:
        inputs.set(actions.alive_key, acts)
