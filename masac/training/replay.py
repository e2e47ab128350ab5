"""The replay buffer: what the losses read, and nothing twice."""

from __future__ import annotations

from tensordict import NestedKey, TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from masac.groups import GroupSpec


class Replay:
    """Rows of all agents' transitions, sampled uniformly.

    Args:
        group: whose transitions.
        size: rows it holds; the oldest give way.
        batch_size: rows a sample.
        device: where the rows are kept.
    """

    def __init__(self, group: GroupSpec, *, size: int, batch_size: int, device: str) -> None:
        self.group = group
        self.buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(size, device=device), batch_size=batch_size)

    def __len__(self) -> int:
        return len(self.buffer)

    def extend(self, collected: TensorDictBase) -> None:
        """Store the rows of a collected batch ``[environments, steps]`` in which any agent was alive."""
        rows = collected.reshape(-1)
        mask = rows.get((self.group.name, "mask"), None)
        if mask is not None:
            rows = rows[mask.flatten(1).any(1)]
        self.buffer.extend(self._transitions(rows))

    def sample(self) -> TensorDictBase:
        """``batch_size`` rows, drawn with replacement."""
        return self.buffer.sample()

    def _transitions(self, rows: TensorDictBase) -> TensorDict:
        """Observation, action, mask, and the next reward, terminated flag and observation, without the rest."""
        name, batch = self.group.name, rows.batch_size
        agents = TensorDict({}, [*batch, self.group.n_agents])
        next_agents = TensorDict({}, [*batch, self.group.n_agents])
        out = TensorDict({name: agents, "next": TensorDict({name: next_agents}, batch)}, batch)
        kept: list[NestedKey] = [(name, "observation"), (name, "action"), (name, "mask"), ("next", name, "observation")]
        for signal in ("reward", "terminated"):
            in_group, at_root = ("next", name, signal), ("next", signal)
            kept.append(in_group if rows.get(in_group, None) is not None else at_root)
        for key in kept:
            value = rows.get(key, None)
            if value is not None:
                out.set(key, value)
        return out
