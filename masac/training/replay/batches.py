"""Batches for updates: sampled rows with normalized observations and scaled rewards."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from tensordict import TensorDictBase

from masac.training.policies.policy import Policy
from masac.training.replay.buffer import Replay
from masac.training.reward_scaling import RewardScaling

BATCHES_PER_SAMPLE = 32
"""Batches of single steps drawn in one call; few enough that they take little memory compared with the buffer."""


class Batches:
    """Samples batches from a replay buffer.

    Args:
        replay: the buffer.
        policy: normalizes observations, if enabled.
        rewards: scales rewards.
    """

    def __init__(self, replay: Replay, policy: Policy, rewards: RewardScaling) -> None:
        self.replay, self.policy, self.rewards = replay, policy, rewards

    def sample(self, count: int) -> Iterator[TensorDictBase]:
        """Yield batches; where they are sampled by priority, take the new priorities of one when the next is asked for.

        Args:
            count: how many.
        """
        at_once = max(BATCHES_PER_SAMPLE // prod(self.replay.row_shape), 1)
        for first in range(0, count, at_once):
            rows = self.prepare(self.replay.sample(min(count - first, at_once)))
            for batch in rows.split(self.replay.batch_size):
                index = batch.pop("index", None)
                yield batch
                if self.replay.priorities is not None:
                    self.replay.set_errors(index, batch.get("td_error"))

    def prepare(self, rows: TensorDictBase) -> TensorDictBase:
        """Normalize observations and scale rewards."""
        rows = self.policy.normalize(rows)
        self.rewards.rescale(rows)
        return rows
