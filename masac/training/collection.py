"""Collecting transitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.checks import RunFailedError
from masac.groups import GroupSpec
from masac.losses.batch import read_next_signal
from masac.signals import expand_to_agents
from masac.training.episodes import alive_agents
from masac.training.policy import Policy


class Collector:
    """Steps environments in this process with a policy that acts with noise.

    It does what TorchRL's ``Collector`` does, without what is needed for policies with a memory, copies of policies on
    other devices and numbers of trajectories. Environments that end are reset, and go on.

    Args:
        env: vectorised environments.
        policy: acts.
        steps: of every environment in a batch.
    """

    def __init__(self, env: EnvBase, policy: Policy, *, steps: int) -> None:
        self.env = env
        self.policy = policy
        self.steps = steps
        self._state: TensorDictBase | None = None

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Batches ``[environments, steps]`` without end, also where processes share the environments."""
        while True:
            yield self.collect()

    @torch.no_grad()
    def collect(self) -> TensorDictBase:
        """The next batch, ``[environments, steps]``."""
        if self._state is None:
            self.reset()
        state, transitions = self._state, []
        with set_exploration_type(ExplorationType.RANDOM):
            for _ in range(self.steps):
                transition, state = self.env.step_and_maybe_reset(self.policy(state))
                transitions.append(transition)
        self._state = state
        collected = cast(TensorDictBase, torch.stack(transitions, dim=self.env.batch_dims))
        return collected.flatten(0, -2) if collected.ndim > 2 else collected

    def reset(self) -> None:
        """Begin new episodes in all environments."""
        self._state = self.env.reset()

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        if not self.env.is_closed:
            self.env.close(raise_if_closed=False)


def check_observations(collected: TensorDictBase, groups: Sequence[GroupSpec], frames: int) -> None:
    """Raise unless the observations of all living agents are finite.

    Args:
        collected: ``[E, T]``.
        groups: whose observations.
        frames: collected before this batch.

    Raises:
        RunFailedError: naming group, agent, environment and step of the first that is not.
    """
    for group in groups:
        alive = alive_agents(collected, group)
        # The next observation of an agent that terminated is not used; that of one cut short is.
        goes_on = alive & ~_terminated(collected, group)
        for state, acts, where in ((collected, alive, ""), (collected.get("next"), goes_on, "after ")):
            wrong = acts & ~state.get(group.observation_key).isfinite().all(-1)
            if wrong.any():
                env, step, agent = wrong.nonzero()[0].tolist()
                got = state[group.observation_key][env, step, agent].tolist()
                raise RunFailedError(
                    f"observations of living agents must be finite; got {got} for agent {agent} of group "
                    f"{group.name!r} in environment {env}, {where}step {step} of the batch that begins at frame "
                    f"{frames}. Mend the environment, set its terminated flag where an observation means nothing, or "
                    "set training.check_observations=false"
                )


def _terminated(collected: TensorDictBase, group: GroupSpec) -> Tensor:
    """``[E, T, N]``."""
    flags = read_next_signal(collected, (group.name, "terminated"), group.name, "terminated")
    return expand_to_agents(flags, collected.batch_size, group.n_agents, name="terminated").squeeze(-1)
