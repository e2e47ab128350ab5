"""Parts that the losses of one group share: the actions in both states, inputs of the critics, means over the living.

The equations of an update are in ``_terms`` of the subclasses, in sac.py and discrete_sac.py.

Shape legend: ``*B`` batch, ``N`` agents, ``K`` critics, ``V`` values per agent (1, or one per action).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor

from masac import functional
from masac.group_signals import GroupSignals
from masac.keys import get_entry
from masac.losses.network_inputs import GroupActions, OtherGroups, actor_inputs, critic_inputs
from masac.losses.torchrl_loss import GroupLossModule
from masac.losses.value_estimators import estimated_target
from masac.skipping import PolicyTensors, act_on_pairs, scatter_rows, select_rows, why_not_on_pairs, zero_substitute

NO_OTHER_GROUPS = OtherGroups()


@dataclass(frozen=True, kw_only=True)
class PolicyOutput:
    """The output of a group's current policies in a state.

    Args:
        policy: as :meth:`GroupLoss._act` returns it.
        actions: sampled actions as critics see them, and which agents act.
    """

    policy: Any
    actions: GroupActions


@dataclass(kw_only=True)
class Terms:
    """The terms of an update before means over the living are taken; None for terms that were not requested.

    Args:
        target: the critic target, ``[*B, N, 1]`` or for a team critic ``[*B, 1]``; without gradient.
        q_values: values of the executed actions, ``[K, *target]``.
        critic_loss: of the shape of ``target``.
        log_prob: log-probability of an action of the current policies, or its expectation, ``[*B, N, 1]``.
        actor_loss: ``[*B, N, 1]`` or for a team critic ``[*B, 1]``.
        target_entropy: the entropy that the temperature aims at, broadcastable to ``[*B, N, 1]``.
        temperature_loss: ``[*B, N, 1]``.
    """

    target: Tensor | None = None
    q_values: Tensor | None = None
    critic_loss: Tensor | None = None
    log_prob: Tensor | None = None
    actor_loss: Tensor | None = None
    target_entropy: Tensor | None = None
    temperature_loss: Tensor | None = None


class GroupLoss(GroupLossModule):
    """Base of the Soft Actor-Critic losses of one group of agents. See :class:`GroupSACLoss` for the arguments."""

    policy_type: type[PolicyTensors]
    """The type that :meth:`_act` returns: a named tuple of tensors with a ``log_prob``."""
    draws_actions: bool = True
    """Whether a critic reads the actions of the current policies."""
    validate_actions: bool = False
    """Whether the values of actions are checked; only those of discrete actions can be."""

    # -- implemented by the subclasses ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def _act(self, state: TensorDictBase) -> Any:
        """The current policies in ``state``, of :attr:`policy_type`: tensors ``[*B, N, ...]``."""

    @abc.abstractmethod
    def _fingerprint(self, state: TensorDictBase) -> Tensor:
        """Deterministic outputs of the policies, ``[*B, N, ...]``; may read the action in ``state``."""

    @abc.abstractmethod
    def _terms(
        self,
        tensordict: TensorDictBase,
        signals: GroupSignals,
        policy: PolicyOutput | None,
        next_policy: PolicyOutput | None,
        others: OtherGroups,
    ) -> Terms:
        """The equations of an update, given the outputs of the policies in the current and in the next state.

        Without ``policy`` the terms of actor and temperature are left out, without ``next_policy`` those of critics.
        """

    def _action_for_critics(self, policy: Any) -> Tensor | None:
        """Actions of the current policies as critics see them, ``[*B, N, A]``; None if no critic reads them."""
        return policy.action

    def _executed_action(self, action: Tensor, signals: GroupSignals) -> Tensor:
        """The executed actions as critics see them, ``[*B, N, A]``."""
        return action

    # -- the losses ----------------------------------------------------------------------------------------------------

    @dispatch(source="_keyword_keys", dest="keyword_out_keys", auto_batch_size=False)
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch; the class documents what is returned and written."""
        self._set_batch_size(tensordict)
        data = self._with_memories(tensordict)
        signals = self._read_signals(data)
        next_policy = self._act_next(data, signals)
        policy = self._act_now(data, signals)
        out, td_error = self._losses(data, signals, policy, next_policy, NO_OTHER_GROUPS)
        tensordict.set(self.tensor_keys.priority, td_error)
        trained = ("actor_network_params", "qvalue_network_params", "actor_memory_params", "critic_memory_params")
        targets = ("target_qvalue_network_params", "target_critic_memory_params")
        self._clear_weakrefs(tensordict, out, *trained, *targets)
        return out

    def target_value(self, tensordict: TensorDictBase) -> Tensor:
        """The critic target of a batch, without gradient.

        Returns:
            ``[*B, N, 1]``, or ``[*B, 1]`` with a team critic; 0 where nothing is trained (a dead agent).
        """
        tensordict = self._with_memories(tensordict)
        signals = self._read_signals(tensordict)
        return self._target_value(tensordict, signals, self._act_next(tensordict, signals), NO_OTHER_GROUPS)

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor loss alone, and the log-probability ``[*B, N]`` in it."""
        tensordict = self._with_memories(tensordict)
        signals = self._read_signals(tensordict)
        policy = self._act_now(tensordict, signals)
        terms = self._terms(tensordict, signals, policy, None, NO_OTHER_GROUPS)
        loss = self._reduced_losses(tensordict, signals, terms)["loss_actor"]
        return loss, {"log_prob": policy.policy.log_prob.squeeze(-1).detach()}

    def qvalue_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic loss alone, and the priority ``[*B]``."""
        tensordict = self._with_memories(tensordict)
        signals = self._read_signals(tensordict)
        terms = self._terms(tensordict, signals, None, self._act_next(tensordict, signals), NO_OTHER_GROUPS)
        loss = self._reduced_losses(tensordict, signals, terms)["loss_qvalue"]
        return loss, {"td_error": self._of_all_steps(_td_error(terms, signals), signals.batch_size)}

    def _target_value(
        self, tensordict: TensorDictBase, signals: GroupSignals, next_policy: PolicyOutput, others: OtherGroups
    ) -> Tensor:
        with torch.no_grad():
            target = self._terms(tensordict, signals, None, next_policy, others).target
        assert target is not None
        return self._of_all_steps(target, signals.batch_size)

    def _losses(
        self,
        tensordict: TensorDictBase,
        signals: GroupSignals,
        policy: PolicyOutput,
        next_policy: PolicyOutput,
        others: OtherGroups,
    ) -> tuple[TensorDict, Tensor]:
        """The returned TensorDict and the priority ``[*B]``, given the outputs of the policies in both states."""
        terms = self._terms(tensordict, signals, policy, next_policy, others)
        losses, td_error = self._reduced_losses(tensordict, signals, terms), _td_error(terms, signals)
        priority = self._of_all_steps(td_error, signals.batch_size)
        assert terms.log_prob is not None
        entropy = -terms.log_prob.detach()
        if self.reduction == "none":
            return self._unreduced(losses, entropy, signals), priority
        return TensorDict({**losses, **self._logged(terms, entropy, td_error, signals)}, batch_size=[]), priority

    def _reduced_losses(self, tensordict: TensorDictBase, signals: GroupSignals, terms: Terms) -> dict[str, Tensor]:
        """The terms reduced: the critic loss over trained values, the others over living agents."""
        weights = self._without_burn_in(self._weights(tensordict), signals.batch_size)
        losses: dict[str, Tensor] = {}
        for name, values in (
            ("loss_actor", terms.actor_loss),
            ("loss_qvalue", terms.critic_loss),
            ("loss_alpha", terms.temperature_loss),
        ):
            if values is not None:
                whose = signals.trained(values) if name == "loss_qvalue" else signals.alive_like(values)
                losses[name] = self._reduce(name, values, whose, weights, signals)
        return losses

    def _logged(self, terms: Terms, entropy: Tensor, td_error: Tensor, signals: GroupSignals) -> dict[str, Tensor]:
        """The returned entries beside the losses: means over the living."""
        assert terms.q_values is not None
        assert terms.target_entropy is not None
        q_value, living = terms.q_values.detach().mean(0), signals.living
        rows = None if signals.rows is None else signals.rows.unsqueeze(-1)
        target_entropy = terms.target_entropy.detach().expand_as(entropy)
        return {
            "alpha": self.alpha,
            "entropy": self._mean("entropy", entropy, living),
            "target_entropy": self._mean("target_entropy", target_entropy, living),
            "qvalue": self._mean("qvalue", q_value, signals.trained(q_value)),
            "td_error": self._mean("td_error", td_error, None if living is None else living.any(dim=-2).squeeze(-1)),
            "fraction_masked": self._mean("fraction_masked", (~signals.alive).float(), rows),
            "fraction_terminal": self._mean("fraction_terminal", (~signals.alive_next).float(), living),
        }

    def _unreduced(self, losses: dict[str, Tensor], entropy: Tensor, signals: GroupSignals) -> TensorDict:
        losses = {name: self._of_all_steps(values, signals.batch_size) for name, values in losses.items()}
        out = TensorDict(losses, batch_size=losses["loss_qvalue"].shape[: len(signals.batch_size)])
        if self.scalar_output_mode == "non_tensor":
            out.set_non_tensor("alpha", self.alpha)
            out.set_non_tensor("entropy", functional.masked_mean(entropy, signals.living))
        return out

    # -- the policies --------------------------------------------------------------------------------------------------

    def _policy_keys(self, tensordict: TensorDictBase) -> list[NestedKey]:
        """The entries that :meth:`_act` reads."""
        return list(self.actor_network.in_keys)

    def _act_now(self, tensordict: TensorDictBase, signals: GroupSignals) -> PolicyOutput:
        """The outputs of the current policies in the current state; dead agents see valid entries."""
        valid, keys = self._valid_entries(tensordict, signals), self._policy_keys(tensordict)
        policy = self._act(actor_inputs(tensordict, keys, self.group, signals.living, valid))
        return self._policy_output(policy, signals.alive, everyone_acts=signals.has_no_mask)

    @torch.no_grad()
    def _act_next(self, tensordict: TensorDictBase, signals: GroupSignals) -> PolicyOutput:
        """The outputs of the current policies in the next state; see ``skip_done_states``."""
        sees_all = self.skip_mode == "off" and not self._sees_zeros
        acts = signals.alive if sees_all else signals.alive_next
        policy = self._next_policy(tensordict, signals)
        return self._policy_output(policy, acts, everyone_acts=signals.has_no_mask and sees_all)

    def _next_policy(self, tensordict: TensorDictBase, signals: GroupSignals) -> Any:
        state, keys = tensordict.get("next"), self._policy_keys(tensordict)
        valid = self._valid_entries(tensordict, signals)
        if self.skip_mode == "off":
            return self._act(actor_inputs(state, keys, self.group, signals.living, valid))
        drops = self.skip_mode == "drop" and bool(signals.alive_next.any())
        if drops and self._may_run_on_pairs(tensordict, signals):
            acts = signals.alive_next
            return self.policy_type(*act_on_pairs(self._act, state, keys, self.group, acts, pack_rows=self.pack_rows))
        filled = actor_inputs(state, keys, self.group, signals.alive_next, valid)
        if not drops:
            return self._act(filled)
        rows = _rows_that_continue(signals)
        parts = self._act(select_rows(filled, rows))
        return self.policy_type(*(scatter_rows(part, rows, signals.batch_size) for part in parts))

    def _may_run_on_pairs(self, tensordict: TensorDictBase, signals: GroupSignals) -> bool:
        """Whether the actor may run on (row, agent) pairs, tried once; a wrong claim that it is shared is an error."""
        if self._runs_on_pairs is not None:
            return self._runs_on_pairs
        if signals.batch_size.numel() < 2:
            return False  # one row cannot show it; running on whole rows is right for every actor
        keys = [*self._policy_keys(tensordict), self.tensor_keys.action]
        inputs = actor_inputs(tensordict, keys, self.group, signals.living, self._valid_entries(tensordict, signals))
        reason = why_not_on_pairs(
            self._fingerprint, inputs, keys, self.group, signals.n_agents, pack_rows=self.pack_rows
        )
        if reason is not None and self._claims_shared:
            raise ValueError(
                "actor_layout='shared' must describe an actor for which the agent axis is a batch axis; "
                f"{reason}. Pass actor_layout='per_agent' or 'auto'."
            )
        self._runs_on_pairs = reason is None
        return self._runs_on_pairs

    def _policy_output(self, policy: Any, acts: Tensor, *, everyone_acts: bool) -> PolicyOutput:
        actions = self._group_actions(self._action_for_critics(policy), acts, everyone_acts=everyone_acts)
        return PolicyOutput(policy=policy, actions=actions)

    def _executed(self, tensordict: TensorDictBase, signals: GroupSignals) -> GroupActions:
        """The actions in the data, as critics see them."""
        action = self._executed_action(get_entry(tensordict, self.tensor_keys.action, "the critic"), signals)
        return self._group_actions(action, signals.alive, everyone_acts=signals.has_no_mask)

    def _group_actions(self, action: Tensor | None, acts: Tensor, *, everyone_acts: bool) -> GroupActions:
        return GroupActions(
            group=self.group,
            action_key=self.tensor_keys.action,
            alive_key=self.tensor_keys.agent_alive,
            action=action,
            acts=acts,
            everyone_acts=everyone_acts,
        )

    # -- the critics ---------------------------------------------------------------------------------------------------

    @property
    def _sees_zeros(self) -> bool:
        """Whether a critic sees zeros, not a valid entry, of an agent that does not act.

        A posthumous value must be distinguishable from that of a living agent, so the dead agent's entries are zeros.
        """
        return self.centralized_critic or self.end_rules.posthumous

    def _critic_inputs(
        self,
        tensordict: TensorDictBase,
        state: TensorDictBase,
        signals: GroupSignals,
        own: GroupActions,
        others: Sequence[GroupActions],
    ) -> TensorDict:
        """The inputs of the critics in ``state``, the current or the next one of ``tensordict``."""
        valid = zero_substitute if self._sees_zeros else self._valid_entries(tensordict, signals)
        return critic_inputs(state, self.qvalue_network.in_keys, own, others, valid)

    def _critics(
        self, tensordict: TensorDictBase, signals: GroupSignals, own: GroupActions, others: Sequence[GroupActions]
    ) -> Tensor:
        """The values of the K critics in the current state, ``[K, *B, N, V]`` or ``[K, *B, 1]``."""
        inputs = self._critic_inputs(tensordict, tensordict, signals, own, others)
        return self._q_values(inputs, self.qvalue_network_params, signals.n_agents)

    @torch.no_grad()
    def _smallest_target_critic(
        self, tensordict: TensorDictBase, signals: GroupSignals, next_policy: PolicyOutput, others: OtherGroups
    ) -> Tensor:
        """``min_k`` of the target critics in the next state, ``[*B, N, V]`` or ``[*B, 1]``; 0 in dropped rows."""
        inputs = self._critic_inputs(tensordict, tensordict.get("next"), signals, next_policy.actions, others.next)
        rows = _rows_that_continue(signals) if self.skip_mode == "drop" else None
        if rows is None or rows.numel() == 0:
            return self._q_values(inputs, self.target_qvalue_network_params, signals.n_agents).amin(0)
        q_values = self._q_values(select_rows(inputs, rows), self.target_qvalue_network_params, signals.n_agents)
        return scatter_rows(q_values.amin(0), rows, signals.batch_size)

    @torch.no_grad()
    def _critic_target(self, tensordict: TensorDictBase, signals: GroupSignals, next_value: Tensor) -> Tensor:
        """``r + γ (1 - d) next_value``, n-step or λ-return where asked; 0 where no value is trained."""
        steps_key = self.tensor_keys.steps_to_next_obs
        target = estimated_target(self.value_estimator, tensordict, signals, next_value, steps_key=steps_key)
        if signals.has_no_mask:
            return target
        return torch.where(signals.trained(next_value), target, torch.zeros_like(target))

    def _temperature_loss(
        self, log_prob: Tensor, target_entropy: Tensor, signals: GroupSignals, *, log_alpha: Tensor | None = None
    ) -> Tensor:
        """The loss of a temperature, :attr:`log_alpha` unless given, of every agent, ``[*B, N, 1]``."""
        log_alpha = self.log_alpha if log_alpha is None else log_alpha
        log_prob = log_prob.detach()
        if not signals.has_no_mask:
            log_prob = torch.where(signals.alive, log_prob, torch.zeros_like(log_prob))
        return functional.temperature_loss(self._per_pair(log_alpha), log_prob, target_entropy)


def _td_error(terms: Terms, signals: GroupSignals) -> Tensor:
    """The priority ``[*B]``: the largest error of any critic over the living.

    The error of a posthumous value does not raise the priority of a row.
    """
    assert terms.q_values is not None
    assert terms.target is not None
    error = (terms.q_values.detach() - terms.target).abs().amax(0)
    living = signals.trained(error) if error.shape == signals.team_shape else signals.alive
    return torch.where(living, error, torch.zeros_like(error)).flatten(len(signals.batch_size)).amax(-1)


def _rows_that_continue(signals: GroupSignals) -> Tensor:
    """Indices into the flattened batch of the rows in which any agent acts in the next state."""
    return signals.alive_next.any(dim=-2).reshape(-1).nonzero().squeeze(-1)
