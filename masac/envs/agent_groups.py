"""Groups of agents, from their names and spaces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gym.spaces import Box  # VMAS's
from pettingzoo import ParallelEnv
from torchrl.envs import EnvBase, TransformedEnv

from masac.errors import ConfigError
from masac.groups import check_group_name


def read_agent_groups(env: ParallelEnv[Any, Any, Any]) -> dict[str, list[Any]]:
    """The groups of agents of a PettingZoo environment, in the order of their first agents.

    Agents whose names differ only in a number at the end form a group (``knight_0`` and ``knight_1`` form ``knight``).
    If their spaces differ, those with equal spaces form a group each (``agent1``, ``agent2``, ...). In names of groups
    everything but letters, digits, ``_`` and ``-`` becomes ``_``, as modules and files get these names.

    Raises:
        ConfigError: for an environment without ``possible_agents``, or with names that a group may not have.
    """
    agents = list(getattr(env, "possible_agents", ()))
    if not agents:
        raise ConfigError(
            "a PettingZoo environment must list all agents that it may ever have in possible_agents; "
            f"{type(env.unwrapped).__name__} lists none. Set it in a task.factory of your own."
        )
    if len(set(agents)) < len(agents):
        twice = next(agent for agent in agents if agents.count(agent) > 1)
        raise ConfigError(
            f"possible_agents of the environment must list every agent once; got {twice!r} {agents.count(twice)} "
            "times. Give each agent its own name."
        )
    by_name: dict[str, list[list[Any]]] = {}
    for agent in agents:
        kinds = by_name.setdefault(_before_the_number(agent), [])
        for kind in kinds:
            if _spaces(env, kind[0]) == _spaces(env, agent):  # compared, as not all spaces can be hashed
                kind.append(agent)
                break
        else:
            kinds.append([agent])
    groups: dict[str, list[Any]] = {}
    for prefix, kinds in by_name.items():
        for number, kind in enumerate(kinds, start=1):
            name = prefix if len(kinds) == 1 else f"{prefix}{number}"
            groups[_own_name(_safe(name), groups)] = kind
    for name, members in groups.items():
        check_group_name(name, members)
    return groups


def vmas_groups(names: Sequence[str]) -> dict[str, list[str]]:
    """The groups of agents of a VMAS scenario, as in TorchRL: ``scout_0`` and ``scout_1`` form ``scout``.

    If any name has another form, all agents form the group ``agents``; likewise if all are called ``agent_NUMBER``.

    Raises:
        ConfigError: for two agents with the same name, or names that a group may not have.
    """
    if len(set(names)) < len(names):
        raise ConfigError(f"agents of a scenario must have different names; got {', '.join(names)}. Rename them.")
    groups: dict[str, list[str]] = {}
    for name in names:
        prefix, _, number = name.rpartition("_")
        if not number.isdigit() or "_" not in name:
            groups = {"agents": list(names)}
            break
        groups.setdefault(prefix, []).append(name)
    if list(groups) == ["agent"]:
        groups = {"agents": groups["agent"]}
    safe: dict[str, list[str]] = {}
    for name, members in groups.items():
        safe[_own_name(_safe(name) or "agents", safe)] = members
    for name, members in safe.items():
        check_group_name(name, members)
    return safe


def agent_names(env: EnvBase) -> dict[str, list[Any]]:
    """The names of the agents of each group, in order; empty if the environment does not name them.

    Args:
        env: any.
    """
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return dict(getattr(env, "group_map", None) or {})


def check_alike(group: str, observed: Mapping[str, Any], done: Mapping[str, Any]) -> None:
    """Raise :class:`~masac.errors.ConfigError` unless the agents of a VMAS group have equal spaces.

    Args:
        group: its name.
        observed: the observation spaces, by agent.
        done: the action spaces, by agent.
    """
    first = next(iter(observed))
    for agent in observed:
        if not isinstance(observed[agent], Box):
            raise ConfigError(
                "observations of a VMAS scenario must be tensors [environments, features]; got "
                f"{type(observed[agent]).__name__} of {agent}. Concatenate its parts with torch.cat."
            )
        for what, spaces in (("observations", observed), ("actions", done)):
            if spaces[agent] != spaces[first]:
                raise ConfigError(
                    f"the agents of group {group!r} must have equal observations and actions; got {what} of {first} in "
                    f"{spaces[first]}, of {agent} in {spaces[agent]}. Agents whose names differ only in the number "
                    "after the last _ form a group: give others different names, such as scout_0 and tank_0."
                )


def _before_the_number(agent: Any) -> str:
    """The part of an agent's name before its number; ``agent`` if there is none."""
    return re.sub(r"[\s_-]?\d+$", "", str(agent)) or "agent"


def _safe(name: str) -> str:
    """A valid name for modules and files."""
    return re.sub(r"[^\w-]", "_", name)


def _own_name(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, with a number if a group has that name."""
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in names if one not in taken)


def _spaces(env: ParallelEnv[Any, Any, Any], agent: Any) -> tuple[Any, Any]:
    return env.observation_space(agent), env.action_space(agent)
