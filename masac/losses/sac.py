"""Soft Actor-Critic for a group of agents with continuous actions."""

from __future__ import annotations

from typing import Literal

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, dispatch
from torch import Tensor
from torchrl.data import TensorSpec
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import SafeProbabilisticTensorDictSequential

from masac import functional
from masac.compat import parameters_in, rsample_and_log_prob
from masac.keys import get_entry
from masac.layouts import StackedCritic
from masac.losses.base import GroupLoss
from masac.losses.batch import GroupBatch
from masac.losses.critics import own_gradient
from masac.losses.target_entropy import auto_target_entropy
from masac.skipping import (
    TerminalFill,
    act_on_pairs,
    replace_entries,
    scatter_rows,
    select_rows,
    why_not_on_pairs,
)


class GroupSACLoss(GroupLoss):
    """Soft Actor-Critic (Haarnoja et al. 2018, arXiv 1812.05905) for a group of N agents, right about who is done.

    Takes the place of ``torchrl.objectives.SACLoss``. The data has batch size ``*B`` (``[B]`` or ``[B, T]``) and the
    agents' entries at ``group``, batch size ``[*B, N]``. Rewards and terminated flags may be the group's or the root's,
    one an agent or one for the team. An agent whose mask is False at the root has no weight in any term, whatever its
    entries hold. Where ``terminated`` is set the critic target is the reward; where an episode was only truncated it
    bootstraps.

    Args:
        actor_network: a ``ProbabilisticActor`` that writes the action ``[*B, N, d]`` and its log-probability.
        qvalue_network: a critic that reads the action and writes ``state_action_value``: ``[*B, N, 1]``, a value an
            agent, or ``[*B, 1]``, one for the team. Copied ``num_qvalue_nets`` times, or a list of that many.
        group: where the agents' entries live.
        n_agents: N; found in the networks or the data if None.
        num_qvalue_nets: number of critics K, of which the smallest value counts.
        loss_function: distance of critic and target: ``"smooth_l1"``, ``"l2"`` or ``"l1"``.
        gamma: discount a step. Can be set with ``make_value_estimator(ValueEstimators.TD0, gamma=...)`` too.
        alpha_init: initial temperature, the weight of one nat of entropy in reward units.
        min_alpha: lower bound of the temperature.
        max_alpha: upper bound of the temperature.
        fixed_alpha: keep the temperature at ``alpha_init``.
        alpha_per_agent: one temperature an agent instead of one for the group.
        action_spec: the spec that ``target_entropy="auto"`` is read from; the actor's own if None.
        target_entropy: entropy in nats of one agent's policy that the temperature aims at; ``"auto"`` is
            -(dimensions of one agent's action).
        skip_done_states: what the networks see at the next state of agents that do not act there. False: what the data
            has. True or ``"fill"``: something valid instead, see ``terminal_fill``. ``"drop"``: nothing; a shared actor
            runs on exactly the pairs that go on, a per-agent actor and the target critics on the rows in which any
            agent goes on. The targets are the same.
        terminal_fill: ``"current"``, the same row's current observation; a number; or a function of (key, current
            entry) that returns a valid entry.
        actor_layout: ``"shared"`` if the agent axis is a batch axis for the actor, ``"per_agent"`` if it must stay;
            ``"auto"`` says shared only for modules known to be.
        critic_layout: ``"centralized"`` if an agent's value depends on its teammates' inputs, else ``"decentralized"``;
            ``"auto"`` asks the modules. A centralized critic sees zeros for an agent that does not act.
        terminated_reduction: ``"none"``: an agent's value ends with its own flag. ``"any"``: one end ends all.
            ``"all"``: the team ends with its last member (team critics, or ``posthumous=True``).
        posthumous: with ``"all"`` and a value an agent, train a dead agent's value on the team reward while its team
            lives, so that its last state bootstraps from something.
        reward_reduction: None, or ``"mean"`` or ``"sum"`` over all N agents, for a team reward.
        actor_gradient: with a centralized critic, ``"own"``: agent i's policy follows ∂Q_i/∂a_i only; ``"joint"``, as
            TorchRL: the gradient of the mean over agents, so ∂Q_i/∂a_j too. For masac's critics "own" is free; for a
            foreign centralized critic with a value an agent it costs one backward pass an agent from values to actions.
            For a team critic both are the same.
        delay_qvalue: target critics, to be updated by ``SoftUpdate`` or ``HardUpdate``.
        reduction: ``"mean"`` or ``"sum"`` over the living, or ``"none"``: values of shape ``[*B, N]`` (team critic:
            ``[*B]``), 0 for the dead, without ``alpha`` and ``entropy`` in the output.
        deactivate_vmap: loop over critics, for modules vmap cannot handle.
        use_prioritized_weights: whether to apply importance weights where the data has them, ``[*B]``.

    ``forward`` returns a TensorDict with ``loss_actor``, ``loss_qvalue``, ``loss_alpha``, ``alpha`` and ``entropy``. It
    also writes the priority ``td_error`` ``[*B]`` into its input: the largest error of any critic over living agents.

    Examples:
        >>> loss = GroupSACLoss(actor, critic, action_spec=env.full_action_spec, skip_done_states="fill")
        >>> losses = loss(replay_buffer.sample())
        >>> (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
    """

    def __init__(
        self,
        actor_network: ProbabilisticTensorDictSequential,
        qvalue_network: TensorDictModule | list[TensorDictModule],
        *,
        group: NestedKey = "agents",
        n_agents: int | None = None,
        num_qvalue_nets: int = 2,
        loss_function: str = "smooth_l1",
        gamma: float = 0.99,
        alpha_init: float = 1.0,
        min_alpha: float | None = None,
        max_alpha: float | None = None,
        fixed_alpha: bool = False,
        alpha_per_agent: bool = False,
        action_spec: TensorSpec | None = None,
        target_entropy: float | Literal["auto"] = "auto",
        skip_done_states: bool | Literal["fill", "drop"] = False,
        terminal_fill: TerminalFill = "current",
        actor_layout: Literal["auto", "shared", "per_agent"] = "auto",
        critic_layout: Literal["auto", "centralized", "decentralized"] = "auto",
        terminated_reduction: Literal["none", "any", "all"] = "none",
        posthumous: bool = False,
        reward_reduction: Literal["mean", "sum"] | None = None,
        actor_gradient: Literal["own", "joint"] = "own",
        delay_qvalue: bool = True,
        reduction: Literal["mean", "sum", "none"] | None = "mean",
        deactivate_vmap: bool = False,
        use_prioritized_weights: bool | Literal["auto"] = "auto",
    ) -> None:
        if actor_gradient not in ("own", "joint"):
            raise ValueError(f"actor_gradient must be 'own' or 'joint'; got {actor_gradient!r}.")
        super().__init__(
            actor_network,
            qvalue_network,
            group=group,
            n_agents=n_agents,
            num_qvalue_nets=num_qvalue_nets,
            loss_function=loss_function,
            gamma=gamma,
            alpha_init=alpha_init,
            min_alpha=min_alpha,
            max_alpha=max_alpha,
            fixed_alpha=fixed_alpha,
            alpha_per_agent=alpha_per_agent,
            skip_done_states=skip_done_states,
            terminal_fill=terminal_fill,
            actor_layout=actor_layout,
            critic_layout=critic_layout,
            terminated_reduction=terminated_reduction,
            posthumous=posthumous,
            reward_reduction=reward_reduction,
            delay_qvalue=delay_qvalue,
            reduction=reduction,
            deactivate_vmap=deactivate_vmap,
            use_prioritized_weights=use_prioritized_weights,
        )
        self.actor_gradient = actor_gradient
        if target_entropy == "auto":
            if action_spec is None and isinstance(actor_network, SafeProbabilisticTensorDictSequential):
                action_spec = actor_network.spec
            target_entropy = auto_target_entropy(action_spec, self.tensor_keys.action, self.n_agents)
        device = self.log_alpha.device
        self.register_buffer("_target_entropy", torch.tensor(float(target_entropy), device=device))

    @dispatch(auto_batch_size=False)
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch; see the class for what it returns and writes."""
        self._set_batch_size(tensordict)
        batch = self._read_batch(tensordict)
        loss_qvalue, td_error = self._qvalue_terms(tensordict, batch)
        loss_actor, log_prob = self._actor_terms(tensordict, batch)
        loss_alpha = self._alpha_term(log_prob, batch, self._weights(tensordict))
        tensordict.set(self.tensor_keys.priority, td_error)
        losses = {"loss_actor": loss_actor, "loss_qvalue": loss_qvalue, "loss_alpha": loss_alpha}
        if self.reduction == "none":
            out = TensorDict(losses, batch_size=tensordict.batch_size)
        else:
            entropy = functional.masked_mean(-log_prob, None if batch.all_alive else batch.alive)
            out = TensorDict({**losses, "alpha": self.alpha, "entropy": entropy}, batch_size=[])
        self._clear_weakrefs(
            tensordict, out, "actor_network_params", "qvalue_network_params", "target_qvalue_network_params"
        )
        return out

    def target_value(self, tensordict: TensorDictBase) -> Tensor:
        """The critic target of a batch, without gradient.

        Returns:
            ``[*B, N, 1]``, or ``[*B, 1]`` with a team critic; 0 where nothing is trained (a dead agent).
        """
        return self._target_value(tensordict, self._read_batch(tensordict))

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor loss alone, and the log-probability ``[*B, N, 1]`` it was computed with."""
        loss, log_prob = self._actor_terms(tensordict, self._read_batch(tensordict))
        return loss, {"log_prob": log_prob}

    def qvalue_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic loss alone, and the priority ``[*B]``."""
        loss, td_error = self._qvalue_terms(tensordict, self._read_batch(tensordict))
        return loss, {"td_error": td_error}

    def _qvalue_terms(self, tensordict: TensorDictBase, batch: GroupBatch) -> tuple[Tensor, Tensor]:
        target = self._target_value(tensordict, batch)
        action = get_entry(tensordict, self.tensor_keys.action, "the critic")
        fill = self._valid_entries(tensordict, batch)
        inputs = self._critic_inputs(tensordict, action, batch, batch.alive, known=batch.all_alive, fill=fill)
        q_values = self._q_values(inputs, self.qvalue_network_params, batch.n_agents)
        trained = batch.trained(target)
        loss = functional.critic_loss(q_values, target, self.loss_function)
        error = (q_values.detach() - target).abs().amax(0)
        error = torch.where(trained, error, torch.zeros_like(error))
        td_error = error.flatten(tensordict.batch_dims).amax(-1)
        return self._reduce(loss, trained, self._weights(tensordict), batch), td_error

    @torch.no_grad()
    def _target_value(self, tensordict: TensorDictBase, batch: GroupBatch) -> Tensor:
        next_action, next_log_prob = self._next_action(tensordict, batch)
        q_value = self._next_q_value(tensordict, batch, next_action)
        alpha = self._per_pair(self.alpha)
        if q_value.shape == batch.team_shape:
            next_value = functional.team_soft_state_value(q_value, next_log_prob, alpha, batch.acts_next)
        else:
            # The dead have no entropy; their value counts only posthumously.
            entropy_term = torch.where(batch.acts_next, next_log_prob, torch.zeros_like(next_log_prob))
            next_value = functional.soft_state_value(q_value, entropy_term, alpha)
        target = functional.soft_td_target(
            batch.reward_for(q_value), batch.ends(q_value), next_value, self._discount(tensordict, q_value)
        )
        if batch.all_alive:
            return target
        return torch.where(batch.trained(q_value), target, torch.zeros_like(target))

    def _next_action(self, tensordict: TensorDictBase, batch: GroupBatch) -> tuple[Tensor, Tensor]:
        """Actions ``[*B, N, d]`` and log-probabilities ``[*B, N, 1]`` of the next state; see ``skip_done_states``."""
        next_state = tensordict.get("next")
        keys = self.actor_network.in_keys
        executed = get_entry(tensordict, self.tensor_keys.action, "the loss")
        if self.skip_mode == "drop" and self._may_run_on_pairs(tensordict, batch):
            return act_on_pairs(
                self._sample, next_state, keys, self.group, batch.acts_next, executed, pack_rows=self.pack_rows
            )
        fill = self._valid_entries(tensordict, batch)
        if self.skip_mode == "off":
            if batch.all_alive:
                for key in keys:
                    get_entry(next_state, key, "the actor")
                return self._sample(next_state.select(*keys))
            return self._sample(replace_entries(next_state, keys, self.group, batch.alive, fill))
        filled = replace_entries(next_state, keys, self.group, batch.acts_next, fill)
        if self.skip_mode == "fill":
            return self._sample(filled)
        rows = _rows_that_go_on(batch)
        if rows.numel() == 0:
            return torch.zeros_like(executed), executed.new_zeros(batch.value_shape)
        action, log_prob = self._sample(select_rows(filled, rows))
        return scatter_rows(action, rows, batch.batch_size), scatter_rows(log_prob, rows, batch.batch_size)

    def _may_run_on_pairs(self, tensordict: TensorDictBase, batch: GroupBatch) -> bool:
        """Whether the actor is shared, tried once: if not, one claimed to be is an error, another goes per agent."""
        if self._runs_on_pairs is not None:
            return self._runs_on_pairs
        if batch.batch_size.numel() < 2:
            return False  # one row cannot show it; rows of agents are right for every actor

        def log_prob(inputs: TensorDictBase, action: Tensor) -> Tensor:
            with parameters_in(self.actor_network, self.actor_network_params):
                return self.actor_network.get_dist(inputs).log_prob(action)

        executed = get_entry(tensordict, self.tensor_keys.action, "the loss")
        action = torch.where(batch.alive, executed, torch.zeros_like(executed))
        inputs = self._actor_inputs(tensordict, batch)
        keys = self.actor_network.in_keys
        reason = why_not_on_pairs(log_prob, inputs, keys, self.group, action, pack_rows=self.pack_rows)
        if reason is not None and self._claims_shared:
            raise ValueError(
                "actor_layout='shared' must describe an actor for which the agent axis is a batch axis; "
                f"{reason}. Pass actor_layout='per_agent' or 'auto'."
            )
        self._runs_on_pairs = reason is None
        return self._runs_on_pairs

    def _next_q_value(self, tensordict: TensorDictBase, batch: GroupBatch, next_action: Tensor) -> Tensor:
        """``min_k`` of the target critics at the next state; in drop mode 0 in the rows that end."""
        next_state = tensordict.get("next")
        acts = batch.alive if self.skip_mode == "off" and not self._sees_zeros else batch.acts_next
        known = batch.all_alive and acts is batch.alive
        fill = self._valid_entries(tensordict, batch)
        inputs = self._critic_inputs(next_state, next_action, batch, acts, known=known, fill=fill)
        rows = _rows_that_go_on(batch) if self.skip_mode == "drop" else None
        if rows is None or rows.numel() == 0:
            return self._q_values(inputs, self.target_qvalue_network_params, batch.n_agents).amin(0)
        q_values = self._q_values(select_rows(inputs, rows), self.target_qvalue_network_params, batch.n_agents)
        return scatter_rows(q_values.amin(0), rows, batch.batch_size)

    def _actor_terms(self, tensordict: TensorDictBase, batch: GroupBatch) -> tuple[Tensor, Tensor]:
        action, log_prob = self._sample(self._actor_inputs(tensordict, batch))
        fill = self._valid_entries(tensordict, batch)
        inputs = self._critic_inputs(tensordict, action, batch, batch.alive, known=batch.all_alive, fill=fill)
        params = self.qvalue_network_params.detach()
        own = self.actor_gradient == "own" and self.centralized_critic
        if own and isinstance(self.qvalue_network, StackedCritic):
            q_value = self.qvalue_network.stacked_values(inputs, params, own_gradient=True).amin(0)
        else:
            q_value = self._q_values(inputs, params, batch.n_agents).amin(0)
            if own and q_value.shape == batch.value_shape and q_value.requires_grad:
                q_value = own_gradient(q_value, action)
        alpha = self._per_pair(self.alpha)
        if q_value.shape == batch.team_shape:
            loss = functional.team_actor_loss(log_prob, q_value, alpha, batch.alive)
            mask = batch.alive.any(dim=-2)
        else:
            loss = functional.actor_loss(log_prob, q_value, alpha)
            mask = batch.alive
        return self._reduce(loss, mask, self._weights(tensordict), batch), log_prob.detach()

    def _alpha_term(self, log_prob: Tensor, batch: GroupBatch, weights: Tensor | None) -> Tensor:
        if not batch.all_alive:
            log_prob = torch.where(batch.alive, log_prob, torch.zeros_like(log_prob))
        loss = functional.temperature_loss(self._per_pair(self.log_alpha), log_prob, self.target_entropy)
        return self._reduce(loss, batch.alive, weights, batch)

    def _sample(self, state: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Reparametrized actions ``[..., d]`` and log-probabilities ``[..., 1]`` of the current policies."""
        with (
            set_exploration_type(ExplorationType.RANDOM),
            parameters_in(self.actor_network, self.actor_network_params),
        ):
            action, log_prob = rsample_and_log_prob(self.actor_network.get_dist(state))
        if log_prob.shape == action.shape[:-1]:
            return action, log_prob.unsqueeze(-1)
        if log_prob.shape == (*action.shape[:-1], 1):
            return action, log_prob
        raise ValueError(
            f"the actor's distribution must give one log-probability an agent, of shape {list(action.shape[:-1])} for "
            f"actions of shape {list(action.shape)}; got {list(log_prob.shape)}. Use a distribution that sums over the "
            "dimensions of an action (TanhNormal, IndependentNormal, Independent(...))."
        )


def _rows_that_go_on(batch: GroupBatch) -> Tensor:
    """Indices into the flattened batch of the rows in which any agent acts next."""
    return batch.acts_next.any(dim=-2).reshape(-1).nonzero().squeeze(-1)
