"""Returns of the training episodes.

An agent's return is the sum of its rewards while it is alive; rewards of dead agents do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.group_signals import living_rewards
from masac.groups import GroupSpec

RECENT_EPISODES = 100
"""Number of last finished episodes that the training return is the mean of."""


@dataclass(frozen=True, kw_only=True)
class FinishedEpisode:
    """An episode of the training environments.

    Args:
        returns: by group, of each agent, ``[N]``.
        length: in steps.
    """

    returns: Mapping[str, Tensor]
    length: int


class EpisodeTracker:
    """Follows the episodes of vectorised environments through the collected batches.

    Args:
        num_envs: E.
        groups: whose rewards.
    """

    def __init__(self, num_envs: int, groups: Sequence[GroupSpec]) -> None:
        self.groups = tuple(groups)
        self.running = {group.name: torch.zeros(num_envs, group.n_agents, dtype=torch.float64) for group in groups}
        self.lengths = torch.zeros(num_envs, dtype=torch.int64)
        self.finished: deque[FinishedEpisode] = deque(maxlen=RECENT_EPISODES)

    def observe(self, collected: TensorDictBase) -> list[FinishedEpisode]:
        """Add a batch ``[E, T]``; returns the episodes that it finished."""
        finished: list[FinishedEpisode] = []
        rewards = {group.name: living_rewards(collected, group).double().cpu() for group in self.groups}
        dones = collected["next", "done"].squeeze(-1).cpu()
        for step, done in enumerate(dones.unbind(1)):
            for name, reward in rewards.items():
                self.running[name] += reward[:, step]
            self.lengths += 1
            for env in done.nonzero().squeeze(-1).tolist():
                returns = {name: running[env].clone() for name, running in self.running.items()}
                finished.append(FinishedEpisode(returns=returns, length=int(self.lengths[env])))
            for running in (*self.running.values(), self.lengths):
                running[done] = 0
        self.finished.extend(finished)
        return finished

    def add(self, finished: Sequence[FinishedEpisode]) -> None:
        """Add episodes of other ranks."""
        self.finished.extend(finished)

    def restart(self, environments: Sequence[int] | None = None) -> None:
        """Forget the running episodes of environments that were reset, or of all."""
        which = slice(None) if environments is None else torch.tensor(environments, dtype=torch.int64)
        for running in (*self.running.values(), self.lengths):
            running[which] = 0

    def state(self) -> dict[str, Tensor]:
        """The last finished episodes, ``[episodes, N]`` by group, and their lengths."""
        if not self.finished:
            return {}
        stacked = {f"return/{name}": torch.stack([one.returns[name] for one in self.finished]) for name in self.running}
        return {**stacked, "length": torch.tensor([one.length for one in self.finished])}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state`, with environments just reset."""
        self.restart()
        self.finished.clear()
        for index, length in enumerate(state["length"].tolist() if state else ()):
            returns = {name: state[f"return/{name}"][index].clone() for name in self.running}
            self.finished.append(FinishedEpisode(returns=returns, length=length))

    def length(self) -> float | None:
        """Mean length of the last finished episodes in steps; None before the first."""
        return sum(one.length for one in self.finished) / len(self.finished) if self.finished else None

    def returns(self, group: str) -> Tensor | None:
        """Mean return of each agent over the last finished episodes, ``[N]``; None before the first."""
        return torch.stack([one.returns[group] for one in self.finished]).mean(0) if self.finished else None
