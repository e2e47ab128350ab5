"""PettingZoo's parallel environments, prepared for TorchRL's ``PettingZooWrapper``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.spaces.utils import flatten, flatten_space
from pettingzoo import ParallelEnv
from pettingzoo.utils.wrappers import BaseParallelWrapper
from torchrl.data import MultiCategorical, TensorSpec
from torchrl.envs import EnvBase
from torchrl.envs.libs.gym import register_gym_spec_conversion
from torchrl.envs.libs.pettingzoo import PettingZooWrapper

from masac.envs.agent_groups import read_agent_groups
from masac.envs.environment_warnings import warn_of_agents_kept_after_termination
from masac.envs.parallel_api import read_agents, read_observation, read_reset, read_step
from masac.errors import ConfigError

ACTION_MASK = "action_mask"


def wrap(raw: ParallelEnv[Any, Any, Any]) -> EnvBase:
    """A PettingZoo environment as a TorchRL one.

    Raises:
        ConfigError: for agents, observations or actions that cannot be represented as tensors.
    """
    groups = read_agent_groups(raw)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PettingZoo in TorchRL is tested using version")
        return PettingZooWrapper(
            ReadableEnv(raw), group_map=groups, use_mask=True, done_on_any=False, categorical_actions=True
        )


class ReadableEnv(BaseParallelWrapper[Any, Any, Any]):
    """A PettingZoo environment in the form that TorchRL's wrapper requires.

    - ``reset`` and ``step`` return complete dicts (see :mod:`masac.envs.parallel_api`).
    - Infos contain only the ``action_mask``: other entries may change between steps and need not be numbers.
    - Actions of agents that left are dropped. Agents that enter later observe zeros until then.
    - Spaces other than Box and Dict become vectors as in Gymnasium's ``flatten``, with images divided by
      :func:`image_divisor`; choices start at 0; continuous actions are float32 vectors, clipped to their bounds.
    - An action mask is one vector, all True for an agent that ended; continuous actions have none.

    Args:
        env: lists its ``possible_agents``.

    Raises:
        ConfigError: for spaces that cannot be represented as tensors.
    """

    def __init__(self, env: ParallelEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._seen = {agent: _seen_space(env.observation_space(agent), agent) for agent in env.possible_agents}
        self._done = {agent: _action_space(env.action_space(agent), agent) for agent in env.possible_agents}
        for agent, space in self._seen.items():
            if isinstance(space, Dict) and isinstance(self._done[agent], Box):
                space.spaces.pop(ACTION_MASK, None)
        self._groups = read_agent_groups(env)
        self._masked_by_info: frozenset[Any] | None = None  # known after the first reset
        self._warned = False
        self._over: set[Any] = set()  # agents that terminated in the last step and stayed

    def observation_space(self, agent: Any) -> Space[Any]:
        """The space of the observations that :meth:`reset` and :meth:`step` return."""
        return self._seen[agent]

    def action_space(self, agent: Any) -> Space[Any]:
        """The space of the actions that :meth:`step` takes."""
        return self._done[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        returned = self.env.reset(seed=seed, options=options)
        observations, infos = read_reset(returned, read_agents(self.env, self._seen), self._seen)
        self._over = set()
        if self._masked_by_info is None:
            told = {agent for agent, info in infos.items() if ACTION_MASK in info}
            self._masked_by_info = frozenset(
                agent for members in self._groups.values() if told & set(members) for agent in members
            )
        seen, masks = self._tidy(observations, infos)
        for agent in self.possible_agents:
            seen.setdefault(agent, _zero(self._seen[agent]))
            masks.setdefault(agent, {})
        return seen, masks

    def step(self, actions: dict[Any, Any]) -> Any:
        """Step the agents that are present."""
        acted = list(self.env.agents)
        returned = self.env.step({agent: _act(self.env.action_space(agent), actions[agent]) for agent in acted})
        agents = read_agents(self.env, self._seen)
        step = read_step(returned, acted, agents, self._seen)
        over = {agent for agent in agents if step.terminated[agent]}
        if not self._warned and over & self._over:
            self._warned = True
            warn_of_agents_kept_after_termination(over & self._over)
        self._over = over
        seen, masks = self._tidy(step.observations, step.infos)
        return seen, step.rewards, step.terminated, step.truncated, masks

    def _tidy(self, observations: dict[Any, Any], infos: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
        seen, masks, here = {}, {}, set(self.env.agents)
        for agent, observation in observations.items():
            lives = agent in here
            value, info = self._see(agent, observation, lives=lives), infos[agent]
            if lives:
                self._check_info(agent, info)
            for source in (value, info):
                if isinstance(source, dict) and ACTION_MASK in source:
                    mask = source.pop(ACTION_MASK)
                    if not isinstance(self._done[agent], Box):
                        source[ACTION_MASK] = self._legal(agent, mask, lives=lives)
            seen[agent], masks[agent] = value, {key: info[key] for key in (ACTION_MASK,) if key in info}
        return seen, masks

    def _see(self, agent: Any, observation: Any, *, lives: bool) -> Any:
        """An observation in this environment's space; zeros if that of an agent that ended is not in it."""
        space = self.env.observation_space(agent)
        try:
            return _see(space, read_observation(space, observation, agent))
        except ConfigError:
            if lives:
                raise
            return _zero(self._seen[agent])

    def _check_info(self, agent: Any, info: dict[Any, Any]) -> None:
        """Raise unless an agent has a mask in every step or in none."""
        always = agent in (self._masked_by_info or ())
        if always != (ACTION_MASK in info) and not isinstance(self._done[agent], Box):
            raise ConfigError(
                f"the infos must have an {ACTION_MASK} of agent {agent!r} either in every step or in none; got "
                f"{'one after a reset without' if not always else 'none after a reset with one'}. Return it from "
                "reset() on, all True if every action is legal."
            )

    def _legal(self, agent: Any, told: Any, *, lives: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The legal choices of an agent, bool ``[D]``; all of them once it ended."""
        choices = _choices(self._done[agent])
        if not lives:
            return np.ones(choices, bool)
        mask = _side_by_side(told)
        if mask.size != choices:
            raise ConfigError(
                f"the action mask of agent {agent!r} must have {choices} entries, one per choice; got {mask.size}. "
                "Correct the mask in the environment."
            )
        if not mask.any():
            raise ConfigError(
                f"the action mask of agent {agent!r} must allow an action; got {mask.tolist()}. Correct "
                "the environment, or let the agent end."
            )
        return mask


class Factors(MultiDiscrete):
    """A ``MultiDiscrete`` that TorchRL does not convert to another spec if all factors have equally many choices."""


@register_gym_spec_conversion(Factors)
def _convert_factors(spec: Factors, device: Any = None, **kwargs: Any) -> TensorSpec:
    return MultiCategorical(spec.nvec.tolist(), device=device)


def _choices(space: Space[Any]) -> int:
    """The number of entries of an action mask."""
    return int(space.n) if isinstance(space, Discrete) else int(cast(MultiDiscrete, space).nvec.sum())


def _seen_space(space: Any, agent: Any, *path: Any) -> Space[Any]:
    if not isinstance(space, Space):
        raise ConfigError(
            f"observation_space(agent) must return a space of gymnasium; got {_kind(space)} for {agent!r}. Use "
            "gymnasium.spaces in the environment."
        )
    if isinstance(space, Dict):
        return Dict({key: _seen_space(part, agent, *path, key) for key, part in space.spaces.items()})
    if isinstance(space, Box) and space.shape:
        return space
    if not space.is_np_flattenable:
        raise ConfigError(
            f"observations must be made of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple; that of "
            f"{agent!r}{''.join(f'[{key!r}]' for key in path)} is in {type(space).__name__}. Choose another kind of "
            "observation in task.kwargs, or convert it in a task.factory of your own."
        )
    return _flat_space(space)


def image_divisor(space: Space[Any]) -> float:
    """The divisor of the numbers of an observation: 255 for unsigned bytes up to 255 (images), else 1."""
    return 255.0 if isinstance(space, Box) and space.dtype == np.uint8 and bool((space.high == 255).any()) else 1.0


def _flat_space(space: Space[Any]) -> Box:
    """The space of the vectors that :func:`_flat` returns."""
    if isinstance(space, Dict | Tuple):
        parts = [_flat_space(part) for _, part in _parts(space)]
        dtype = np.result_type(*(cast(Any, part.dtype) for part in parts))
        low, high = (
            np.concatenate(bounds).astype(dtype) for bounds in zip(*((p.low, p.high) for p in parts), strict=True)
        )
        return Box(low, high, dtype=cast(Any, dtype))
    flat, divisor = cast(Box, flatten_space(space)), np.float32(image_divisor(space))
    return flat if divisor == 1 else Box(flat.low / divisor, flat.high / divisor, dtype=np.float32)


def _flat(space: Space[Any], value: Any) -> np.ndarray[Any, Any]:
    """A vector of all numbers of a value, in the order of Gymnasium's ``flatten``; images are divided."""
    if isinstance(space, Dict | Tuple):
        return np.concatenate([_flat(part, value[key]) for key, part in _parts(space)])
    flat, divisor = cast(Any, flatten(space, value)), np.float32(image_divisor(space))
    return flat if divisor == 1 else flat / divisor


def _parts(space: Dict | Tuple) -> Iterable[tuple[Any, Space[Any]]]:
    return space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)


def _see(space: Space[Any], value: Any) -> Any:
    if isinstance(space, Dict):
        return {key: _see(part, value[key]) for key, part in space.spaces.items()}
    return value if isinstance(space, Box) and space.shape else _flat(space, value)


def _zero(space: Space[Any]) -> Any:
    if isinstance(space, Dict):
        return {key: _zero(part) for key, part in space.spaces.items()}
    return np.zeros(space.shape or (), space.dtype)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _action_space(space: Any, agent: Any) -> Space[Any]:
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    if isinstance(space, MultiDiscrete):
        return Factors(space.nvec.reshape(-1))
    if isinstance(space, MultiBinary):
        return Factors([2] * int(np.prod(space.shape)))
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which read_groups refuses
            low, high = (bound.reshape(-1).astype(np.float32) for bound in (space.low, space.high))
        return Box(low, high, dtype=np.float32)
    raise ConfigError(
        f"actions must be in a Box of floats, Discrete, MultiDiscrete or MultiBinary; those of {agent!r} are in "
        f"{space if isinstance(space, Space) else _kind(space)}. Convert them in a task.factory of your own."
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
