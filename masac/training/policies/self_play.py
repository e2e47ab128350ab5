"""Self-play: past snapshots of a group act in part of the episodes."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.groups import GroupSpec
from masac.training.policies.opponents import memory_of, seen_as
from masac.training.policies.policy import Opponent, Policy

NEWEST = -1
"""In place of the number of a snapshot: the newest policy acts."""


class SelfPlayOpponent(Opponent):
    """Acts for a group, in each episode of an environment with one snapshot of a group or with its newest policy.

    A pool that is full stays spread over the whole run: the snapshot with the closest neighbours goes, but never the
    first one or the newest.

    Args:
        group: that it acts for.
        policy: whose newest weights act, too.
        source: the group of the policy that the snapshots are of.
        size: the number of snapshots that are kept.
        newest: the part of the episodes in which the newest policy acts.

    Attributes:
        frames: at which each snapshot was taken.
        acting: by environment, the number of the snapshot that acts, ``[E]``; None if the newest policy acts in all.
    """

    def __init__(self, group: GroupSpec, policy: Policy, source: str, *, size: int, newest: float) -> None:
        self.group, self.weights_of = group, source
        self.described = "self-play" if source == group.name else f"self-play: past snapshots of {source}"
        self.policy = policy.of_group(source)
        self.policy.opponents.clear()  # a pool of the source itself acts for the source alone
        self.memory = memory_of(self.policy, source)
        self.size, self.newest = size, newest
        self.snapshots: list[Policy] = []
        self.frames: list[int] = []
        self.acting: Tensor | None = None
        self._begins: Tensor | None = None

    def __call__(self, state: TensorDictBase) -> Tensor:
        """The actions ``[E, N, ...]``."""
        source, plays = str(self.weights_of), self.policy.groups[0]
        seen = seen_as(source, self.group, state)
        acted = self.policy(seen.copy())
        actions, memory = plays.whole_action(acted), acted.get((source, "memory_after"), None)
        if self.acting is not None:
            self._draw(self.acting)
            for number in self.acting.unique().tolist():
                if number != NEWEST:
                    rows = self.acting == number
                    of_snapshot = self.snapshots[number](seen[rows])
                    actions[rows] = plays.whole_action(of_snapshot)
                    if memory is not None:
                        memory[rows] = of_snapshot[source, "memory_after"]
        if memory is not None:
            state.set((self.group.name, "opponent_memory_after"), memory)
        return actions

    def begin_episodes(self, which: Tensor | None = None) -> None:
        """Draw new snapshots for environments at their next step; ``which`` of them, bool ``[E]``."""
        if which is None:
            self.acting = self._begins = None
        elif self.acting is None or self._begins is None or len(which) != len(self.acting):
            self.acting, self._begins = torch.full_like(which, NEWEST, dtype=torch.int64), torch.ones_like(which)
        else:
            self._begins = self._begins | which

    def add(self, frames: int) -> None:
        """Take a snapshot of the newest weights."""
        self._append(self._copy(), frames)
        if len(self.frames) > self.size:
            inner = range(1, len(self.frames) - 1)
            self._remove(min(inner, key=lambda at: self.frames[at + 1] - self.frames[at - 1], default=0))

    def state(self) -> dict[str, Tensor]:
        """The snapshots, as tensors by name."""
        state = {"frames": torch.tensor(self.frames, dtype=torch.int64)}
        for number, snapshot in enumerate(self.snapshots):
            state |= {f"{number}/{name}": value for name, value in snapshot.state_dict().items()}
        return state

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state`."""
        self.snapshots, self.frames = [], []
        for number, frames in enumerate(state["frames"].tolist()):
            snapshot = self._copy()
            snapshot.load_state_dict({name: state[f"{number}/{name}"] for name in snapshot.state_dict()})
            self._append(snapshot, frames)

    def to(self, device: str) -> None:
        """Move the snapshots; the newest weights are those of the policy."""
        for snapshot in self.snapshots:
            snapshot.to(device)

    def _copy(self) -> Policy:
        return copy.deepcopy(self.policy).requires_grad_(False)

    def _append(self, snapshot: Policy, frames: int) -> None:
        self.snapshots.append(snapshot)
        self.frames.append(frames)

    def _remove(self, number: int) -> None:
        del self.snapshots[number], self.frames[number]
        if self.acting is not None:  # where it acts, the snapshot after it acts to the end of the episode
            self.acting = torch.where(self.acting > number, self.acting - 1, self.acting)

    def _draw(self, acting: Tensor) -> None:
        if self._begins is None or not bool(self._begins.any()):
            return
        if self.snapshots:  # otherwise the newest policy acts, to the end of the episode
            drawn = torch.randint_like(acting, len(self.snapshots))
            newest = torch.rand(acting.shape, device=acting.device) < self.newest
            self.acting = torch.where(self._begins, torch.where(newest, NEWEST, drawn), acting)
        self._begins = torch.zeros_like(self._begins)


def pools(policy: Policy) -> dict[str, SelfPlayOpponent]:
    """The opponents of a policy that are past snapshots, by the group that they act for."""
    return {name: one for name, one in policy.opponents.items() if isinstance(one, SelfPlayOpponent)}


@contextmanager
def facing(policy: Policy, past: Collection[str], episodes: int, device: torch.device | None) -> Iterator[None]:
    """A context in which snapshots act for some groups, each in an equal share of the episodes; newest policies else.

    Args:
        policy: that acts.
        past: the groups for which snapshots act, as far as there are any.
        episodes: E.
        device: of the environments.
    """
    found = pools(policy)
    before = {name: (one.acting, one._begins) for name, one in found.items()}
    for name, one in found.items():
        meets = name in past and bool(one.frames)
        one.acting = snapshots_met(episodes, len(one.frames)).to(device) if meets else None
        one._begins = None
    try:
        yield
    finally:
        for name, one in found.items():
            one.acting, one._begins = before[name]


def snapshots_met(episodes: int, snapshots: int) -> Tensor:
    """The number of the snapshot that acts in each episode of an evaluation, ``[E]``.

    With at least as many episodes as snapshots each acts in an equal share; otherwise some do, spread over the pool,
    among them the newest one and then the first one.

    Args:
        episodes: E.
        snapshots: in the pool, oldest first; at least one.
    """
    if episodes >= snapshots:
        return torch.arange(episodes) % snapshots
    return snapshots - 1 - torch.arange(episodes) * (snapshots - 1) // max(episodes - 1, 1)


def state_of_pools(policy: Policy) -> dict[str, Tensor]:
    """The snapshots of all groups, as tensors by name."""
    return {f"{name}/{key}": value for name, one in pools(policy).items() for key, value in one.state().items()}


def set_state_of_pools(policy: Policy, state: Mapping[str, Tensor]) -> None:
    """Restore :func:`state_of_pools`.

    Raises:
        KeyError: if a group has none there.
    """
    for name, one in pools(policy).items():
        start = f"{name}/"
        one.set_state({key.removeprefix(start): value for key, value in state.items() if key.startswith(start)})
