"""The losses of several groups of agents in one environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor, nn
from torchrl.objectives import LossModule, ValueEstimators

from masac.group_signals import GroupSignals
from masac.groups import group_name
from masac.keys import as_path, in_group
from masac.losses.base import NO_OTHER_GROUPS, GroupLoss, PolicyOutput
from masac.losses.network_inputs import GroupActions, OtherGroups

CriticSees = Literal["group", "all_groups"]


class MultiGroupLoss(LossModule):
    """One Soft Actor-Critic loss per group; groups may differ in size, observation and kind of action.

    The actions of the current policies of every group are computed once in the current and once in the next state. With
    ``critic_sees="all_groups"`` a centralized critic reads the observations and actions of every group, for mixed and
    competitive games (Lowe et al. 2017, arXiv 1706.02275): the executed actions in the critic loss, those of the
    current policies in critic targets and in the actor loss. The actor loss of a group has gradients to the actions of
    this group only. For an agent of another group that does not act, a critic sees zeros.

    Args:
        losses: one per group.
        critic_sees: ``"group"``, a critic reads its own group (and entries of the row); ``"all_groups"``, it reads
            observations and actions of every group. The ``in_keys`` of the critics must agree.

    ``forward`` returns a TensorDict with one entry per group, the output of its loss, and ``"loss"``, the sum of all
    terms to call ``backward`` on. It writes the largest priority of any group, ``[*B]``, into its input.

    Each group has target critics of its own, so TorchRL's updaters take the losses of the groups:
    ``targets = [SoftUpdate(one, tau=0.005) for one in loss.group_losses]``. :class:`UpdateStep` updates all of them.

    Raises:
        ValueError: if groups repeat, a reduction is ``"none"``, or ``critic_sees`` contradicts the critics.

    Examples:
        >>> loss = MultiGroupLoss([GroupSACLoss(a, q, group="wolves"), GroupDiscreteSACLoss(b, p, group="sheep", ...)])
        >>> loss(replay_buffer.sample())["loss"].backward()
    """

    @dataclass
    class _AcceptedKeys:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The keys that ``set_keys`` can change here; each loss has the keys of its group."""

        priority: NestedKey = "td_error"

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, losses: Sequence[GroupLoss], *, critic_sees: CriticSees = "group") -> None:
        super().__init__()
        names = [group_name(loss.group) for loss in losses]
        if not losses or len(set(names)) != len(names):
            raise ValueError(f"losses must hold one loss per group; got losses of the groups {names}.")
        for name, loss in zip(names, losses, strict=True):
            if loss.reduction == "none":
                raise ValueError(
                    f"the losses must be reduced ('mean' or 'sum') to be summed; got 'none' for group {name!r}."
                )
        if critic_sees not in ("group", "all_groups"):
            raise ValueError(f"critic_sees must be 'group' or 'all_groups'; got {critic_sees!r}.")
        burn_ins = sorted({loss.burn_in for loss in losses})
        if len(burn_ins) > 1:
            raise ValueError(f"the losses must have the same burn_in, since they read the same rows; got {burn_ins}.")
        for loss in losses:
            _check_sight(loss, losses, critic_sees)
        masks = list(dict.fromkeys(loss.loss_mask_key for loss in losses))
        if len(masks) > 1:
            raise ValueError(
                f"the losses must have the same loss_mask_key, since they read the same rows; got {masks}. Set it on "
                "the MultiGroupLoss instead."
            )
        self.losses = nn.ModuleDict(dict(zip(names, losses, strict=True)))
        self.critic_sees = critic_sees
        self.out_keys = [*names, "loss"]
        if critic_sees == "all_groups":
            for loss in losses:
                loss.draws_actions = True

    @property
    def group_losses(self) -> list[GroupLoss]:
        """The losses, one per group."""
        return list(self.losses.values())  # pyright: ignore[reportReturnType]

    @property
    def loss_mask_key(self) -> NestedKey | Literal["auto"] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The row mask of all groups; see :attr:`GroupSACLoss.loss_mask_key`."""
        return self.group_losses[0].loss_mask_key

    @loss_mask_key.setter
    def loss_mask_key(self, value: NestedKey | Literal["auto"] | None) -> None:
        for loss in self.group_losses:
            loss.loss_mask_key = value

    @property
    def in_keys(self) -> list[NestedKey]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The entries that ``forward`` needs. It also reads :attr:`optional_in_keys` where the data has them."""
        written = {
            key
            for loss in self.group_losses
            for key in map(as_path, (loss.tensor_keys.action, loss.tensor_keys.agent_alive))
        }
        executed = {as_path(loss.tensor_keys.action) for loss in self.group_losses}
        keys = dict.fromkeys(as_path(key) for loss in self.group_losses for key in loss.in_keys)
        # The losses themselves write the alive flags and draw the next actions of every group.
        return [key for key in keys if key in executed or (key not in written and key[1:] not in written)]

    @in_keys.setter
    def in_keys(self, values: list[NestedKey]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._in_keys = values

    @property
    def optional_in_keys(self) -> list[NestedKey]:
        """The entries that ``forward`` reads where present: keep them too when selecting data for the loss."""
        return list(dict.fromkeys(as_path(key) for loss in self.group_losses for key in loss.optional_in_keys))

    @property
    def _keyword_keys(self) -> Iterator[NestedKey]:
        """See :class:`GroupSACLoss`; without the entries that the losses write themselves."""
        own = [as_path(key) for key in self.in_keys]
        written = {as_path(key) for loss in self.group_losses for key in loss.in_keys} - set(own)
        more = [as_path(key) for loss in self.group_losses for key in loss._keyword_keys]
        yield from dict.fromkeys([*own, *(key for key in more if key not in written)])

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        """Nothing to forward: the losses of the groups have keys of their own."""

    def make_value_estimator(self, value_type: ValueEstimators | None = None, **hyperparams: Any) -> MultiGroupLoss:
        """Set the discount of all groups; see :meth:`GroupSACLoss.make_value_estimator`."""
        for loss in self.group_losses:
            loss.make_value_estimator(value_type, **hyperparams)
        return self

    @dispatch(source="_keyword_keys", auto_batch_size=False)
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of all groups; the class documents what is returned and written."""
        out, priorities = TensorDict({}, batch_size=[]), []
        total: Tensor | None = None
        for view in self._views(tensordict):
            losses, td_error = view.loss._losses(view.data, view.signals, view.policy, view.next_policy, view.others)
            out.set(group_name(view.loss.group), losses)
            priorities.append(td_error)
            for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
                total = losses[name] if total is None else total + losses[name]
        assert total is not None
        out.set("loss", total)
        highest = priorities[0]
        for td_error in priorities[1:]:
            highest = highest.maximum(td_error)
        tensordict.set(self.tensor_keys.priority, highest)
        return out

    def target_value(self, tensordict: TensorDictBase) -> TensorDict:
        """The critic targets, without gradient, one entry per group; see :meth:`GroupSACLoss.target_value`."""
        targets = TensorDict({}, batch_size=tensordict.batch_size)
        for view in self._views(tensordict):
            target = view.loss._target_value(view.data, view.signals, view.next_policy, view.others)
            targets.set(group_name(view.loss.group), target)
        return targets

    def _views(self, tensordict: TensorDictBase) -> list[_GroupView]:
        """The inputs of the loss of every group; the actions of each group are computed once."""
        losses = self.group_losses
        losses[0]._set_batch_size(tensordict)
        data = [loss._with_memories(tensordict) for loss in losses]
        signals = [loss._read_signals(own) for loss, own in zip(losses, data, strict=True)]
        each = list(zip(losses, data, signals, strict=True))
        next_policies = [loss._act_next(own, whose) for loss, own, whose in each]
        policies = [loss._act_now(own, whose) for loss, own, whose in each]
        if self.critic_sees == "group":
            others = [NO_OTHER_GROUPS] * len(losses)
        else:
            executed = [loss._executed(own, whose) for loss, own, whose in each]
            current = [_detached(policy.actions) for policy in policies]
            # Other groups never see an agent that ended, whatever the critics of its own group see.
            following = [
                replace(policy.actions, acts=own.alive_next, everyone_acts=False)
                for policy, own in zip(next_policies, signals, strict=True)
            ]
            others = [
                OtherGroups(
                    executed=_without(executed, index),
                    current=_without(current, index),
                    next=_without(following, index),
                )
                for index in range(len(losses))
            ]
        return [
            _GroupView(loss=loss, data=own, signals=whose, policy=policy, next_policy=next_policy, others=other)
            for (loss, own, whose), policy, next_policy, other in zip(
                each, policies, next_policies, others, strict=True
            )
        ]


@dataclass(frozen=True, kw_only=True)
class _GroupView:
    """The inputs of the loss of one group."""

    loss: GroupLoss
    data: TensorDictBase
    signals: GroupSignals
    policy: PolicyOutput
    next_policy: PolicyOutput
    others: OtherGroups


def _without(items: Sequence[Any], index: int) -> list[Any]:
    return [*items[:index], *items[index + 1 :]]


def _detached(actions: GroupActions) -> GroupActions:
    return replace(actions, action=None if actions.action is None else actions.action.detach())


def _check_sight(loss: GroupLoss, losses: Sequence[GroupLoss], critic_sees: str) -> None:
    """Raise ValueError unless the critic of ``loss`` reads the groups that ``critic_sees`` allows and requires."""
    keys = [as_path(key) for key in loss.qvalue_network.in_keys]
    for other in losses:
        if other is loss:
            continue
        seen = [key for key in keys if in_group(key, other.group)]
        action, alive = (as_path(key) for key in (other.tensor_keys.action, other.tensor_keys.agent_alive))
        if critic_sees == "group" and seen:
            raise ValueError(
                f"with critic_sees='group' the critic of group {loss.group!r} must not read other groups; "
                f"got one that reads {seen}. Pass critic_sees='all_groups'."
            )
        if critic_sees == "all_groups" and (action not in seen or not set(seen) - {action, alive}):
            raise ValueError(
                f"with critic_sees='all_groups' the critic of group {loss.group!r} must read the observations and "
                f"actions of group {other.group!r}; got one that reads {keys}. Build it with "
                "make_critic(..., others=[...]), or pass critic_sees='group'."
            )
