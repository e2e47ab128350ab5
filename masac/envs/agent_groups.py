"""Which agents of a PettingZoo environment are a group: their names and their spaces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pettingzoo import ParallelEnv

from masac.checks import ConfigError
from masac.envs.spaces import ACTION_MASK, ActionTranslator, ObservationVector


@dataclass(frozen=True, kw_only=True)
class AgentGroup:
    """Agents with equal spaces.

    Args:
        name: where the group's entries live.
        agents: PettingZoo's names of its agents.
        observation: how their observations become vectors.
        action: how their actions are written.
        masked: whether the environment says which actions are legal.
    """

    name: str
    agents: tuple[Any, ...]
    observation: ObservationVector
    action: ActionTranslator
    masked: bool


def read_agent_groups(env: ParallelEnv[Any, Any, Any]) -> list[AgentGroup]:
    """The groups of an environment, in the order of their first agents. Resets it.

    Agents whose names differ only in a number at the end are a group (``knight_0`` and ``knight_1`` are ``knight``);
    where their spaces differ, those with equal spaces are (``agent1``, ``agent2``, ...).

    Raises:
        ConfigError: for an environment without ``possible_agents``, or spaces that cannot be written as tensors.
    """
    agents = list(getattr(env, "possible_agents", ()))
    if not agents:
        raise ConfigError(
            "a PettingZoo environment must list all agents it may ever have in possible_agents; "
            f"{type(env.unwrapped).__name__} lists none. Set it in a task.factory of yours."
        )
    _, infos = env.reset(seed=0)
    groups: list[AgentGroup] = []
    for prefix, members in _by(agents, name_prefix).items():
        kinds = list(_by_spaces(env, members))
        for number, alike in enumerate(kinds, start=1):
            observation = ObservationVector(env.observation_space(alike[0]), str(alike[0]))
            action = ActionTranslator(env.action_space(alike[0]), str(alike[0]))
            in_infos = any(ACTION_MASK in infos.get(agent, {}) for agent in alike)
            groups.append(
                AgentGroup(
                    name=prefix if len(kinds) == 1 else f"{prefix}{number}",
                    agents=tuple(alike),
                    observation=observation,
                    action=action,
                    masked=action.sizes is not None and (observation.has_action_mask or in_infos),
                )
            )
    return groups


def name_prefix(agent: Any) -> str:
    """What an agent's name says before its number; ``agent`` for a mere number."""
    prefix = re.sub(r"[_-]?\d+$", "", str(agent))
    return prefix.replace(".", "_") or "agent"  # modules are named after groups, and may have no dot


def _by(agents: Iterable[Any], key: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for agent in agents:
        groups.setdefault(key(agent), []).append(agent)
    return groups


def _by_spaces(env: ParallelEnv[Any, Any, Any], agents: list[Any]) -> list[list[Any]]:
    """Agents with equal spaces together; spaces are compared, as not all of them can be hashed."""
    kinds: list[list[Any]] = []
    for agent in agents:
        spaces = (env.observation_space(agent), env.action_space(agent))
        for kind in kinds:
            if spaces == (env.observation_space(kind[0]), env.action_space(kind[0])):
                kind.append(agent)
                break
        else:
            kinds.append([agent])
    return kinds
