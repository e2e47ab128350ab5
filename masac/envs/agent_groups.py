"""Which agents of a PettingZoo environment are a group: their names and their spaces."""

from __future__ import annotations

import re
from typing import Any

from pettingzoo import ParallelEnv

from masac.checks import ConfigError


def read_agent_groups(env: ParallelEnv[Any, Any, Any]) -> dict[str, list[str]]:
    """The agents of the groups of an environment, in the order of their first agents.

    Agents whose names differ only in a number at the end are a group (``knight_0`` and ``knight_1`` are ``knight``);
    where their spaces differ, those with equal spaces are (``agent1``, ``agent2``, ...).

    Raises:
        ConfigError: for an environment without ``possible_agents``.
    """
    agents = list(getattr(env, "possible_agents", ()))
    if not agents:
        raise ConfigError(
            "a PettingZoo environment must list all agents it may ever have in possible_agents; "
            f"{type(env.unwrapped).__name__} lists none. Set it in a task.factory of yours."
        )
    by_name: dict[str, list[list[str]]] = {}
    for agent in agents:
        kinds = by_name.setdefault(_name_prefix(agent), [])
        for kind in kinds:
            if _spaces(env, kind[0]) == _spaces(env, agent):  # compared, as not all of them can be hashed
                kind.append(agent)
                break
        else:
            kinds.append([agent])
    return {
        prefix if len(kinds) == 1 else f"{prefix}{number}": kind
        for prefix, kinds in by_name.items()
        for number, kind in enumerate(kinds, start=1)
    }


def _name_prefix(agent: Any) -> str:
    """What an agent's name says before its number; ``agent`` for a mere number."""
    prefix = re.sub(r"[_-]?\d+$", "", str(agent))
    return prefix.replace(".", "_") or "agent"  # modules are named after groups, and may have no dot


def _spaces(env: ParallelEnv[Any, Any, Any], agent: Any) -> tuple[Any, Any]:
    return env.observation_space(agent), env.action_space(agent)
