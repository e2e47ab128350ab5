"""The config of the algorithm, and the actor, critic and loss built from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensordict.nn import ProbabilisticTensorDictSequential
from torch import Tensor

from masac.docstrings import explained_by
from masac.errors import ConfigError, check, choices
from masac.group_signals import RewardReduction, TerminatedReduction
from masac.groups import GroupSpec
from masac.losses.base import GroupLoss
from masac.losses.discrete_sac import GroupDiscreteSACLoss
from masac.losses.hybrid_sac import GroupHybridSACLoss, check_combinations
from masac.losses.multi_group import CriticSees, MultiGroupLoss
from masac.losses.options import ActorGradient, GroupLossOptions, LossFunction, taken_options
from masac.losses.sac import GroupSACLoss
from masac.networks.actors import make_categorical_actor, make_tanh_normal_actor
from masac.networks.config import ModelConfig
from masac.networks.critics import CRITICS, make_critic
from masac.networks.hybrid_actor import make_hybrid_actor
from masac.networks.memory import GroupMemory
from masac.networks.other_group import OtherGroup
from masac.networks.own import NetworkSpec, check_apart, own_actor, own_critics
from masac.settings import check_settings, setting
from masac.skipping import SkipMode


@explained_by(
    GroupLossOptions, as_yaml=True, critic=", ".join(f"{name} ({one.summary})" for name, one in CRITICS.items()) + "."
)
@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """The algorithm. The preset ``masac`` has a centralized critic, ``isac``, the default, an independent one.

    Args:
        name: label in files and plots.
        critic_sees: with any critic but an independent one: group, or all_groups, the observations and actions of every
            group that learns.
        share_actor: one actor for all agents, else one per agent; true with actors of your own, which share as
            they are made.
        share_critic: likewise of critics.
        actor_gradient: own (each policy follows its own agent's value) or joint (the mean over agents).
        tau: part of the way the target critics move to the critics at every update.
        alpha_init: initial temperature in units of the reward per nat; with training.normalize_rewards, in units of the
            returns' standard deviation.
        target_entropy: in nats per agent; null for -(action dimensions of one agent), for discrete actions for
            target_entropy_weight. For hybrid actions that of the continuous part.
        target_entropy_weight: discrete actions, and the discrete part of hybrid ones: the fraction of the highest
            possible entropy, log(number of legal actions), that the temperature aims at.
        skip_done_states: fill, drop or off: what the networks see at next states of agents that ended.
    """

    name: str = "isac"
    critic: str = setting("independent", choices=CRITICS)
    critic_sees: str = setting("group", choices=choices(CriticSees))
    share_actor: bool = True
    share_critic: bool = True
    num_qvalue_nets: int = setting(2, low=1, unit="critics")
    actor_gradient: str = setting("own", choices=choices(ActorGradient))
    gamma: float = setting(0.99, low=0, high=1, unit="per step")
    tau: float = setting(0.005, above=0, high=1, unit="per update")
    alpha_init: float = setting(0.05, above=0, unit="reward per nat")
    fixed_alpha: bool = False
    alpha_per_agent: bool = False
    target_entropy: float | None = setting(None, unit="nats per agent")
    target_entropy_weight: float = setting(0.2, low=0, high=1)
    loss_function: str = setting("smooth_l1", choices=choices(LossFunction))
    skip_done_states: str = setting("fill", choices=choices(SkipMode))
    terminated_reduction: str = setting("none", choices=choices(TerminatedReduction))
    reward_reduction: str | None = setting(None, choices=choices(RewardReduction | None))
    posthumous: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "algorithm")
        kind = CRITICS[self.critic]
        if not kind.sees_others and self.critic_sees != "group":
            raise ConfigError(
                f"algorithm.critic_sees must be group with algorithm.critic={self.critic}, which sees one agent; got "
                f"{self.critic_sees}. Change it with algorithm.critic_sees=group, or the critic with "
                "algorithm.critic=centralized"
            )
        if self.posthumous:
            rule = "be all with algorithm.posthumous=true"
            check("algorithm.terminated_reduction", self.terminated_reduction, self.terminated_reduction == "all", rule)
        if self.terminated_reduction == "all" and not kind.of_team:
            rule = "be true with algorithm.terminated_reduction=all and a value per agent"
            check("algorithm.posthumous", self.posthumous, self.posthumous, rule)
        if kind.of_team:
            rule = f"be any or all with algorithm.critic={self.critic}, which needs algorithm.reward_reduction as well"
            check(
                "algorithm.terminated_reduction", self.terminated_reduction, self.terminated_reduction != "none", rule
            )
            rule = f"be mean or sum with algorithm.critic={self.critic}"
            check("algorithm.reward_reduction", self.reward_reduction, self.reward_reduction is not None, rule)


def make_actor(group: GroupSpec, algorithm: AlgorithmConfig, model: ModelConfig) -> ProbabilisticTensorDictSequential:
    """The actor of a group.

    Raises:
        ConfigError: if it is a user's and does not fit.
    """
    common: dict[str, Any] = {
        "group": group.name,
        "n_agents": group.n_agents,
        "observation_dim": group.observation_dim,
        "action_spec": group.action_spec,
        "share_params": algorithm.share_actor,
        "model": model,
        "images": group.images,
    }
    own = model.own("actor", group.name)
    if group.discrete_part is not None:
        if own is not None:
            _check_not_hybrid(group, own[1])
        sizes = group.discrete_part.sizes or ()
        return make_hybrid_actor(**common, sizes=sizes, action_mask=group.has_action_mask)
    if group.discrete is None:
        builtin = make_tanh_normal_actor(**common)
    else:
        builtin = make_categorical_actor(**common, action_mask=group.has_action_mask)
    if own is None:
        return builtin
    outputs = 2 * group.action_features if group.discrete is None else group.action_features
    return own_actor(*own, _network_spec(group, model, outputs=outputs), builtin)


def make_memory(group: GroupSpec, model: ModelConfig, *, share_params: bool) -> GroupMemory | None:
    """A new memory of a group's actor, or of its critics; None without ``model.memory``."""
    if model.memory == "none":
        return None
    return GroupMemory(
        model.memory,  # pyright: ignore[reportArgumentType]
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        size=model.memory_size,
        share_params=share_params,
        images=group.images,
        model=model,
    )


def make_loss(
    actors: Mapping[str, ProbabilisticTensorDictSequential],
    groups: Sequence[GroupSpec],
    algorithm: AlgorithmConfig,
    model: ModelConfig,
    *,
    memories: Mapping[str, GroupMemory] | None = None,
    burn_in: int = 0,
) -> MultiGroupLoss:
    """The loss of all groups that learn, with new critics and new memories of critics.

    Args:
        actors: by group.
        groups: the groups that learn.
        algorithm: of the run.
        model: of the networks.
        memories: of the actors, by group, if they have any.
        burn_in: steps of a sequence over which memories are only unrolled.

    Raises:
        ConfigError: if a critic does not fit a group's actions, or for networks of a user's that share weights.
    """
    for kind in ("actor", "critic"):
        if all(model.own(kind, group.name) for group in groups):
            share = getattr(algorithm, f"share_{kind}")
            rule = f"be true with {kind}s of your own (model.{kind}), whose function says which agents share weights"
            check(f"algorithm.share_{kind}", share, share, rule)
    owners: dict[Tensor, str] = {}
    for group in groups:
        _, key = model.own("actor", group.name) or ("", "model.actor")
        check_apart(owners, actors[group.name], f"the actor of group {group.name!r}", key)
    losses = []
    for group in groups:
        others = [other for other in groups if other is not group] if algorithm.critic_sees == "all_groups" else []
        own = None if memories is None else memories.get(group.name)
        recurrent: dict[str, Any] = {"actor_memory": own, "burn_in": burn_in} if own is not None else {}
        losses.append(_make_group_loss(actors[group.name], group, others, algorithm, model, owners, recurrent))
    return MultiGroupLoss(losses, critic_sees=algorithm.critic_sees)  # pyright: ignore[reportArgumentType]


def _make_group_loss(
    actor: ProbabilisticTensorDictSequential,
    group: GroupSpec,
    others: Sequence[GroupSpec],
    algorithm: AlgorithmConfig,
    model: ModelConfig,
    owners: dict[Tensor, str],
    recurrent: dict[str, Any],
) -> GroupLoss:
    if group.choices is not None and CRITICS[algorithm.critic].of_team:
        raise ConfigError(
            "algorithm.critic must be centralized, pooled or independent for discrete and hybrid actions, as those of "
            f"group {group.name!r} are; got {algorithm.critic!r}, which would need a value for every combination of "
            "actions. Change it with algorithm.critic=centralized"
        )
    sizes = () if group.choices is None else group.choices.sizes or ()
    if group.discrete_part is not None:
        check_combinations(sizes, group.name)
    loss, actions = GroupSACLoss, {"action_spec": group.action_spec}
    if group.discrete is not None:
        loss, actions = GroupDiscreteSACLoss, {"action_space": group.action_spec}
    elif group.discrete_part is not None:
        loss, actions = GroupHybridSACLoss, {"action_spec": group.action_spec, "num_actions": sizes}
    options = taken_options(loss, vars(algorithm)) | {
        "group": group.name,
        "n_agents": group.n_agents,
        "target_entropy": "auto" if algorithm.target_entropy is None else algorithm.target_entropy,
        "skip_done_states": False if algorithm.skip_done_states == "off" else algorithm.skip_done_states,
        **actions,
    }
    if recurrent:
        recurrent["critic_memory"] = make_memory(group, model, share_params=algorithm.share_critic)
    own = model.own("critic", group.name)
    if own is not None:
        _check_not_hybrid(group, own[1])
        spec = _network_spec(
            group,
            model,
            outputs=1 if group.discrete is None else group.action_features,
            of_team=CRITICS[algorithm.critic].of_team,
            others=[_as_seen(other) for other in others],
        )
        critics = own_critics(*own, spec, algorithm.num_qvalue_nets)
        for critic in critics:
            check_apart(owners, critic, f"a critic of group {group.name!r}", own[1])
        # Whatever modules a user takes, vmap need not know them.
        return loss(actor, critics, **options, **recurrent, deactivate_vmap=True)
    critic = make_critic(
        algorithm.critic,
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_dim=group.action_features,
        n_actions=group.valued_choices,
        own_action_dim=group.continuous_dim,
        share_params=algorithm.share_critic,
        model=model,
        others=[_as_seen(other) for other in others],
        images=group.images,
    )
    return loss(actor, critic, **options, **recurrent)


def _check_not_hybrid(group: GroupSpec, key: str) -> None:
    """Raise ConfigError for a user's network of a group whose actions have a continuous and a discrete part."""
    if group.discrete_part is not None:
        raise ConfigError(
            f"{key} must be null for hybrid actions, as those of group {group.name!r} are; got a network of your own. "
            f"Use masac's with model.{key.split('.')[1].removesuffix('s')}s.{group.name}=null"
        )


def _network_spec(group: GroupSpec, model: ModelConfig, **of_network: Any) -> NetworkSpec:
    return NetworkSpec(
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_dim=group.action_features,
        action_spec=group.action_spec,
        discrete=group.discrete is not None,
        has_action_mask=group.has_action_mask,
        images=group.images,
        model=model,
        **of_network,
    )


def _as_seen(group: GroupSpec) -> OtherGroup:
    return OtherGroup(
        group=group.name,
        n_agents=group.n_agents,
        observation_dim=group.observation_dim,
        action_dim=group.action_features,
        images=group.images,
    )
