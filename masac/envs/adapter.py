"""PettingZoo's parallel environments as TorchRL's ``PettingZooWrapper`` takes them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from gymnasium.spaces.utils import flatten, flatten_space
from pettingzoo import ParallelEnv
from pettingzoo.utils.wrappers import BaseParallelWrapper
from torchrl.data import MultiCategorical, TensorSpec
from torchrl.envs import EnvBase
from torchrl.envs.libs.gym import register_gym_spec_conversion
from torchrl.envs.libs.pettingzoo import PettingZooWrapper

from masac.checks import ConfigError
from masac.envs.agent_groups import read_agent_groups

ACTION_MASK = "action_mask"


def wrap(raw: ParallelEnv[Any, Any, Any]) -> EnvBase:
    """A PettingZoo environment as a TorchRL one.

    Raises:
        ConfigError: for agents, observations or actions that cannot be written as tensors.
    """
    groups = read_agent_groups(raw)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PettingZoo in TorchRL is tested using version")
        return PettingZooWrapper(
            ReadableEnv(raw), group_map=groups, use_mask=True, done_on_any=False, categorical_actions=True
        )


class ReadableEnv(BaseParallelWrapper[Any, Any, Any]):
    """A PettingZoo environment without what TorchRL's wrapper stumbles over.

    - Of the infos an ``action_mask`` is all that is left: others come and go, and need not be numbers.
    - Actions of agents that are gone are not passed on. Agents that come later see zeros until then; one that leaves
      with no flag set has terminated.
    - Spaces other than Box and Dict become vectors as in Gymnasium's ``flatten``; choices start at 0; continuous
      actions are vectors of float32, and kept within their bounds.
    - An action mask is one vector, all True for an agent that ended; continuous actions have none.

    Args:
        env: that lists its ``possible_agents``.

    Raises:
        ConfigError: for spaces that cannot be written as tensors.
    """

    def __init__(self, env: ParallelEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._seen = {agent: _seen_space(env.observation_space(agent), agent) for agent in env.possible_agents}
        self._done = {agent: _action_space(env.action_space(agent), agent) for agent in env.possible_agents}
        for agent, space in self._seen.items():
            if isinstance(space, Dict) and isinstance(self._done[agent], Box):
                space.spaces.pop(ACTION_MASK, None)

    def observation_space(self, agent: Any) -> Space[Any]:
        """The space of what :meth:`reset` and :meth:`step` return."""
        return self._seen[agent]

    def action_space(self, agent: Any) -> Space[Any]:
        """The space of what :meth:`step` takes."""
        return self._done[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._check_known()
        seen, masks = self._tidy(observations, infos)
        for agent in self.possible_agents:
            seen.setdefault(agent, _zero(self._seen[agent]))
            masks.setdefault(agent, {})
        return seen, masks

    def step(self, actions: dict[Any, Any]) -> Any:
        """A step of the agents that are there."""
        chosen = {agent: _act(self.env.action_space(agent), actions[agent]) for agent in self.env.agents}
        observations, rewards, terminations, truncations, infos = self.env.step(chosen)
        self._check_known()
        gone = [agent for agent in chosen if agent not in self.env.agents]
        terminations = {
            **terminations,
            **{agent: True for agent in gone if not (terminations.get(agent) or truncations.get(agent))},
        }
        seen, masks = self._tidy(observations, infos)
        return seen, rewards, terminations, truncations, masks

    def _check_known(self) -> None:
        for agent in self.env.agents:
            if agent not in self._seen:
                raise ConfigError(
                    f"possible_agents of the environment must list every agent; got {agent!r} among its agents, but "
                    f"only {', '.join(map(repr, self._seen))} in the list. Complete the list in the environment."
                )

    def _tidy(self, observations: Any, infos: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        seen, masks = {}, {}
        for agent, observation in observations.items():
            value = _see(self.env.observation_space(agent), observation)
            info = dict(infos.get(agent) or {})
            for source in (value, info):
                if isinstance(source, dict) and ACTION_MASK in source:
                    mask = _side_by_side(source.pop(ACTION_MASK))
                    if agent not in self.env.agents:
                        mask = np.ones_like(mask)
                    elif not mask.any():
                        raise ValueError(
                            f"the action mask of agent {agent!r} must allow an action; got {mask.tolist()}. Mend the "
                            "environment, or let the agent end."
                        )
                    if not isinstance(self._done[agent], Box):
                        source[ACTION_MASK] = mask
            seen[agent], masks[agent] = value, {key: info[key] for key in (ACTION_MASK,) if key in info}
        return seen, masks


class Factors(MultiDiscrete):
    """A ``MultiDiscrete`` that stays one also where all factors have as many choices, unlike TorchRL's others."""


@register_gym_spec_conversion(Factors)
def _convert_factors(spec: Factors, device: Any = None, **kwargs: Any) -> TensorSpec:
    return MultiCategorical(spec.nvec.tolist(), device=device)


def _seen_space(space: Space[Any], agent: Any, *path: Any) -> Space[Any]:
    if isinstance(space, Dict):
        return Dict({key: _seen_space(part, agent, *path, key) for key, part in space.spaces.items()})
    if isinstance(space, Box) and space.shape:
        return space
    if not space.is_np_flattenable:
        raise ConfigError(
            f"observations must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple; that of "
            f"{agent!r}{''.join(f'[{key!r}]' for key in path)} is in {type(space).__name__}. Choose another kind of "
            "observation in task.kwargs, or translate it in a task.factory of yours."
        )
    return flatten_space(space)


def _see(space: Space[Any], value: Any) -> Any:
    if isinstance(space, Dict):
        return {key: _see(part, value[key]) for key, part in space.spaces.items()}
    return value if isinstance(space, Box) and space.shape else flatten(space, value)


def _zero(space: Space[Any]) -> Any:
    if isinstance(space, Dict):
        return {key: _zero(part) for key, part in space.spaces.items()}
    return np.zeros(space.shape or (), space.dtype)


def _action_space(space: Space[Any], agent: Any) -> Space[Any]:
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    if isinstance(space, MultiDiscrete):
        return Factors(space.nvec.reshape(-1))
    if isinstance(space, MultiBinary):
        return Factors([2] * int(np.prod(space.shape)))
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        low, high = (bound.reshape(-1).astype(np.float32) for bound in (space.low, space.high))
        return Box(low, high, dtype=np.float32)
    raise ConfigError(
        f"actions must be in a Box of floats, Discrete, MultiDiscrete or MultiBinary; those of {agent!r} are in "
        f"{space}. Translate them in a task.factory of yours."
    )


def _act(space: Space[Any], action: Any) -> Any:
    if isinstance(space, Discrete):
        return int(action) + int(space.start)
    action = np.asarray(action).reshape(space.shape or ())
    if isinstance(space, Box):  # float32 may round a bound outwards
        return np.clip(action.astype(space.dtype), space.low, space.high)
    return (action + space.start if isinstance(space, MultiDiscrete) else action).astype(space.dtype)


def _side_by_side(mask: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    parts = mask if isinstance(mask, tuple | list) else (mask,)
    return np.concatenate([np.asarray(part).reshape(-1) for part in parts]).astype(bool)
