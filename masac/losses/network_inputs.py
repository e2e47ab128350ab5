"""What the networks see of a batch: entries selected, and replaced where an agent does not act.

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
    """Who of a group acts in a state, and with which action, as a critic sees it.

    Args:
        group: where the group's entries live.
        action_key: where a critic looks for the action.
        alive_key: where a critic looks for who acts.
        action: ``[*B, N, A]``; what it holds where nobody acts does not matter. None if no critic looks.
        acts: bool ``[*B, N, 1]``.
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
    """What the other groups of the environment do, for critics that see them; nothing where there are none.

    Args:
        executed: in the current state, as the data has it.
        current: in the current state, by their current policies, detached.
        next: in the next state, by their current policies.
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
    """The entries an actor sees, with valid ones in the place of agents that do not act.

    Args:
        state: the current or next state, batch size ``*B``.
        keys: what the actor reads.
        group: where the agents' entries live.
        acts: bool ``[*B, N, 1]``; None if all do.
        valid: of (key, entry), the entry to take instead.
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
    """The entries a critic sees: of its own group's agents that do not act ``valid`` ones, of another group's zeros.

    Args:
        state: the current or next state, batch size ``*B``.
        keys: what the critic reads.
        own: the group whose critic it is.
        others: the other groups it may see.
        valid: of (key, entry), what stands for an agent of the own group that does not act.
    """
    inputs = TensorDict({}, batch_size=state.batch_size, device=state.device)
    rest = [as_path(key) for key in keys]
    _check_sight(state, rest, own, others)
    for actions in (*others, own):  # the own group last: what belongs to no other group is its own or the row's
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
                "is of another group, the losses of both belong in a MultiGroupLoss(..., critic_sees='all_groups'); "
                "if not, add the entry."
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
    told = {as_path(actions.action_key), as_path(actions.alive_key)}
    entries = [key for key in keys if key not in told]
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
