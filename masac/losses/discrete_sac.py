"""Soft Actor-Critic for a group of agents with discrete actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, OneHotCategorical
from torchrl.data import TensorSpec

from masac import functional
from masac.actions.discrete import TORCHRL_NAMES, resolve_action_space
from masac.actions.multi_categorical import MultiCategorical
from masac.actions.validation import action_error, agents_without_action, agents_without_choice, first_agent
from masac.compat import parameters_in
from masac.group_signals import GroupSignals
from masac.keys import as_path
from masac.layouts import StackedCritic
from masac.losses.base import GroupLoss, PolicyOutput, Terms
from masac.losses.network_inputs import GroupActions, OtherGroups
from masac.losses.options import GroupLossOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ActionDistribution(NamedTuple):
    """The output of a discrete policy, for all factors of an action side by side.

    Args:
        log_probs: ``log π_i(·|o_i)``, ``[*B, N, D]``, 0 for illegal actions.
        probs: ``π_i(·|o_i)``, ``[*B, N, D]``, 0 for illegal actions.
        legal: bool ``[*B, N, D]``.
    """

    log_probs: Tensor
    probs: Tensor
    legal: Tensor

    @property
    def log_prob(self) -> Tensor:
        """``Σ_a π(a|s) log π(a|s)``, ``[*B, N, 1]``: minus the entropy."""
        return functional.expectation(self.probs, self.log_probs)


class GroupDiscreteSACLoss(GroupLoss):
    """Discrete Soft Actor-Critic (Christodoulou 2019, arXiv 1910.07207) for a group of N agents.

    Replaces ``torchrl.objectives.DiscreteSACLoss``. It reads the same data as :class:`GroupSACLoss`, and weights agents
    alike. Expectations over the legal actions of an agent are exact. Illegal actions (False at
    ``(group, "action_mask")``, which is read where the data has it, or with a logit of -inf) have probability 0 and
    contribute exactly 0, whatever probability the actor's distribution gives them.

    A multi-discrete action has independent factors: log-probabilities and entropies add. Its value is approximated by
    ``Q(s, a) = Σ_k Q_k(s, a_k)``, which cannot represent values that depend on the choices of two factors together.

    An independent critic is ``Q_i(o_i, ·)``, a centralized one ``Q_i(s, a_{-i}, ·)``: it sees the actions of the
    teammates, the executed ones in the critic loss, and ones drawn from the current policies in critic targets and in
    the actor loss. The action that the agent itself takes must not be among its inputs, since the expectation runs over
    all. masac's critics leave it out, and see actions as one-hot vectors; any other critic must not read the group's
    action at all.

    Args:
        actor_network: an actor with a categorical distribution of logits ``[*B, N, D]``.
        qvalue_network: a critic that writes ``action_value`` ``[*B, N, D]``, a value per agent and action. Copied
            ``num_qvalue_nets`` times, or a list of that many.
        action_space: ``"one-hot"``, ``"categorical"`` (indices ``[*B, N]`` or ``[*B, N, 1]``), ``"multi-discrete"``
            (indices ``[*B, N, K]``), ``"mult-one-hot"``, another of TorchRL's names for these, or a spec.
        num_actions: choices of an action, or of each of its factors; read from the spec, where ``action_space`` is one.
        target_entropy: entropy in nats of one agent's policy that the temperature aims at; ``"auto"`` is
            ``target_entropy_weight`` times the log of the number of legal actions, for each agent in each state.
        target_entropy_weight: see ``target_entropy``. TorchRL's 0.98 keeps policies close to uniform; tuned settings
            (BenchMARL's is 0.2) are lower.
        validate_actions: check that every agent that acts has a legal action, and that its executed action exists.
            Inside ``torch.compile`` values are not checked; :class:`UpdateStep` checks the first batch of
            every kind.
        options: see :class:`GroupLossOptions`; with ``posthumous``, a dead agent's first action stands for having none.

    ``forward`` returns and writes the same entries as that of :class:`GroupSACLoss`.
    """

    @dataclass
    class _AcceptedKeys(GroupLoss._AcceptedKeys):
        action_value: NestedKey = "action_value"
        action_mask: NestedKey = "action_mask"

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys  # pyright: ignore[reportIncompatibleVariableOverride]
    target_entropy: Tensor
    _value_name = "action_value"
    _keys_in_group = (*GroupLoss._keys_in_group, "action_value", "action_mask")

    policy_type = ActionDistribution

    def _terms(
        self,
        tensordict: TensorDictBase,
        signals: GroupSignals,
        policy: PolicyOutput | None,
        next_policy: PolicyOutput | None,
        others: OtherGroups,
    ) -> Terms:
        """Discrete Soft Actor-Critic for every agent (Christodoulou 2019, arXiv 1910.07207)."""
        terms, alpha = Terms(), self._per_pair(self.alpha)
        if next_policy is not None:
            # Critics: y = r + γ (1 - d) Σ_a' π(a'|s') (min_k Q'_k(s', a') - α log π(a'|s')).
            probs, log_probs = next_policy.policy.probs, next_policy.policy.log_probs
            next_q_values = self._smallest_target_critic(tensordict, signals, next_policy, others)
            next_value = functional.discrete_soft_state_value(next_q_values, log_probs, probs, alpha)
            if self.end_rules.posthumous:
                of_the_dead = functional.expectation(self._first_choice(next_q_values), next_q_values)
                next_value = torch.where(signals.alive_next, next_value, of_the_dead)
            terms.target = self._critic_target(tensordict, signals, next_value)
            executed = self._executed(tensordict, signals)
            assert executed.action is not None
            terms.q_values = self._chosen_values(tensordict, signals, executed, others, executed.action)
            terms.critic_loss = functional.critic_loss(terms.q_values, terms.target, self.loss_function)
        if policy is not None:
            # Actor: Σ_a π(a|s) (α log π(a|s) - min_k Q_k(s, a)).
            probs, log_probs = policy.policy.probs, policy.policy.log_probs
            with torch.no_grad():
                q_values = self._critics(tensordict, signals, policy.actions, others.current).amin(0)
            terms.actor_loss = functional.discrete_actor_loss(q_values, log_probs, probs, alpha)
            # Temperature: -log α (Σ_a π(a|s) log π(a|s) + target entropy).
            terms.log_prob = log_prob = policy.policy.log_prob
            terms.target_entropy = self._target_entropy_per_agent(policy.policy)
            terms.temperature_loss = self._temperature_loss(log_prob, terms.target_entropy, signals)
        return terms

    def __init__(
        self,
        actor_network: ProbabilisticTensorDictSequential,
        qvalue_network: TensorDictModule | list[TensorDictModule],
        *,
        action_space: str | TensorSpec | None = "one-hot",
        num_actions: int | Sequence[int] | None = None,
        target_entropy: float | Literal["auto"] = "auto",
        target_entropy_weight: float = 0.98,
        validate_actions: bool = True,
        **options: Unpack[GroupLossOptions],
    ) -> None:
        super().__init__(actor_network, qvalue_network, **options)
        action_space = "one-hot" if action_space is None else action_space
        self.actions = resolve_action_space(action_space, num_actions, self.tensor_keys.action)
        self.validate_actions = validate_actions
        reads_action = as_path(self.tensor_keys.action) in map(as_path, self.qvalue_network.in_keys)
        if reads_action and not (
            isinstance(self.qvalue_network, StackedCritic) and self.qvalue_network.hides_own_action
        ):
            raise ValueError(
                f"a critic of discrete actions must not read the group's action; got one that reads "
                f"{self.tensor_keys.action!r}. It gives a value to each action of an agent, so the valued action would "
                "be among its inputs. Build it with make_critic(..., n_actions=...), which shows the critic of an "
                "agent the actions of its teammates only, or let it read observations alone."
            )
        self.draws_actions = reads_action
        self.auto_target_entropy = target_entropy == "auto"
        if target_entropy == "auto":
            if self.actions.sizes is None:
                raise ValueError(
                    "target_entropy='auto' must come with the number of actions; got none. "
                    "Pass num_actions, a spec as action_space, or target_entropy=<a number>."
                )
            everything = torch.ones(sum(self.actions.sizes), dtype=torch.bool)
            target_entropy = target_entropy_weight * functional.max_entropy(everything, self.actions.sizes).item()
        self.register_buffer("target_entropy", torch.tensor(float(target_entropy), device=self.log_alpha.device))

    def _chosen_values(
        self,
        tensordict: TensorDictBase,
        signals: GroupSignals,
        executed: GroupActions,
        others: OtherGroups,
        chosen: Tensor,
    ) -> Tensor:
        """The values of the executed actions, ``[K, *B, N, 1]``; ``chosen`` is ``[*B, N, V]``, 0 without an action."""
        critic = self.qvalue_network
        if len(self._sizes) > 1 or not isinstance(critic, StackedCritic) or self.deactivate_vmap:
            q_values = self._critics(tensordict, signals, executed, others.executed)
            return functional.expectation(chosen.to(q_values.dtype), q_values)
        inputs = self._critic_inputs(tensordict, tensordict, signals, executed, others.executed)
        values = critic.chosen_values(inputs, self.qvalue_network_params, chosen)
        return torch.where(chosen.any(-1, keepdim=True), values, torch.zeros_like(values))

    @property
    def action_space(self) -> str:
        """The encoding of actions, by TorchRL's name."""
        return TORCHRL_NAMES[self.actions.encoding]

    def _set_group_keys(self) -> None:
        super()._set_group_keys()
        masks = [
            key
            for module in self.actor_network.modules()
            if isinstance(module, ProbabilisticTensorDictModule)
            for name, key in zip(module.dist_keys, module.in_keys, strict=False)
            if name == "mask"
        ]
        if masks:
            self._resolved_keys["action_mask"] = masks[0]
            self.set_keys(action_mask=masks[0])

    @property
    def optional_in_keys(self) -> list[NestedKey]:
        """The entries that ``forward`` reads where present: keep them too when selecting data for the loss."""
        mask = as_path(self.tensor_keys.action_mask)
        return [*super().optional_in_keys, mask, ("next", *mask)]

    def _policy_keys(self, tensordict: TensorDictBase) -> list[NestedKey]:
        keys = super()._policy_keys(tensordict)
        mask = as_path(self.tensor_keys.action_mask)
        unread = mask not in map(as_path, keys) and tensordict.get(mask, None) is not None
        return [*keys, mask] if unread else keys

    def _act(self, state: TensorDictBase) -> ActionDistribution:
        with parameters_in(self.actor_network, self.actor_network_params):
            logits = logits_of(self.actor_network.get_dist(state))
        return ActionDistribution(*self._legal_policy(logits, state))

    def _legal_policy(self, logits: Tensor, state: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, probabilities and legal choices, each ``[*B, N, D]``."""
        mask = state.get(as_path(self.tensor_keys.action_mask), None)
        if mask is not None and mask.shape != logits.shape:
            raise ValueError(
                f"the action mask at {self.tensor_keys.action_mask!r} must have the shape of the logits, "
                f"{list(logits.shape)}; got {list(mask.shape)}."
            )
        sizes = self.actions.factors(logits.shape[-1])
        if self.actions.sizes is None:
            self.actions = replace(self.actions, sizes=sizes)
        return functional.discrete_policy(logits, None if mask is None else mask.bool(), sizes)

    def _fingerprint(self, state: TensorDictBase) -> Tensor:
        return self._act(state).log_probs

    def _target_entropy_per_agent(self, policy: Any) -> Tensor:
        if not self.auto_target_entropy:
            return self.target_entropy
        most = functional.max_entropy(torch.ones_like(policy.legal), self._sizes)
        # With a single choice the highest entropy is 0, and so is the target.
        return self.target_entropy * functional.max_entropy(policy.legal, self._sizes) / most.clamp_min(1e-12)

    def _action_for_critics(self, policy: ActionDistribution) -> Tensor | None:
        return functional.draw_one_hot(policy.probs.detach(), self._sizes) if self.draws_actions else None

    def _executed_action(self, action: Tensor, signals: GroupSignals) -> Tensor:
        alive = signals.alive.reshape(*signals.alive.shape[:-1], *(1,) * (action.ndim - signals.alive.ndim + 1))
        action = torch.where(alive, action, torch.zeros_like(action))
        lead = signals.alive.shape[:-1]
        vectors = self.actions.one_hot(action, lead, self._sizes, torch.get_default_dtype())
        if self._checks_values:
            self._check_executed(vectors, action, signals)
        # The posthumous value of a dead agent is that of its first choice.
        return vectors if signals.has_no_mask else torch.where(signals.alive, vectors, self._first_choice(vectors))

    def _check_values(self, values: Tensor, batch_size: torch.Size, n_agents: int) -> None:
        shape = [*batch_size, n_agents, self._n_values]
        if list(values.shape[1:]) == shape:
            return
        raise ValueError(
            f"a critic of discrete actions must write {self.tensor_keys.action_value!r} of shape {shape}, a value per "
            f"agent and action; got {list(values.shape[1:])}. A team critic would need a value for every combination "
            "of the agents' actions: use reward_reduction='mean' with a centralized critic instead."
        )

    def _read_signals(self, tensordict: TensorDictBase) -> GroupSignals:
        signals = super()._read_signals(tensordict)
        mask = as_path(self.tensor_keys.action_mask)
        found = [tensordict.get(key, None) is not None for key in (mask, ("next", *mask))]
        if found[0] != found[1]:
            missing = mask if found[1] else ("next", *mask)
            raise KeyError(
                f"the action mask must exist in both states; got none at {missing!r}. Add it, or name another entry "
                "with set_keys(action_mask=...)."
            )
        if self.validate_actions:
            self._check_legal(tensordict, signals.alive, "")
            self._check_legal(tensordict.get("next"), signals.alive_next, "the next state of ")
        return signals

    @property
    def _shape_advice(self) -> str:
        return f"{super()._shape_advice} Indices of actions are action_space='categorical'."

    @property
    def _min_action_dims(self) -> int:
        return 0 if self.actions.encoding == "categorical" else 1

    def _action_dims(self, action: Tensor) -> int:
        if self.actions.encoding != "categorical":
            return 1
        # [*B, N, 1] or [*B, N]; with one agent, a last dimension of 1 may be the agents'.
        trailing = action.shape[-1] == 1 and (self.n_agents != 1 or (action.ndim > 2 and action.shape[-2] == 1))
        return int(trailing)

    @property
    def _sizes(self) -> tuple[int, ...]:
        """The choices of each factor; known after the first run of the actor."""
        assert self.actions.sizes is not None
        return self.actions.sizes

    @property
    def _n_values(self) -> int:
        """The values that a critic has per agent."""
        return sum(self._sizes)

    def _first_choice(self, like: Tensor) -> Tensor:
        """The first choice of every factor, one-hot, ``[D]``."""
        first = torch.zeros(sum(self._sizes), dtype=like.dtype, device=like.device)
        offset = 0
        for size in self._sizes:
            first[offset] = 1.0
            offset += size
        return first

    @property
    def _checks_values(self) -> bool:
        """Whether values are checked; inside ``torch.compile`` they cannot be read."""
        return self.validate_actions and not torch.compiler.is_dynamo_compiling()

    def _check_legal(self, state: TensorDictBase, acts: Tensor, where: str) -> None:
        mask = state.get(as_path(self.tensor_keys.action_mask), None)
        if mask is None:
            return
        sizes = self.actions.sizes or (mask.shape[-1],)
        if mask.shape[:-1] != acts.shape[:-1] or mask.shape[-1] != sum(sizes):
            raise ValueError(
                f"the action mask at {self.tensor_keys.action_mask!r} must have shape "
                f"{[*acts.shape[:-1], sum(sizes)]}; got {list(mask.shape)}."
            )
        if self._checks_values:
            wrong = agents_without_choice(mask, acts.squeeze(-1), sizes)
            self._raise_for_first(wrong, f"have a legal action in {where}row", "check the action mask")

    def _check_executed(self, vectors: Tensor, action: Tensor, signals: GroupSignals) -> None:
        wrong = agents_without_action(vectors, signals.alive.squeeze(-1), self._sizes)
        rule = f"have taken one of the {list(self._sizes)} actions in row"
        self._raise_for_first(wrong, rule, "check action_space and num_actions", action)

    def _raise_for_first(self, wrong: Tensor, rule: str, advice: str, values: Tensor | None = None) -> None:
        """Raise ValueError for the first True in a bool ``[*B, N]``."""
        if (found := first_agent(wrong)) is not None:
            row, agent = found
            got = "none" if values is None else values[(*row, agent)].tolist()
            place = row[0] if len(row) == 1 else list(row)
            message = action_error(self.group, agent, f"{rule} {place}", got, advice)
            raise ValueError(f"{message} (validate_actions=False skips this check).")


def logits_of(distribution: Distribution) -> Tensor:
    """The logits ``[*L, D]`` of all factors."""
    if isinstance(distribution, Independent):
        return logits_of(distribution.base_dist).flatten(-2)
    if isinstance(distribution, Categorical | OneHotCategorical | MultiCategorical):
        return distribution.logits
    raise ValueError(
        "the actor's distribution must be categorical (Categorical, OneHotCategorical, their masked kinds, "
        f"MultiCategorical, or Independent around one); got {type(distribution).__name__}. "
        "GroupSACLoss is the one for continuous actions."
    )
