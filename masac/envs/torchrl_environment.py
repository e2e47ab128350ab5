"""One TorchRL environment of a user's, stepped beside others like a PettingZoo environment."""

from __future__ import annotations

from typing import cast

import torch
from tensordict import TensorDictBase
from torchrl.data import Composite
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp

from masac.envs.single_environment import EnvironmentSpecs, Row, leaves
from masac.envs.torchrl_observations import with_vectors


class TorchRLEnvironment:
    """A TorchRL environment without a batch axis; its observations become vectors.

    Args:
        env: of batch size ``[]``, with groups of agents.
        name: the override that names it, for errors.

    Attributes:
        raw: the environment.
        specs: of its entries.

    Raises:
        ConfigError: for an observation too long to learn from.
    """

    def __init__(self, env: EnvBase, name: str) -> None:
        self.raw = env
        self._env = with_vectors(env, name)
        self._state: TensorDictBase | None = None
        self.specs = EnvironmentSpecs(
            action=cast(Composite, self._env.full_action_spec),
            observation=cast(Composite, self._env.full_observation_spec),
            reward=cast(Composite, self._env.full_reward_spec),
            done=_with_truncated(cast(Composite, self._env.full_done_spec)),
            agents={str(group): list(names) for group, names in (getattr(env, "group_map", None) or {}).items()},
        )
        self._keys = {
            kind: [key for key, _ in leaves(spec)]
            for kind, spec in (
                ("state", self.specs.observation),
                ("reward", self.specs.reward),
                ("done", self.specs.done),
            )
        }

    def reset(self, row: Row, *, seed: int | None) -> None:
        """Begin an episode."""
        if seed is not None:
            self._env.set_seed(seed)
        self._state = self._env.reset()
        self._write(self._state, row, "state", "done")

    def step(self, actions: Row, row: Row) -> None:
        """Take a step."""
        assert self._state is not None, "reset comes first"
        for key, action in actions.items():
            self._state.set(key, torch.from_numpy(action.copy()))
        stepped = self._env.step(self._state)
        self._write(stepped.get("next"), row, "state", "reward", "done")
        self._state = step_mdp(stepped)

    def close(self) -> None:
        """Close the environment."""
        self._env.close(raise_if_closed=False)

    def _write(self, data: TensorDictBase, row: Row, *kinds: str) -> None:
        for kind in kinds:
            for key in self._keys[kind]:
                value = data.get(key, None)
                row[key][...] = False if value is None else value.numpy()


def _with_truncated(spec: Composite) -> Composite:
    """A done spec with ``truncated`` beside every ``done``, for a horizon."""
    spec = spec.clone()
    for key, done in list(leaves(spec)):
        if key[-1] == "done":
            spec[(*key[:-1], "truncated")] = done.clone()
    return spec
