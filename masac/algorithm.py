"""Which Soft Actor-Critic: what a user can set, and the actor, critic and loss that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchrl.modules import ProbabilisticActor

from masac.errors import ConfigError, check
from masac.groups import GroupSpec
from masac.losses.base import GroupLoss
from masac.losses.discrete_sac import GroupDiscreteSACLoss
from masac.losses.multi_group import MultiGroupLoss
from masac.losses.sac import GroupSACLoss
from masac.networks.actors import make_categorical_actor, make_tanh_normal_actor
from masac.networks.config import ModelConfig
from masac.networks.critics import make_critic
from masac.networks.other_group import OtherGroup


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """The algorithm. The preset ``masac`` has a centralized critic, ``isac``, the default, an independent one.

    Args:
        name: what to call it in files and plots.
        critic: centralized (Q_i of all observations and actions of the group), pooled (Q_i of the agent's own and a
            mean over its teammates: for large groups), independent (of the agent's own) or team (one Q for the group;
            continuous actions only).
        critic_sees: with any critic but an independent one: group, or all_groups, the observations and actions of every
            group that learns.
        share_actor: one actor for all agents, else one each.
        share_critic: one critic for all agents, else one each.
        num_qvalue_nets: critics of which the smallest value counts.
        actor_gradient: own (each policy follows its own agent's value) or joint (the mean over agents).
        gamma: discount a step.
        tau: part of the way the target critics move to the critics at every update.
        alpha_init: initial temperature, reward units a nat; with training.normalize_rewards, units of the returns'
            standard deviation.
        fixed_alpha: keep the temperature as it is.
        alpha_per_agent: one temperature an agent.
        target_entropy: nats an agent, null for -(action dimensions of one agent), of discrete actions for
            target_entropy_weight.
        target_entropy_weight: discrete actions: the part of the highest possible entropy, log(number of legal actions),
            that policies are held to.
        loss_function: smooth_l1, l2 or l1.
        skip_done_states: fill, drop or off: what the networks see at next states of agents that ended.
        terminated_reduction: none, an agent's value ends with its own flag (right where each is out for itself); any,
            with the first end in its group (games that one mistake loses); all, with the last one, which takes a team
            critic or posthumous=true.
        reward_reduction: mean or sum over agents for a team reward, null for each agent's own.
        posthumous: with terminated_reduction=all and a value an agent: train a dead agent's value on the team reward
            while its team lives (an agent's death may serve its team).
    """

    name: str = "masac"
    critic: str = "centralized"
    critic_sees: str = "group"
    share_actor: bool = True
    share_critic: bool = True
    num_qvalue_nets: int = 2
    actor_gradient: str = "own"
    gamma: float = 0.99
    tau: float = 0.005
    alpha_init: float = 0.05
    fixed_alpha: bool = False
    alpha_per_agent: bool = False
    target_entropy: float | None = None
    target_entropy_weight: float = 0.2
    loss_function: str = "smooth_l1"
    skip_done_states: str = "fill"
    terminated_reduction: str = "none"
    reward_reduction: str | None = None
    posthumous: bool = False

    def __post_init__(self) -> None:
        def one_of(name: str, *values: object) -> None:
            value = getattr(self, name)
            check(f"algorithm.{name}", value, value in values, f"be one of {', '.join(map(_yaml, values))}")

        one_of("critic", "centralized", "pooled", "independent", "team")
        one_of("critic_sees", "group", "all_groups")
        one_of("actor_gradient", "own", "joint")
        one_of("loss_function", "smooth_l1", "l2", "l1")
        one_of("skip_done_states", "fill", "drop", "off")
        one_of("terminated_reduction", "none", "any", "all")
        one_of("reward_reduction", None, "mean", "sum")
        check("algorithm.gamma", self.gamma, 0 <= self.gamma <= 1, "be in [0, 1]")
        check("algorithm.tau", self.tau, 0 < self.tau <= 1, "be in (0, 1]")
        check("algorithm.alpha_init", self.alpha_init, self.alpha_init > 0, "be greater than 0")
        check("algorithm.num_qvalue_nets", self.num_qvalue_nets, self.num_qvalue_nets >= 1, "be at least 1")
        rule = "be in [0, 1]"
        weight = self.target_entropy_weight
        check("algorithm.target_entropy_weight", weight, 0 <= weight <= 1, rule)
        if self.critic == "independent":
            rule = "be group with algorithm.critic=independent, which sees one agent"
            check("algorithm.critic_sees", self.critic_sees, self.critic_sees == "group", rule)
        if self.posthumous:
            rule = "be all with algorithm.posthumous=true"
            check("algorithm.terminated_reduction", self.terminated_reduction, self.terminated_reduction == "all", rule)
        if self.terminated_reduction == "all" and self.critic != "team":
            rule = "be true with algorithm.terminated_reduction=all and a value an agent"
            check("algorithm.posthumous", self.posthumous, self.posthumous, rule)
        if self.critic == "team":
            rule = "be any or all with algorithm.critic=team"
            check(
                "algorithm.terminated_reduction", self.terminated_reduction, self.terminated_reduction != "none", rule
            )
            rule = "be mean or sum with algorithm.critic=team"
            check("algorithm.reward_reduction", self.reward_reduction, self.reward_reduction is not None, rule)


def make_actor(group: GroupSpec, algorithm: AlgorithmConfig, model: ModelConfig) -> ProbabilisticActor:
    """The actor of a group."""
    common: dict[str, Any] = {
        "group": group.name,
        "n_agents": group.n_agents,
        "observation_dim": group.observation_dim,
        "action_spec": group.action_spec,
        "share_params": algorithm.share_actor,
        "model": model,
    }
    if group.discrete is None:
        return make_tanh_normal_actor(**common)
    return make_categorical_actor(**common, action_mask=group.has_action_mask)


def make_loss(
    actors: Mapping[str, ProbabilisticActor],
    groups: Sequence[GroupSpec],
    algorithm: AlgorithmConfig,
    model: ModelConfig,
) -> MultiGroupLoss:
    """The loss of all groups that learn, with new critics.

    Args:
        actors: by group.
        groups: those that learn.
        algorithm: which Soft Actor-Critic.
        model: the networks.

    Raises:
        ConfigError: if a critic does not fit a group's actions.
    """
    losses = []
    for group in groups:
        others = [other for other in groups if other is not group] if algorithm.critic_sees == "all_groups" else []
        losses.append(_make_group_loss(actors[group.name], group, others, algorithm, model))
    return MultiGroupLoss(losses, critic_sees=algorithm.critic_sees)  # pyright: ignore[reportArgumentType]


def _make_group_loss(
    actor: ProbabilisticActor,
    group: GroupSpec,
    others: Sequence[GroupSpec],
    algorithm: AlgorithmConfig,
    model: ModelConfig,
) -> GroupLoss:
    if group.discrete is not None and algorithm.critic == "team":
        raise ConfigError(
            "algorithm.critic must be centralized, pooled or independent for discrete actions, as those of group "
            f"{group.name!r} are; got 'team', which would need a value for every combination of actions. "
            "Change it with algorithm.critic=centralized"
        )
    critic = make_critic(
        algorithm.critic,  # pyright: ignore[reportArgumentType]
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_dim=group.action_features,
        n_actions=None if group.discrete is None else group.action_features,
        share_params=algorithm.share_critic,
        model=model,
        others=[_as_seen(other) for other in others],
    )
    common: dict[str, Any] = {
        "group": group.name,
        "n_agents": group.n_agents,
        "num_qvalue_nets": algorithm.num_qvalue_nets,
        "loss_function": algorithm.loss_function,
        "gamma": algorithm.gamma,
        "alpha_init": algorithm.alpha_init,
        "fixed_alpha": algorithm.fixed_alpha,
        "alpha_per_agent": algorithm.alpha_per_agent,
        "target_entropy": "auto" if algorithm.target_entropy is None else algorithm.target_entropy,
        "skip_done_states": False if algorithm.skip_done_states == "off" else algorithm.skip_done_states,
        "terminated_reduction": algorithm.terminated_reduction,
        "posthumous": algorithm.posthumous,
        "reward_reduction": algorithm.reward_reduction,
    }
    if group.discrete is None:
        spec, gradient = group.action_spec, algorithm.actor_gradient
        return GroupSACLoss(actor, critic, **common, action_spec=spec, actor_gradient=gradient)  # pyright: ignore[reportArgumentType]
    weight = algorithm.target_entropy_weight
    return GroupDiscreteSACLoss(actor, critic, **common, action_space=group.action_spec, target_entropy_weight=weight)


def _as_seen(group: GroupSpec) -> OtherGroup:
    return OtherGroup(
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_dim=group.action_features,
    )


def _yaml(value: object) -> str:
    return "null" if value is None else str(value)
