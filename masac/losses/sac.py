"""Soft Actor-Critic for a group of agents with continuous actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule
from torch import Tensor
from torchrl.data import Composite, TensorSpec
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import SafeProbabilisticTensorDictSequential

from masac import functional
from masac.compat import parameters_in, rsample_and_log_prob
from masac.errors import check_choice
from masac.group_signals import GroupSignals
from masac.keys import as_path, get_entry
from masac.layouts import StackedCritic
from masac.losses.base import GroupLoss, PolicyOutput, Terms
from masac.losses.critic_values import own_gradient
from masac.losses.network_inputs import OtherGroups
from masac.losses.options import ActorGradient, GroupLossOptions, check_torchrl_options
from masac.losses.target_entropy import auto_target_entropy

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SampledAction(NamedTuple):
    """The output of a continuous policy.

    Args:
        action: reparametrized, ``[*B, N, d]``.
        log_prob: ``log π_i(a_i|o_i)``, ``[*B, N, 1]``.
    """

    action: Tensor
    log_prob: Tensor


class GroupSACLoss(GroupLoss):
    """Soft Actor-Critic (Haarnoja et al. 2018, arXiv 1812.05905) for a group of N agents.

    Replaces ``torchrl.objectives.SACLoss``; any agent may end before the others. The data has batch size ``*B``
    (``[B]`` or ``[B, T]``), and the entries of the agents at ``group``, batch size ``[*B, N]``. Rewards and terminated
    flags are read from the group, else from the root; they have one value per agent or one for the team. An agent whose
    agent mask is False in the current state has no weight in any term, whatever its entries hold. Where ``terminated``
    is set the critic target is the reward; where the episode was only truncated it bootstraps. In rows that TorchRL
    masks as padding no agent is alive, see :attr:`loss_mask_key`.

    Args:
        actor_network: a ``ProbabilisticActor`` that writes the action ``[*B, N, d]`` and its log-probability.
        qvalue_network: a critic that reads the action and writes ``state_action_value``: ``[*B, N, 1]``, a value per
            agent, or ``[*B, 1]``, one for the team. Copied ``num_qvalue_nets`` times, or a list of that many.
        value_network: None; the first SAC's is not taken.
        action_spec: the spec that ``target_entropy="auto"`` is read from; that of the actor if None. Where neither is
            known, set ``loss._action_spec`` before the first use, as TorchRL's trainers do.
        target_entropy: entropy in nats of one agent's policy that the temperature aims at; ``"auto"`` is
            -(dimensions of one agent's action).
        actor_gradient: with a centralized critic, ``"own"``: agent i's policy follows ∂Q_i/∂a_i only; ``"joint"``, as
            TorchRL: the gradient of the mean over agents, so ∂Q_j/∂a_i too. For masac's critics "own" is free; for a
            foreign centralized critic with a value per agent it costs one backward pass per agent from values to
            actions. For a team critic both are the same.
        options: see :class:`GroupLossOptions`.

    ``forward`` returns a TensorDict with ``loss_actor``, ``loss_qvalue``, ``loss_alpha``, ``alpha`` and ``entropy``,
    and for logging ``target_entropy``, ``qvalue`` (the mean value of the executed actions), ``td_error`` (the mean
    priority), ``fraction_masked`` (of dead agents) and ``fraction_terminal`` (of living agents that end). A call with
    keyword tensors returns the first five, as TorchRL's losses do, or the keys selected with ``select_out_keys``.
    ``forward`` also writes the priority ``td_error`` ``[*B]`` into its input: the largest error of any critic over
    living agents.

    Examples:
        >>> loss = GroupSACLoss(actor, critic, action_spec=env.full_action_spec, skip_done_states="fill")
        >>> losses = loss(replay_buffer.sample())
        >>> (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
    """

    @dataclass
    class _AcceptedKeys(GroupLoss._AcceptedKeys):
        state_action_value: NestedKey = "state_action_value"

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys  # pyright: ignore[reportIncompatibleVariableOverride]
    _value_name = "state_action_value"
    _keys_in_group = (*GroupLoss._keys_in_group, "state_action_value")

    policy_type = SampledAction

    def _terms(
        self,
        tensordict: TensorDictBase,
        signals: GroupSignals,
        policy: PolicyOutput | None,
        next_policy: PolicyOutput | None,
        others: OtherGroups,
    ) -> Terms:
        """Soft Actor-Critic for every agent (Haarnoja et al. 2018, arXiv 1812.05905)."""
        terms, alpha = Terms(), self._per_pair(self.alpha)
        if next_policy is not None:
            # Critics: y = r + γ (1 - d) (min_k Q'_k(s', a') - α log π(a'|s')), with a' of the current policies.
            next_q_value = self._smallest_target_critic(tensordict, signals, next_policy, others)
            next_log_prob = next_policy.policy.log_prob
            if next_q_value.shape == signals.team_shape:
                next_value = functional.team_soft_state_value(next_q_value, next_log_prob, alpha, signals.alive_next)
            else:  # the dead have no entropy; their value counts only posthumously
                next_log_prob = torch.where(signals.alive_next, next_log_prob, torch.zeros_like(next_log_prob))
                next_value = functional.soft_state_value(next_q_value, next_log_prob, alpha)
            terms.target = self._critic_target(tensordict, signals, next_value)
            terms.q_values = self._critics(tensordict, signals, self._executed(tensordict, signals), others.executed)
            terms.critic_loss = functional.critic_loss(terms.q_values, terms.target, self.loss_function)
        if policy is not None:
            # Actor: α log π(a|s) - min_k Q_k(s, a).
            terms.log_prob = log_prob = policy.policy.log_prob
            q_value = self._value_of_own_action(tensordict, signals, policy, others)
            if q_value.shape == signals.team_shape:
                terms.actor_loss = functional.team_actor_loss(log_prob, q_value, alpha, signals.alive)
            else:
                terms.actor_loss = functional.actor_loss(log_prob, q_value, alpha)
            # Temperature: -log α (log π(a|s) + target entropy).
            terms.target_entropy = self.target_entropy
            terms.temperature_loss = self._temperature_loss(log_prob, terms.target_entropy, signals)
        return terms

    def __init__(
        self,
        actor_network: ProbabilisticTensorDictSequential,
        qvalue_network: TensorDictModule | list[TensorDictModule],
        value_network: None = None,
        *,
        action_spec: TensorSpec | None = None,
        target_entropy: float | Literal["auto"] = "auto",
        actor_gradient: ActorGradient = "own",
        **options: Unpack[GroupLossOptions],
    ) -> None:
        check_choice("actor_gradient", actor_gradient, ActorGradient)
        check_torchrl_options({"value_network": value_network}, type(self).__name__)
        super().__init__(actor_network, qvalue_network, **options)
        self.actor_gradient = actor_gradient
        self._auto_target_entropy = target_entropy == "auto"
        self._target_entropy: Tensor | Literal["auto"] = "auto"  # until it is known, when it becomes a buffer
        self._action_spec = action_spec
        if target_entropy != "auto":
            self._set_target_entropy(target_entropy)
        self.register_load_state_dict_pre_hook(_fit_target_entropy)

    @property
    def target_entropy(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The entropy of each agent's policy that the temperature aims at, in nats.

        Raises:
            ValueError: if it is ``"auto"`` and no action spec is known yet.
        """
        if not isinstance(self._target_entropy, Tensor):
            self._set_target_entropy(self._auto_from(self._action_spec))
        return self.get_buffer("_target_entropy")

    @property
    def target_entropy_buffer(self) -> Tensor:
        """TorchRL's other name of :attr:`target_entropy`."""
        return self.target_entropy

    @property
    def _action_spec(self) -> TensorSpec | None:
        """The spec that ``"auto"`` is read from; TorchRL's trainers set it once they know the environment."""
        return self._given_action_spec

    @_action_spec.setter
    def _action_spec(self, spec: TensorSpec | None) -> None:
        self._given_action_spec = spec
        if self._auto_target_entropy and (spec is not None or self._actors_spec() is not None):
            self._set_target_entropy(self._auto_from(spec))

    def _actors_spec(self) -> TensorSpec | None:
        """The spec of the actor, if it has one for the action."""
        if not isinstance(self.actor_network, SafeProbabilisticTensorDictSequential):
            return None
        spec = self.actor_network.spec
        known = not isinstance(spec, Composite) or spec.get(as_path(self.tensor_keys.action), None) is not None
        return spec if known else None

    def _auto_from(self, spec: TensorSpec | None) -> float:
        spec = self._actors_spec() if spec is None else spec
        return auto_target_entropy(spec, self.tensor_keys.action, self.n_agents)

    def _set_target_entropy(self, value: float) -> None:
        if isinstance(self._target_entropy, Tensor):
            self._target_entropy.fill_(value)
        else:
            del self._target_entropy
            self.register_buffer("_target_entropy", torch.tensor(float(value), device=self.log_alpha.device))

    def qvalue_v2_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """TorchRL's name of :meth:`qvalue_loss`."""
        return self.qvalue_loss(tensordict)

    def _act(self, state: TensorDictBase) -> SampledAction:
        with (
            set_exploration_type(ExplorationType.RANDOM),
            parameters_in(self.actor_network, self.actor_network_params),
        ):
            action, log_prob = rsample_and_log_prob(self.actor_network.get_dist(state))
        if log_prob.shape == action.shape[:-1]:
            return SampledAction(action, log_prob.unsqueeze(-1))
        if log_prob.shape == (*action.shape[:-1], 1):
            return SampledAction(action, log_prob)
        raise ValueError(
            f"the actor's distribution must give one log-probability per agent, of shape {list(action.shape[:-1])} for "
            f"actions of shape {list(action.shape)}; got {list(log_prob.shape)}. Use a distribution that sums over the "
            "dimensions of an action (TanhNormal, IndependentNormal, Independent(...))."
        )

    def _fingerprint(self, state: TensorDictBase) -> Tensor:
        with parameters_in(self.actor_network, self.actor_network_params):
            action = get_entry(state, self.tensor_keys.action, "the loss")
            return self.actor_network.get_dist(state).log_prob(action)

    def _value_of_own_action(
        self, tensordict: TensorDictBase, signals: GroupSignals, policy: PolicyOutput, others: OtherGroups
    ) -> Tensor:
        """``min_k Q_k`` of the policies' actions, the critics held fixed; see ``actor_gradient``."""
        inputs = self._critic_inputs(tensordict, tensordict, signals, policy.actions, others.current)
        inputs = self._held_fixed(inputs)
        params = self.qvalue_network_params.detach()
        own = self.actor_gradient == "own" and self.centralized_critic
        if own and isinstance(self.qvalue_network, StackedCritic):
            return self.qvalue_network.stacked_values(inputs, params, own_gradient=True).amin(0)
        q_value = self._q_values(inputs, params, signals.n_agents).amin(0)
        if own and q_value.shape == signals.value_shape and q_value.requires_grad:
            return own_gradient(q_value, policy.policy.action)
        return q_value


def _fit_target_entropy(loss: GroupSACLoss, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Register the target entropy where the loaded state has one."""
    if f"{prefix}_target_entropy" in state and not isinstance(loss._target_entropy, Tensor):
        loss._set_target_entropy(0.0)
