"""Environments for evaluation, which stop after one episode."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from torchrl.envs import EnvBase, TransformedEnv


class OneEpisode(TransformedEnv):
    """``env`` for one episode per seed.

    If some environments of a batch end long before the last one, stepping them further can take most of an evaluation.
    From its second reset on, this one returns copies of its first observation and first step instead. TorchRL's partial
    steps would be the standard way, but (in 0.14.1) they do not work with transforms that change the shape of an
    observation, nor with processes of several environments each.

    Args:
        env: one environment, batch size ``[]``.
    """

    def __init__(self, env: EnvBase) -> None:
        super().__init__(env)
        self._first_observation: TensorDictBase | None = None
        self._first_step: TensorDictBase | None = None
        self._resting = False

    def set_seed(self, seed: int | None = None, static_seed: bool = False) -> int | None:
        """Seed the environment; the next reset starts the episode."""
        self._first_observation = self._first_step = None
        self._resting = False
        return super().set_seed(seed, static_seed)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        if self._first_observation is not None:
            self._resting = True
            return self._first_observation.clone()
        observation = super()._reset(tensordict, **kwargs)
        self._first_observation = observation.clone()
        return observation

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        if self._resting and self._first_step is not None:
            return self._first_step.clone()
        step = super()._step(tensordict)
        if self._first_step is None:
            self._first_step = step.clone()
        return step
