"""The replay buffer: what the losses read, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from masac.groups import GroupSpec


class Replay:
    """Rows of all agents' transitions, sampled uniformly.

    Args:
        groups: whose transitions.
        size: rows it holds; the oldest give way.
        batch_size: rows a sample.
        device: where the rows are kept.
    """

    def __init__(self, groups: Sequence[GroupSpec], *, size: int, batch_size: int, device: str) -> None:
        self.groups = tuple(groups)
        self.buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(size, device=device), batch_size=batch_size)

    def __len__(self) -> int:
        return len(self.buffer)

    def extend(self, collected: TensorDictBase) -> None:
        """Store the rows of a collected batch ``[environments, steps]`` in which any agent was alive."""
        rows = collected.reshape(-1)
        masks = [rows.get((group.name, "mask"), None) for group in self.groups]
        living = [mask.flatten(1).any(1) for mask in masks if mask is not None]
        if len(living) == len(masks):  # a group without a mask is alive in every row
            rows = rows[torch.stack(living).any(0)]
        if rows.numel():
            self.buffer.extend(self._transitions(rows))

    def sample(self) -> TensorDictBase:
        """``batch_size`` rows, drawn with replacement."""
        return self.buffer.sample()

    def _transitions(self, rows: TensorDictBase) -> TensorDict:
        """Observations, actions and masks, and the next rewards, terminated flags and observations; no more."""
        batch = rows.batch_size
        out = TensorDict({"next": TensorDict({}, batch)}, batch)
        for group in self.groups:
            name, size = group.name, [*batch, group.n_agents]
            out.set(name, TensorDict({}, size))
            out.set(("next", name), TensorDict({}, size))
            kept = [(name, entry) for entry in ("observation", "action", "mask", "action_mask")]
            kept += [("next", name, entry) for entry in ("observation", "action_mask")]
            for signal in ("reward", "terminated"):
                in_group, at_root = ("next", name, signal), ("next", signal)
                kept.append(in_group if rows.get(in_group, None) is not None else at_root)
            for key in kept:
                value = rows.get(key, None)
                if value is not None:
                    out.set(key, value)
        return out
