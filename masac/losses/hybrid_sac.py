"""Soft Actor-Critic for a group of agents whose actions have a continuous and a discrete part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import Tensor, nn
from torch.distributions import Distribution
from torchrl.data import TensorSpec
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac import functional
from masac.compat import parameters_in, rsample_and_log_prob
from masac.errors import ConfigError, check_choice
from masac.group_signals import GroupSignals
from masac.groups import DISCRETE_ACTION
from masac.keys import as_path, get_entry
from masac.layouts import StackedCritic
from masac.losses.base import PolicyOutput, Terms
from masac.losses.discrete_sac import GroupDiscreteSACLoss, logits_of
from masac.losses.network_inputs import GroupActions, OtherGroups
from masac.losses.options import ActorGradient, GroupLossOptions
from masac.losses.target_entropy import auto_target_entropy
from masac.losses.temperature import clamped_alpha

if TYPE_CHECKING:
    from typing_extensions import Unpack

MAX_COMBINATIONS = 1024
"""A critic has a value for every combination of the choices of all factors, at most this many."""


class HybridAction(NamedTuple):
    """The output of a hybrid policy, whose parts are independent given the observation.

    Args:
        action: the continuous part, reparametrized, ``[*B, N, d]``.
        continuous_log_prob: of it, ``[*B, N, 1]``.
        log_probs: of all choices of the discrete part, ``[*B, N, D]``, 0 for illegal ones.
        probs: ``[*B, N, D]``, 0 for illegal choices.
        legal: bool ``[*B, N, D]``.
    """

    action: Tensor
    continuous_log_prob: Tensor
    log_probs: Tensor
    probs: Tensor
    legal: Tensor

    @property
    def discrete_log_prob(self) -> Tensor:
        """``Σ_d π(d|s) log π(d|s)``, ``[*B, N, 1]``: minus the entropy of the discrete part."""
        return functional.expectation(self.probs, self.log_probs)

    @property
    def log_prob(self) -> Tensor:
        """The sum over both parts, ``[*B, N, 1]``."""
        return self.continuous_log_prob + self.discrete_log_prob


class GroupHybridSACLoss(GroupDiscreteSACLoss):
    """Soft Actor-Critic with hybrid actions (Delalleau et al. 2019, arXiv 1912.11077) for a group of N agents.

    An action has a continuous part at ``(group, "action")``, ``[*B, N, d]``, and a discrete one of K factors at
    ``(group, "discrete_action")``, indices ``[*B, N, K]``. They are independent given the observation. A critic sees
    the continuous part and values every combination of the choices, ``Q_i(s, c)[d]``, so that the expectation over the
    discrete part is exact. Each part has its own temperature and target entropy, as in the paper; there the continuous
    part may depend on the discrete one, here it does not. Everything else is as in :class:`GroupSACLoss` and
    :class:`GroupDiscreteSACLoss`.

    Args:
        actor_network: from :func:`masac.make_hybrid_actor`, or another one with a module for the distribution of the
            continuous part, then one for that of the discrete part, categorical with logits ``[*B, N, D]``.
        qvalue_network: a critic from ``masac.make_critic(..., action_dim=d + D, n_actions=C, own_action_dim=d)``, where
            D adds up and C multiplies the choices of the factors. Copied ``num_qvalue_nets`` times.
        action_space: the spec of the discrete part, or ``"multi-discrete"``.
        num_actions: choices of each factor, where ``action_space`` is no spec.
        action_spec: the spec of the continuous part, which ``target_entropy="auto"`` is read from.
        target_entropy: of the continuous part, in nats; ``"auto"`` is -d.
        target_entropy_weight: of the discrete part: the fraction of the highest possible entropy, over legal choices.
        actor_gradient: of the continuous part, see :class:`GroupSACLoss`; the discrete one follows its own value.
        validate_actions: see :class:`GroupDiscreteSACLoss`.
        options: see :class:`GroupLossOptions`; ``alpha_init``, its bounds and ``fixed_alpha`` are of both temperatures.

    ``forward`` returns and writes the same entries as that of :class:`GroupSACLoss`, and ``alpha_discrete``. ``alpha``
    is the temperature of the continuous part; entropies are sums over both parts.
    """

    @dataclass
    class _AcceptedKeys(GroupDiscreteSACLoss._AcceptedKeys):
        discrete_action: NestedKey = DISCRETE_ACTION

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys  # pyright: ignore[reportIncompatibleVariableOverride]
    log_alpha_discrete: Tensor
    continuous_target_entropy: Tensor
    _keys_in_group = (*GroupDiscreteSACLoss._keys_in_group, "discrete_action")

    number_of_actions = 2
    policy_type = HybridAction  # pyright: ignore[reportAssignmentType]

    def _terms(
        self,
        tensordict: TensorDictBase,
        signals: GroupSignals,
        policy: PolicyOutput | None,
        next_policy: PolicyOutput | None,
        others: OtherGroups,
    ) -> Terms:
        """Soft Actor-Critic with hybrid actions for every agent (Delalleau et al. 2019, arXiv 1912.11077)."""
        terms, alphas = Terms(), (self._per_pair(self.alpha_discrete), self._per_pair(self.alpha))
        if next_policy is not None:
            # Critics: y = r + γ (1 - e) (Σ_d π(d|s') (min_k Q'_k(s', c')[d] - α_d log π(d|s')) - α_c log π(c'|s')).
            after = next_policy.policy
            next_q_values = self._smallest_target_critic(tensordict, signals, next_policy, others)
            probs = functional.combinations(after.probs, self._sizes)
            log_probs = (after.discrete_log_prob, after.continuous_log_prob)
            next_value = functional.hybrid_soft_state_value(next_q_values, probs, *log_probs, *alphas)
            if self.end_rules.posthumous:  # the first choice of every factor stands for having none
                next_value = torch.where(signals.alive_next, next_value, next_q_values[..., :1])
            terms.target = self._critic_target(tensordict, signals, next_value)
            executed = self._executed(tensordict, signals)
            assert executed.action is not None
            chosen = functional.combinations(executed.action[..., -sum(self._sizes) :], self._sizes)
            terms.q_values = self._chosen_values(tensordict, signals, executed, others, chosen)
            terms.critic_loss = functional.critic_loss(terms.q_values, terms.target, self.loss_function)
        if policy is not None:
            # Actor: α_c log π(c|s) + Σ_d π(d|s) (α_d log π(d|s) - min_k Q_k(s, c)[d]).
            now = policy.policy
            q_values = self._values_of_own_action(tensordict, signals, policy, others)
            probs = functional.combinations(now.probs, self._sizes)
            log_probs = (now.discrete_log_prob, now.continuous_log_prob)
            terms.actor_loss = functional.hybrid_actor_loss(q_values, probs, *log_probs, *alphas)
            # Temperatures: -log α_c (log π(c|s) + target entropy), and the same of the discrete part.
            targets = (self._target_entropy_per_agent(now), self.continuous_target_entropy)
            terms.log_prob, terms.target_entropy = now.log_prob, targets[0] + targets[1]
            discrete, continuous = (
                self._temperature_loss(log_prob, target, signals, log_alpha=log_alpha)
                for log_prob, target, log_alpha in zip(log_probs, targets, self.log_alphas[::-1], strict=True)
            )
            terms.temperature_loss = discrete + continuous
        return terms

    def __init__(
        self,
        actor_network: ProbabilisticTensorDictSequential,
        qvalue_network: TensorDictModule | list[TensorDictModule],
        *,
        action_space: str | TensorSpec | None = "multi-discrete",
        num_actions: int | Sequence[int] | None = None,
        action_spec: TensorSpec | None = None,
        target_entropy: float | Literal["auto"] = "auto",
        target_entropy_weight: float = 0.98,
        actor_gradient: ActorGradient = "own",
        validate_actions: bool = True,
        **options: Unpack[GroupLossOptions],
    ) -> None:
        check_choice("actor_gradient", actor_gradient, ActorGradient)
        super().__init__(
            actor_network,
            qvalue_network,
            action_space=action_space,
            num_actions=num_actions,
            target_entropy_weight=target_entropy_weight,
            validate_actions=validate_actions,
            **options,
        )
        check_combinations(self._sizes, self.group)
        if not (isinstance(self.qvalue_network, StackedCritic) and self.qvalue_network.hides_own_action):
            raise ValueError(
                f"a critic of hybrid actions must be from masac.make_critic(..., n_actions={math.prod(self._sizes)}, "
                f"own_action_dim=<continuous dimensions>), which sees the continuous part of an agent's action and "
                f"values the discrete one; got {type(self.qvalue_network).__name__}."
            )
        self.draws_actions = True
        self.actor_gradient = actor_gradient
        if target_entropy == "auto":
            target_entropy = auto_target_entropy(action_spec, self.tensor_keys.action, self.n_agents)
        device = self.log_alpha.device
        self.register_buffer("continuous_target_entropy", torch.tensor(float(target_entropy), device=device))
        log_alpha = self.log_alpha.detach().clone()
        if self.fixed_alpha:
            self.register_buffer("log_alpha_discrete", log_alpha)
        else:
            self.register_parameter("log_alpha_discrete", nn.Parameter(log_alpha))
        if self.reduction != "none":
            self.out_keys = [*self.out_keys, "alpha_discrete"]

    @property
    def alpha_discrete(self) -> Tensor:
        """The temperature of the discrete part, as :attr:`alpha` is that of the continuous one."""
        return clamped_alpha(self.log_alpha_discrete, self.min_log_alpha, self.max_log_alpha)

    @property
    def log_alphas(self) -> list[Tensor]:
        """The logarithms of the temperatures, of the continuous and of the discrete part."""
        return [self.log_alpha, self.log_alpha_discrete]

    def alpha_loss(self, log_prob: Tensor) -> Tensor:
        """Not taken, as each part has a temperature; raises NotImplementedError."""
        raise NotImplementedError("alpha_loss of hybrid actions is not taken, because each part has a temperature.")

    @property
    def in_keys(self) -> list[NestedKey]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The entries that ``forward`` needs. It also reads :attr:`optional_in_keys` where the data has them."""
        if self._in_keys is None:
            action, *others = super().in_keys
            self._in_keys = [action, as_path(self.tensor_keys.discrete_action), *others]
        return self._in_keys

    @in_keys.setter
    def in_keys(self, values: list[NestedKey]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._in_keys = values

    def _set_group_keys(self) -> None:
        super()._set_group_keys()
        modules = [one for one in self.actor_network.modules() if isinstance(one, ProbabilisticTensorDictModule)]
        if len(modules) == 2:  # dist_sample_keys has those of the last one alone
            keys = [one.out_keys[0] for one in modules]
            self._resolved_keys.update(zip(("action", "discrete_action"), keys, strict=True))
            self.set_keys(action=None, discrete_action=None)

    def _act(self, state: TensorDictBase) -> HybridAction:  # pyright: ignore[reportIncompatibleMethodOverride]
        with (
            set_exploration_type(ExplorationType.RANDOM),
            parameters_in(self.actor_network, self.actor_network_params),
        ):
            continuous, discrete = self._distributions(state)
            action, log_prob = rsample_and_log_prob(continuous)
        return HybridAction(action, log_prob.unsqueeze(-1), *self._legal_policy(logits_of(discrete), state))

    def _distributions(self, state: TensorDictBase) -> list[Distribution]:
        """The distributions of the continuous and of the discrete part."""
        state, found = state.copy(), []
        for index in range(len(self.actor_network)):
            module = self.actor_network[index]
            if isinstance(module, ProbabilisticTensorDictModule):
                found.append(module.get_dist(state))
            else:
                state = module(state)
        if len(found) != 2:
            raise ValueError(
                "an actor of hybrid actions must have one distribution of the continuous and one of the discrete part; "
                f"got {len(found)}. Build it with masac.make_hybrid_actor."
            )
        return found

    def _fingerprint(self, state: TensorDictBase) -> Tensor:
        with parameters_in(self.actor_network, self.actor_network_params):
            continuous, discrete = self._distributions(state)
            action = get_entry(state, self.tensor_keys.action, "the loss")
            return torch.cat([continuous.log_prob(action).unsqueeze(-1), logits_of(discrete).clamp_min(-1e9)], -1)

    def _action_for_critics(self, policy: HybridAction) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        drawn = functional.draw_one_hot(policy.probs.detach(), self._sizes)
        return torch.cat([policy.action, drawn], dim=-1)

    def _executed(self, tensordict: TensorDictBase, signals: GroupSignals) -> GroupActions:
        """The continuous part in the data, then the discrete one as one-hot vectors."""
        continuous, indices = (
            get_entry(tensordict, key, "the critic")
            for key in (self.tensor_keys.action, self.tensor_keys.discrete_action)
        )
        vectors = self._executed_action(indices, signals).to(continuous.dtype)
        action = torch.cat([continuous, vectors], dim=-1)
        return self._group_actions(action, signals.alive, everyone_acts=signals.has_no_mask)

    def _values_of_own_action(
        self, tensordict: TensorDictBase, signals: GroupSignals, policy: PolicyOutput, others: OtherGroups
    ) -> Tensor:
        """``min_k Q_k(s, c)[·]`` of the policies' actions, ``[*B, N, C]``, the critics held fixed."""
        inputs = self._critic_inputs(tensordict, tensordict, signals, policy.actions, others.current)
        inputs = self._held_fixed(inputs)
        critic, own = self.qvalue_network, self.actor_gradient == "own" and self.centralized_critic
        assert isinstance(critic, StackedCritic)
        return critic.stacked_values(inputs, self.qvalue_network_params.detach(), own_gradient=own).amin(0)

    def _logged(self, terms: Terms, entropy: Tensor, td_error: Tensor, signals: GroupSignals) -> dict[str, Tensor]:
        return {**super()._logged(terms, entropy, td_error, signals), "alpha_discrete": self.alpha_discrete}

    def _unreduced(self, losses: dict[str, Tensor], entropy: Tensor, signals: GroupSignals) -> TensorDict:
        out = super()._unreduced(losses, entropy, signals)
        if self.scalar_output_mode == "non_tensor":
            out.set_non_tensor("alpha_discrete", self.alpha_discrete)
        return out

    @property
    def _n_values(self) -> int:
        return math.prod(self._sizes)

    @property
    def _min_action_dims(self) -> int:
        return 1

    def _action_dims(self, action: Tensor) -> int:
        return 1


def check_combinations(sizes: Sequence[int], group: NestedKey) -> None:
    """Raise :class:`~masac.errors.ConfigError` for more combinations of choices than a critic has values for."""
    if math.prod(sizes) > MAX_COMBINATIONS:
        raise ConfigError(
            f"the discrete part of a hybrid action must have at most {MAX_COMBINATIONS:,} combinations of choices, "
            f"each with a value; got {math.prod(sizes):,} ({' x '.join(map(str, sizes))}) in group {group!r}. Reduce "
            "the choices in a task.factory of your own, or make all parts discrete or all continuous."
        )
