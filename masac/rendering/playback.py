"""Episodes of a policy, as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from tensordict import TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type, step_mdp

from masac.group_signals import living_rewards
from masac.groups import GroupSpec
from masac.rendering.drawing import DrawnEnv, Picture


class Player(Protocol):
    """What acts in the episodes, such as a :class:`masac.training.policies.policy.Policy`."""

    def __call__(self, tensordict: TensorDictBase, /) -> TensorDictBase:
        """Write the actions of all groups into a state."""
        ...

    def begin(self, state: TensorDictBase, /) -> TensorDictBase:
        """Give the first state of an episode empty memories."""
        ...

    def carry(self, transition: TensorDictBase, state: TensorDictBase, /) -> TensorDictBase:
        """Give the state after a step the memories of its agents."""
        ...


class Playback:
    """Plays episodes while it is iterated over; yields a picture of each first state and one after each step.

    Args:
        policy: acts.
        groups: of the environment.
        drawn: the environment; the first episode starts from its seed.
        episodes: number of episodes.
        max_steps: maximum length of an episode; None leaves its end to the environment.
        stochastic: whether actions are sampled from the policy; else it acts without noise.

    Attributes:
        lengths: numbers of steps of the episodes so far.
        returns: by group, the mean return per agent of each episode so far.
    """

    def __init__(
        self,
        policy: Player,
        groups: Sequence[GroupSpec],
        drawn: DrawnEnv,
        *,
        episodes: int = 1,
        max_steps: int | None = None,
        stochastic: bool = False,
    ) -> None:
        self.policy, self.groups = policy, groups
        self.drawn = drawn
        self.episodes = episodes
        self.max_steps = max_steps
        self.exploration = ExplorationType.RANDOM if stochastic else ExplorationType.DETERMINISTIC
        self.lengths: list[int] = []
        self.returns: dict[str, list[float]] = {group.name: [] for group in groups}

    def __iter__(self) -> Iterator[Picture]:
        """Play all episodes."""
        for _ in range(self.episodes):
            yield from self._play_one()

    def _play_one(self) -> Iterator[Picture]:
        with torch.no_grad():
            data = self.policy.begin(self.drawn.env.reset())
        yield self.drawn.draw()
        self.lengths.append(0)
        for returns in self.returns.values():
            returns.append(0.0)
        done = False
        while not done and self.lengths[-1] != self.max_steps:
            # With step_and_maybe_reset the last picture would show the first state of the next episode.
            with torch.no_grad(), set_exploration_type(self.exploration):
                stepped = self.drawn.env.step(self.policy(data))
            for group in self.groups:
                self.returns[group.name][-1] += living_rewards(stepped, group).mean().item()
            self.lengths[-1] += 1
            done = bool(stepped["next", "done"].all())
            data = self.policy.carry(stepped, step_mdp(stepped))
            yield self.drawn.draw()
