"""Reads what ``reset`` and ``step`` of a PettingZoo environment return, and completes it as the parallel API allows.

Afterwards every agent that acted or is present has an observation, a reward and flags. Where a missing entry cannot be
inferred, the error names the agent and the dict.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from torch import Tensor

from masac.errors import ConfigError
from masac.images import is_image

DICTS = ("observations", "rewards", "terminations", "truncations", "infos")


@dataclass(frozen=True, kw_only=True)
class Step:
    """The result of a step for the agents that acted and those that entered.

    Args:
        observations: None for an agent that ended without one.
        rewards: floats.
        terminated: agents whose life ended.
        truncated: agents that were cut off.
        infos: dicts, empty if the environment returned none.
    """

    observations: dict[Any, Any]
    rewards: dict[Any, float]
    terminated: dict[Any, bool]
    truncated: dict[Any, bool]
    infos: dict[Any, Any]


def read_agents(env: Any, possible: Collection[Any]) -> list[Any]:
    """The agents that are present.

    Args:
        env: a PettingZoo environment that was reset.
        possible: ``possible_agents``.

    Raises:
        ConfigError: without a list ``agents``, or if it contains others.
    """
    try:
        agents = list(env.agents)
    except (AttributeError, TypeError):
        raise ConfigError(
            f"an environment must keep the agents that are present in a list, agents; {type(env.unwrapped).__name__} "
            "has none after reset(). Set self.agents = list(self.possible_agents) in reset()."
        ) from None
    _check_known(agents, possible, "its agents")
    return agents


def read_reset(
    returned: Any, agents: Sequence[Any], possible: Collection[Any]
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The observations and infos that a reset returned for the agents that are present.

    Args:
        returned: by ``reset``.
        agents: present after it.
        possible: all possible agents.

    Raises:
        ConfigError: if an entry is missing; names the agent and the dict.
    """
    if not (isinstance(returned, tuple) and len(returned) == 2 and all(isinstance(one, Mapping) for one in returned)):
        raise ConfigError(
            f"reset() of the environment must return two dicts, observations and infos; got {_kinds(returned)}. "
            "Return observations, {agent: {} for agent in self.agents}."
        )
    observations, infos = returned
    _check_known(observations, possible, "the observations of reset()")
    seen = {agent: _observation(observations, agent, "reset") for agent in agents}
    return seen, {agent: dict(infos.get(agent) or {}) for agent in agents}


def read_step(returned: Any, acted: Sequence[Any], agents: Sequence[Any], possible: Collection[Any]) -> Step:
    """What a step returned for the agents that acted and those that entered.

    An agent that left without a flag has terminated; one that left without any entry got no reward. Entries of agents
    that left before are ignored, and so are rewards and flags of other keys, such as RLlib's ``"__all__"``.

    Args:
        returned: by ``step``.
        acted: the agents present before it.
        agents: the agents present after it.
        possible: all possible agents.

    Raises:
        ConfigError: if an entry is missing; names the agent and the dict.
    """
    if not (isinstance(returned, tuple) and len(returned) == 5 and all(isinstance(one, Mapping) for one in returned)):
        old = " Terminations and truncations replace the old done." if _is_sequence(returned, 4) else ""
        raise ConfigError(
            f"step() of the environment must return five dicts, {', '.join(DICTS)}; got {_kinds(returned)}.{old} "
            "Return them in this order."
        )
    observations, rewards, terminations, truncations, infos = returned
    _check_known(observations, possible, "the observations of step()")
    here, before = set(agents), set(acted)
    step = Step(observations={}, rewards={}, terminated={}, truncated={}, infos={})
    for agent in (*acted, *(agent for agent in agents if agent not in before)):
        stays = agent in here
        must = agent in before and (stays or observations.get(agent) is not None)
        terminated = _flag(terminations, agent, "terminations", must=must)
        truncated = _flag(truncations, agent, "truncations", must=must)
        if not stays and not truncated:
            terminated = True
        step.terminated[agent], step.truncated[agent] = terminated, truncated
        step.rewards[agent] = _reward(rewards, agent, must=must)
        step.infos[agent] = dict(infos.get(agent) or {})
        if stays or not terminated:
            why = "" if stays else ", which is truncated: the critic target needs its last state"
            step.observations[agent] = _observation(observations, agent, "step", why=why)
        else:
            step.observations[agent] = observations.get(agent)
    return step


def read_observation(space: Space[Any], value: Any, agent: Any, *, path: str = "") -> Any:
    """An observation as arrays of the shapes of its space, in dicts for a Dict; other values as they are.

    Args:
        space: of the agent.
        value: the observation.
        agent: its name.
        path: of this part within the observation.

    Raises:
        ConfigError: for a value that is not in the space; bounds of a Box are not checked. Nor is its type, except
            that an image of bytes, which stays one, has no fractions.
    """
    if isinstance(space, Dict):
        if not isinstance(value, Mapping):
            raise _wrong(value, space, agent, path)
        missing = [key for key in space.spaces if key not in value]
        if missing:
            raise ConfigError(
                f"the observation{path} of agent {agent!r} must have the keys of its space; {missing[0]!r} is missing, "
                f"it has: {', '.join(map(repr, value)) or 'none'}. Return all of them in every step."
            )
        return {
            key: read_observation(part, value[key], agent, path=f"{path}[{key!r}]")
            for key, part in space.spaces.items()
        }
    if not isinstance(space, Box):
        if not space.contains(value):
            raise _wrong(value, space, agent, path)
        return value
    array = _as_array(value)
    kinds = "biu" if space.dtype == np.uint8 and is_image(space.shape, "uint8") else "biuf"
    if array is None or array.shape != space.shape or array.dtype.kind not in kinds:
        raise _wrong(value, space, agent, path)
    return array


def _observation(observations: Mapping[Any, Any], agent: Any, where: str, *, why: str = "") -> Any:
    value = observations.get(agent)
    if value is None:
        got = "None" if agent in observations else "no entry"
        reason = why or ", which is among its agents"
        raise ConfigError(
            f"the observations of {where}() must have one of agent {agent!r}{reason}; got {got}. Return its "
            f"observation, or {'leave it out of agents' if where == 'reset' else f'set terminations[{agent!r}]'}"
            f"{'' if where == 'reset' or why else ' and remove it from agents'}."
        )
    return value


def _reward(rewards: Mapping[Any, Any], agent: Any, *, must: bool) -> float:
    value = rewards.get(agent)
    if isinstance(value, float | int):
        return float(value)
    if agent not in rewards and not must:
        return 0.0
    number = _scalar(value)
    if number is None:
        got = repr(value) if agent in rewards else "no entry"
        raise ConfigError(
            f"the rewards of step() must have a number for agent {agent!r}, which acted; got {got}. Return one for "
            "every agent that acted, 0.0 for no reward."
        )
    return float(number)


def _flag(flags: Mapping[Any, Any], agent: Any, name: str, *, must: bool) -> bool:
    value = flags.get(agent)
    if isinstance(value, bool):
        return value
    if agent not in flags and not must:
        return False
    number = _scalar(value)
    if number is None:
        got = repr(value) if agent in flags else "no entry"
        means = "whose life ended" if name == "terminations" else "that a time limit cut off"
        raise ConfigError(
            f"the {name} of step() must have True or False for agent {agent!r}, which acted; got {got}. Return one for "
            f"every agent that acted, True for those {means}."
        )
    return bool(number)


def _scalar(value: Any) -> Any:
    """The single number in a value; None for anything else."""
    array = _as_array(value)
    return array.reshape(()).item() if array is not None and array.size == 1 and array.dtype.kind in "biuf" else None


def _as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """A value as an array; None if it cannot be one."""
    try:
        return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError):  # lists of different lengths, for example
        return None


def _check_known(agents: Collection[Any], possible: Collection[Any], where: str) -> None:
    for agent in agents:
        if agent not in possible:
            raise ConfigError(
                f"possible_agents of the environment must list every agent; got {agent!r} among {where}, but only "
                f"{', '.join(map(repr, possible))} in the list. Complete the list in the environment, or leave "
                f"{agent!r} out."
            )


def _wrong(value: Any, space: Space[Any], agent: Any, path: str) -> ConfigError:
    array = np.asarray(value, dtype=object) if isinstance(value, list | tuple) else value
    shape = f" of shape {list(array.shape)} and dtype {array.dtype}" if isinstance(array, np.ndarray) else ""
    shown = f"{type(value).__name__}{shape}" if shape else repr(value)
    return ConfigError(
        f"the observation{path} of agent {agent!r} must be in its observation_space, {_short(space)}; got "
        f"{shown[:200]}. Return an observation in the space, or correct the space."
    )


def _short(space: Space[Any]) -> str:
    return " ".join(str(space).split())[:200]


def _kinds(returned: Any) -> str:
    if isinstance(returned, tuple | list):
        return f"{len(returned)} values ({', '.join(type(one).__name__ for one in returned)})"
    return type(returned).__name__


def _is_sequence(returned: Any, size: int) -> bool:
    return isinstance(returned, tuple | list) and len(returned) == size
