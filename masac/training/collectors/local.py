"""Collecting in this process."""

from __future__ import annotations

from typing import cast

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.training.collectors.base import Collector
from masac.training.collectors.data_checks import check_actors
from masac.training.policies.policy import Policy


class LocalCollector(Collector):
    """Steps environments from this process, with or without workers of their own (``task.num_workers``).

    Like TorchRL's ``Collector``, without copies of the policy on other devices and trajectory
    numbers.

    Args:
        env: vectorised environments.
        policy: acts.
        steps: per environment in a batch.
    """

    def __init__(self, env: EnvBase, policy: Policy, *, steps: int) -> None:
        self.env = env
        self.policy = policy
        self.steps = steps
        self._state: TensorDictBase | None = None

    @torch.no_grad()
    def collect(self) -> TensorDictBase:
        """The next batch, ``[environments, steps]``."""
        if self._state is None:
            self.reset()
        state, transitions = self._state, []
        with set_exploration_type(ExplorationType.RANDOM):
            for _ in range(self.steps):
                transition, state = self._step(self.policy(state))
                state = self.policy.carry(transition, state)
                transitions.append(transition)
                if self.policy.opponents:
                    self.policy.begin_episodes(transition["next", "done"].squeeze(-1))
        self._state = state
        return cast(TensorDictBase, torch.stack(transitions, dim=1))

    def _step(self, state: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        try:
            return self.env.step_and_maybe_reset(state)
        except Exception:
            # What environments raise for actions that are not finite does not say so.
            check_actors(state.unsqueeze(1), self.policy.groups, frames=None)
            raise

    def reset(self, seed: int | None = None) -> None:
        """Begin new episodes in all environments."""
        if seed is not None:
            self.env.set_seed(seed)
        self._state = self.policy.begin(self.env.reset())
        self.policy.begin_episodes(torch.ones(self.env.batch_size, dtype=torch.bool, device=self.env.device))

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        if not self.env.is_closed:
            self.env.close(raise_if_closed=False)
