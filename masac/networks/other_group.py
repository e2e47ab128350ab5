"""Another group of agents, as a critic sees it."""

from __future__ import annotations

from dataclasses import dataclass

from tensordict import NestedKey

from masac.images import ImageSpec


@dataclass(frozen=True, kw_only=True)
class OtherGroup:
    """Another group that a critic sees.

    Args:
        group: key of its agents' entries.
        n_agents: its size.
        observation_dim: features of one of its agents' observations.
        action_dim: dimensions of one of its agents' actions, as a critic sees them (one-hot for discrete ones).
        images: that one of its agents sees beside the observation vector.
    """

    group: NestedKey
    n_agents: int
    observation_dim: int
    action_dim: int
    images: tuple[ImageSpec, ...] = ()

    @property
    def features(self) -> int:
        """Features of the group for a critic: observation, action and alive flag of every agent."""
        return self.n_agents * (self.observation_dim + self.action_dim + 1)
