"""Which Soft Actor-Critic: what a user can set, and the actor, critic and loss that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from torchrl.modules import ProbabilisticActor

from masac.checks import ConfigError, check
from masac.groups import GroupSpec
from masac.losses.sac import GroupSACLoss
from masac.networks.actors import make_tanh_normal_actor
from masac.networks.config import ModelConfig
from masac.networks.critics import make_critic


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """The algorithm. The preset ``masac`` has a centralized critic, ``isac``, the default, an independent one.

    Args:
        name: what to call it in files and plots.
        critic: centralized (Q_i of all observations and actions), independent (of the agent's own) or team (one Q).
        share_actor: one actor for all agents, else one each.
        share_critic: one critic for all agents, else one each.
        num_qvalue_nets: critics of which the smallest value counts.
        actor_gradient: own (each policy follows its own agent's value) or joint (the mean over agents).
        gamma: discount a step.
        tau: part of the way the target critics move to the critics at every update.
        alpha_init: initial temperature, reward units a nat.
        fixed_alpha: keep the temperature as it is.
        alpha_per_agent: one temperature an agent.
        target_entropy: nats an agent, null for -(action dimensions of one agent).
        loss_function: smooth_l1, l2 or l1.
        skip_done_states: fill, drop or off: what the networks see at next states of agents that ended.
        terminated_reduction: none (each agent's own flag), any (one end ends all) or all (the last one ends the team).
        reward_reduction: mean or sum over agents for a team reward, null for each agent's own.
        posthumous: with terminated_reduction=all: train a dead agent's value while its team lives.
    """

    name: str = "masac"
    critic: str = "centralized"
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
    loss_function: str = "smooth_l1"
    skip_done_states: str = "fill"
    terminated_reduction: str = "none"
    reward_reduction: str | None = None
    posthumous: bool = False

    def __post_init__(self) -> None:
        def one_of(name: str, *values: object) -> None:
            value = getattr(self, name)
            check(f"algorithm.{name}", value, value in values, f"be one of {', '.join(map(_yaml, values))}")

        one_of("critic", "centralized", "independent", "team")
        one_of("actor_gradient", "own", "joint")
        one_of("loss_function", "smooth_l1", "l2", "l1")
        one_of("skip_done_states", "fill", "drop", "off")
        one_of("terminated_reduction", "none", "any", "all")
        one_of("reward_reduction", None, "mean", "sum")
        check("algorithm.gamma", self.gamma, 0 <= self.gamma <= 1, "be in [0, 1]")
        check("algorithm.tau", self.tau, 0 < self.tau <= 1, "be in (0, 1]")
        check("algorithm.alpha_init", self.alpha_init, self.alpha_init > 0, "be greater than 0")
        check("algorithm.num_qvalue_nets", self.num_qvalue_nets, self.num_qvalue_nets >= 1, "be at least 1")
        if self.critic == "team":
            rule = "be any or all with algorithm.critic=team"
            check(
                "algorithm.terminated_reduction", self.terminated_reduction, self.terminated_reduction != "none", rule
            )
            rule = "be mean or sum with algorithm.critic=team"
            check("algorithm.reward_reduction", self.reward_reduction, self.reward_reduction is not None, rule)


def make_actor(group: GroupSpec, algorithm: AlgorithmConfig, model: ModelConfig) -> ProbabilisticActor:
    """The actor of a group.

    Raises:
        ConfigError: if no loss can train the group's kind of actions yet.
    """
    if group.action_kind != "continuous":
        raise ConfigError(
            f"group {group.name!r} must have continuous actions; got a {type(group.action_spec).__name__} spec. "
            "Discrete actions need a loss that masac does not have yet; change it with task.continuous_actions=true"
        )
    return make_tanh_normal_actor(
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_spec=group.action_spec,
        share_params=algorithm.share_actor,
        model=model,
    )


def make_loss(
    actor: ProbabilisticActor, group: GroupSpec, algorithm: AlgorithmConfig, model: ModelConfig
) -> GroupSACLoss:
    """The loss of a group, with new critics."""
    critic = make_critic(
        algorithm.critic,  # pyright: ignore[reportArgumentType]
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_dim=group.action_spec.shape[-1],
        share_params=algorithm.share_critic,
        model=model,
    )
    return GroupSACLoss(
        actor,
        critic,
        group=group.name,
        n_agents=group.n_agents,
        num_qvalue_nets=algorithm.num_qvalue_nets,
        loss_function=algorithm.loss_function,
        gamma=algorithm.gamma,
        alpha_init=algorithm.alpha_init,
        fixed_alpha=algorithm.fixed_alpha,
        alpha_per_agent=algorithm.alpha_per_agent,
        action_spec=group.action_spec,
        target_entropy="auto" if algorithm.target_entropy is None else algorithm.target_entropy,
        skip_done_states=False if algorithm.skip_done_states == "off" else algorithm.skip_done_states,  # pyright: ignore[reportArgumentType]
        terminated_reduction=algorithm.terminated_reduction,  # pyright: ignore[reportArgumentType]
        posthumous=algorithm.posthumous,
        reward_reduction=algorithm.reward_reduction,  # pyright: ignore[reportArgumentType]
        actor_gradient=algorithm.actor_gradient,  # pyright: ignore[reportArgumentType]
    )


def _yaml(value: object) -> str:
    return "null" if value is None else str(value)
