"""The terms of Soft Actor-Critic for a group, whatever its actions are: what the policies do, critics, temperature.

A subclass says what its policies are, what critics see of an action, and what a state is worth.

Shape legend: ``*B`` batch, ``N`` agents, ``K`` critics, ``V`` values a critic gives an agent (1, or one an action).
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
from masac.keys import get_entry
from masac.losses.group_signals import GroupBatch
from masac.losses.network_inputs import Actions, OtherGroups, actor_inputs, critic_inputs
from masac.losses.torchrl_loss import GroupLossModule
from masac.skipping import (
    PolicyTensors,
    act_on_pairs,
    scatter_rows,
    select_rows,
    why_not_on_pairs,
    zero_substitute,
)

ALONE = OtherGroups()


@dataclass(frozen=True, kw_only=True)
class Move:
    """What the current policies of a group do in a state.

    Args:
        policy: what :meth:`GroupLoss._act` says.
        actions: a drawn action, as critics see it, and who acts.
    """

    policy: PolicyTensors
    actions: Actions


class GroupLoss(GroupLossModule):
    """Base of the Soft Actor-Critic losses of one group of agents. See :class:`GroupSACLoss` for the arguments."""

    draws_actions: bool = True
    """Whether some critic looks at the actions that the policies take."""

    # -- the losses ----------------------------------------------------------------------------------------------------

    @dispatch(source="_keyword_keys", dest="keyword_out_keys", auto_batch_size=False)
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch; see the class for what it returns and writes."""
        self._set_batch_size(tensordict)
        batch = self._read_batch(tensordict)
        following = self._act_next(tensordict, batch)
        current = self._act_now(tensordict, batch)
        out, td_error = self._losses(tensordict, batch, current, following, ALONE)
        tensordict.set(self.tensor_keys.priority, td_error)
        self._clear_weakrefs(
            tensordict, out, "actor_network_params", "qvalue_network_params", "target_qvalue_network_params"
        )
        return out

    def target_value(self, tensordict: TensorDictBase) -> Tensor:
        """The critic target of a batch, without gradient.

        Returns:
            ``[*B, N, 1]``, or ``[*B, 1]`` with a team critic; 0 where nothing is trained (a dead agent).
        """
        batch = self._read_batch(tensordict)
        return self._target_value(tensordict, batch, self._act_next(tensordict, batch), ALONE)

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor loss alone, and the log-probability ``[*B, N]`` it was computed with."""
        batch = self._read_batch(tensordict)
        current = self._act_now(tensordict, batch)
        loss = self._actor_term(tensordict, batch, current, ALONE)
        return loss, {"log_prob": self._log_prob(current.policy).squeeze(-1).detach()}

    def qvalue_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic loss alone, and the priority ``[*B]``."""
        batch = self._read_batch(tensordict)
        loss, td_error, _ = self._qvalue_terms(tensordict, batch, self._act_next(tensordict, batch), ALONE)
        return loss, {"td_error": td_error}

    def _losses(
        self, tensordict: TensorDictBase, batch: GroupBatch, current: Move, following: Move, others: OtherGroups
    ) -> tuple[TensorDict, Tensor]:
        """All terms, and the priority ``[*B]``, given what the policies do in both states."""
        loss_qvalue, td_error, q_value = self._qvalue_terms(tensordict, batch, following, others)
        loss_actor = self._actor_term(tensordict, batch, current, others)
        log_prob = self._log_prob(current.policy).detach()
        aimed_entropy = self._aimed_entropy(current.policy)
        loss_alpha = self._alpha_term(log_prob, aimed_entropy, tensordict, batch)
        losses = {"loss_actor": loss_actor, "loss_qvalue": loss_qvalue, "loss_alpha": loss_alpha}
        if self.reduction == "none":
            return self._unreduced(losses, log_prob, batch), td_error
        alive, lived = (None, None) if batch.all_alive else (batch.alive, batch.alive.any(dim=-2).squeeze(-1))
        counted = None if batch.rows is None else batch.rows.unsqueeze(-1)
        said = {
            "alpha": self.alpha,
            "entropy": self._mean("entropy", -log_prob, alive),
            "target_entropy": self._mean("target_entropy", aimed_entropy.detach().expand_as(log_prob), alive),
            "qvalue": q_value,
            "td_error": self._mean("td_error", td_error, lived),
            "fraction_masked": self._mean("fraction_masked", (~batch.alive).float(), counted),
            "fraction_terminal": self._mean("fraction_terminal", (~batch.acts_next).float(), alive),
        }
        return TensorDict({**losses, **said}, batch_size=[]), td_error

    def _unreduced(self, losses: dict[str, Tensor], log_prob: Tensor, batch: GroupBatch) -> TensorDict:
        out = TensorDict(losses, batch_size=batch.batch_size)
        if self.scalar_output_mode == "non_tensor":
            out.set_non_tensor("alpha", self.alpha)
            out.set_non_tensor("entropy", functional.masked_mean(-log_prob, None if batch.all_alive else batch.alive))
        return out

    def _qvalue_terms(
        self, tensordict: TensorDictBase, batch: GroupBatch, following: Move, others: OtherGroups
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The critic loss, the priority ``[*B]``, and the mean value of what was done."""
        target = self._target_value(tensordict, batch, following, others)
        executed = self._executed(tensordict, batch)
        inputs = self._critic_inputs(tensordict, tensordict, batch, executed, others.executed)
        q_values = self._executed_value(self._q_values(inputs, self.qvalue_network_params, batch.n_agents), executed)
        trained = batch.trained(target)
        loss = functional.critic_loss(q_values, target, self.loss_function)
        error = (q_values.detach() - target).abs().amax(0)
        # The priority is that of the living: what a posthumous value is off by draws no row.
        living = trained if error.shape == batch.team_shape else batch.alive
        error = torch.where(living, error, torch.zeros_like(error))
        td_error = error.flatten(tensordict.batch_dims).amax(-1)
        value = self._mean("qvalue", q_values.detach().mean(0), trained)
        return self._reduce("loss_qvalue", loss, trained, self._weights(tensordict), batch), td_error, value

    @torch.no_grad()
    def _target_value(
        self, tensordict: TensorDictBase, batch: GroupBatch, following: Move, others: OtherGroups
    ) -> Tensor:
        q_value = self._next_q_value(tensordict, batch, following, others)
        next_value = self._soft_value(q_value, following.policy, batch)
        target = self._estimated_target(tensordict, batch, next_value)
        if batch.all_alive:
            return target
        return torch.where(batch.trained(next_value), target, torch.zeros_like(target))

    def _next_q_value(
        self, tensordict: TensorDictBase, batch: GroupBatch, following: Move, others: OtherGroups
    ) -> Tensor:
        """``min_k`` of the target critics at the next state; in drop mode 0 in the rows that end."""
        state = tensordict.get("next")
        inputs = self._critic_inputs(tensordict, state, batch, following.actions, others.following)
        rows = _rows_that_go_on(batch) if self.skip_mode == "drop" else None
        if rows is None or rows.numel() == 0:
            return self._q_values(inputs, self.target_qvalue_network_params, batch.n_agents).amin(0)
        q_values = self._q_values(select_rows(inputs, rows), self.target_qvalue_network_params, batch.n_agents)
        return scatter_rows(q_values.amin(0), rows, batch.batch_size)

    def _alpha_term(
        self, log_prob: Tensor, aimed_entropy: Tensor, tensordict: TensorDictBase, batch: GroupBatch
    ) -> Tensor:
        if not batch.all_alive:
            log_prob = torch.where(batch.alive, log_prob, torch.zeros_like(log_prob))
        loss = functional.temperature_loss(self._per_pair(self.log_alpha), log_prob, aimed_entropy)
        return self._reduce("loss_alpha", loss, batch.alive, self._weights(tensordict), batch)

    # -- what the policies do ------------------------------------------------------------------------------------------

    def _policy_keys(self, tensordict: TensorDictBase) -> list[NestedKey]:
        """The entries that :meth:`_act` reads."""
        return list(self.actor_network.in_keys)

    def _act_now(self, tensordict: TensorDictBase, batch: GroupBatch) -> Move:
        """What the current policies do in the current state; the dead see valid entries."""
        acts = None if batch.all_alive else batch.alive
        valid = self._valid_entries(tensordict, batch)
        keys = self._policy_keys(tensordict)
        policy = self._act(actor_inputs(tensordict, keys, self.group, acts, valid))
        return self._move(policy, batch.alive, known=batch.all_alive)

    @torch.no_grad()
    def _act_next(self, tensordict: TensorDictBase, batch: GroupBatch) -> Move:
        """What the current policies do in the next state; see ``skip_done_states``."""
        sees_all = self.skip_mode == "off" and not self._sees_zeros
        acts = batch.alive if sees_all else batch.acts_next
        return self._move(self._next_policy(tensordict, batch), acts, known=batch.all_alive and sees_all)

    def _next_policy(self, tensordict: TensorDictBase, batch: GroupBatch) -> PolicyTensors:
        state, keys = tensordict.get("next"), self._policy_keys(tensordict)
        if self.skip_mode == "off":
            acts = None if batch.all_alive else batch.alive
            return self._act(actor_inputs(state, keys, self.group, acts, self._valid_entries(tensordict, batch)))
        drops = self.skip_mode == "drop" and bool(batch.acts_next.any())
        if drops and self._may_run_on_pairs(tensordict, batch):
            return self._policy_from(
                act_on_pairs(self._act, state, keys, self.group, batch.acts_next, pack_rows=self.pack_rows)
            )
        valid = self._valid_entries(tensordict, batch)
        filled = actor_inputs(state, keys, self.group, batch.acts_next, valid)
        if not drops:
            return self._act(filled)
        rows = _rows_that_go_on(batch)
        return self._policy_from(
            [scatter_rows(part, rows, batch.batch_size) for part in self._act(select_rows(filled, rows))]
        )

    def _move(self, policy: PolicyTensors, acts: Tensor, *, known: bool) -> Move:
        return Move(policy=policy, actions=self._actions(self._drawn_action(policy), acts, known=known))

    def _executed(self, tensordict: TensorDictBase, batch: GroupBatch) -> Actions:
        action = get_entry(tensordict, self.tensor_keys.action, "the critic")
        return self._actions(self._executed_action(action, batch), batch.alive, known=batch.all_alive)

    def _actions(self, action: Tensor | None, acts: Tensor, *, known: bool) -> Actions:
        keys = self.tensor_keys
        return Actions(
            group=self.group, action_key=keys.action, alive_key=keys.agent_alive, action=action, acts=acts, known=known
        )

    def _may_run_on_pairs(self, tensordict: TensorDictBase, batch: GroupBatch) -> bool:
        """Whether the actor is shared, tried once: if not, one claimed to be is an error, another goes per agent."""
        if self._runs_on_pairs is not None:
            return self._runs_on_pairs
        if batch.batch_size.numel() < 2:
            return False  # one row cannot show it; rows of agents are right for every actor
        keys = [*self._policy_keys(tensordict), self.tensor_keys.action]
        valid = self._valid_entries(tensordict, batch)
        acts = None if batch.all_alive else batch.alive
        inputs = actor_inputs(tensordict, keys, self.group, acts, valid)
        reason = why_not_on_pairs(self._fingerprint, inputs, keys, self.group, batch.n_agents, pack_rows=self.pack_rows)
        if reason is not None and self._claims_shared:
            raise ValueError(
                "actor_layout='shared' must describe an actor for which the agent axis is a batch axis; "
                f"{reason}. Pass actor_layout='per_agent' or 'auto'."
            )
        self._runs_on_pairs = reason is None
        return self._runs_on_pairs

    @property
    def _sees_zeros(self) -> bool:
        """Whether a critic sees zeros, not a valid entry, of an agent that does not act.

        A dead agent's value that is trained (posthumously) must be told from a living one's, so it is one of zeros.
        """
        return self.centralized_critic or self.end_rules.posthumous

    def _critic_inputs(
        self,
        tensordict: TensorDictBase,
        state: TensorDictBase,
        batch: GroupBatch,
        own: Actions,
        others: Sequence[Actions],
    ) -> TensorDict:
        """What the critics see of ``state``, the current or the next one of ``tensordict``."""
        valid = zero_substitute if self._sees_zeros else self._valid_entries(tensordict, batch)
        return critic_inputs(state, self.qvalue_network.in_keys, own, others, valid)

    # -- what a subclass says ------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _act(self, state: TensorDictBase) -> PolicyTensors:
        """What the current policies say in ``state``: tensors with its leading dimensions ``[*B, N]``."""

    @abc.abstractmethod
    def _fingerprint(self, state: TensorDictBase) -> Tensor:
        """What tells policies apart, ``[*B, N, ...]``, without randomness; may read the action in ``state``."""

    @abc.abstractmethod
    def _policy_from(self, tensors: Sequence[Tensor]) -> PolicyTensors:
        """The tensors of :meth:`_act` by their names again."""

    @abc.abstractmethod
    def _log_prob(self, policy: Any) -> Tensor:
        """The log-probability of the drawn action, or its expectation, ``[*B, N, 1]``."""

    @abc.abstractmethod
    def _aimed_entropy(self, policy: Any) -> Tensor:
        """The entropy in nats that the temperature aims at, broadcastable to ``[*B, N, 1]``."""

    @abc.abstractmethod
    def _drawn_action(self, policy: Any) -> Tensor | None:
        """An action of the policies as critics see it, ``[*B, N, A]``; None if no critic looks at one."""

    @abc.abstractmethod
    def _executed_action(self, action: Tensor, batch: GroupBatch) -> Tensor:
        """The action in the data as critics see it, ``[*B, N, A]``."""

    @abc.abstractmethod
    def _executed_value(self, q_values: Tensor, executed: Actions) -> Tensor:
        """Of the values ``[K, *B, N, V]`` (``[K, *B, 1]`` for a team) those of the executed action."""

    @abc.abstractmethod
    def _soft_value(self, q_value: Tensor, policy: Any, batch: GroupBatch) -> Tensor:
        """The value of the next state, ``[*B, N, 1]``, from ``[*B, N, V]``; a team's ``[*B, 1]`` from ``[*B, 1]``."""

    @abc.abstractmethod
    def _actor_term(self, tensordict: TensorDictBase, batch: GroupBatch, current: Move, others: OtherGroups) -> Tensor:
        """The actor loss, reduced."""


def _rows_that_go_on(batch: GroupBatch) -> Tensor:
    """Indices into the flattened batch of the rows in which any agent acts next."""
    return batch.acts_next.any(dim=-2).reshape(-1).nonzero().squeeze(-1)
