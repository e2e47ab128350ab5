"""The replay buffer, which stores only the entries that losses read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyTensorStorage, ReplayBuffer

from masac.groups import GroupSpec
from masac.keys import as_path
from masac.training.replay.priorities import BYTES_PER_ROW, Priorities


class Replay:
    """Rows with the transitions of all agents, sampled uniformly or by priority.

    Args:
        groups: whose transitions are stored.
        size: rows that it holds; new rows replace the oldest.
        batch_size: rows per batch.
        device: of the rows.
        row_shape: the batch size of a sampled row: none, or the steps of a sequence.
        priorities: by which rows are sampled; None for uniformly.

    Attributes:
        written: rows that were stored in all.
    """

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        *,
        size: int,
        batch_size: int,
        device: str,
        row_shape: Sequence[int] = (),
        priorities: Priorities | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.size = size
        self.batch_size = batch_size
        self.row_shape = tuple(row_shape)
        self.priorities = priorities
        self.written = 0
        self.buffer = ReplayBuffer(storage=LazyTensorStorage(size, device=device))

    def __len__(self) -> int:
        return len(self.buffer)

    def extend(self, collected: TensorDictBase) -> None:
        """Store the rows of a collected batch ``[environments, rows]`` in which an agent is alive."""
        rows = self._flat(collected)
        masks = [rows.get((group.name, "mask"), None) for group in self.groups]
        living = [mask.flatten(1).any(1) for mask in masks if mask is not None]
        if len(living) == len(masks):  # the agents of a group without a mask are always alive
            rows = rows[torch.stack(living).any(0)]
        rows = cast(TensorDictBase, rows[-self.size :])
        if len(rows):  # not numel(), which is 1 for no rows
            self._store(self.transitions(rows))
            self.written += len(rows)

    def set_progress(self, done: float) -> None:
        """Say which fraction of the run is completed, in [0, 1]."""
        if self.priorities is not None:
            self.priorities.set_progress(done)

    def sample(self, batches: int = 1) -> TensorDictBase:
        """``batches * batch_size`` rows, drawn with replacement; many in one call cost little more than few.

        With priorities they also have their places in the buffer, ``index``, for :meth:`set_errors`, and their
        importance weights, ``priority_weight``.
        """
        if self.priorities is None:
            return self._sampled(self.buffer.sample(batches * self.batch_size))
        index, weight = self.priorities.draw(len(self), batches=batches, batch_size=self.batch_size)
        rows = self._sampled(self.buffer.storage.get(index))  # pyright: ignore[reportArgumentType]
        for name, value in (("index", index), ("priority_weight", weight)):
            rows.set(name, value.reshape(-1, *(1,) * len(self.row_shape)).expand(rows.batch_size))  # for all its steps
        return rows

    def set_errors(self, index: Tensor, td_error: Tensor) -> None:
        """Set the priorities of sampled rows.

        Args:
            index: that :meth:`sample` gave them, ``[B]``, or ``[B, T]`` for sequences.
            td_error: of the losses, of the same shape; of a sequence the largest counts.
        """
        assert self.priorities is not None
        rows = len(index)
        self.priorities.update(index.reshape(rows, -1)[:, 0], td_error.reshape(rows, -1).amax(1))

    def rows(self, first: int, end: int) -> TensorDictBase:
        """The rows ``first`` to ``end - 1``, counted from the first row ever stored; they must still be there."""
        return self.buffer.storage.get(torch.arange(first, end) % self.size)  # pyright: ignore[reportArgumentType]

    def rows_from(self, tensors: Mapping[str, Tensor]) -> TensorDict:
        """Rows from the tensors of :meth:`rows`, ``"next/agents/reward"`` and so on."""
        out = self._stored([next(iter(tensors.values())).shape[0]])
        for name, value in tensors.items():
            out.set(tuple(name.split("/")), value)
        return out

    def restore(self, parts: Iterable[TensorDictBase], *, written: int) -> None:
        """Replace all rows by the last ``min(written, size)`` of ``written``, each in its former place.

        Args:
            parts: these rows in order, in parts of any size.
            written: rows that were stored in all.
        """
        self.buffer.empty()
        self.written = 0  # in case a part cannot be read
        try:
            self._restore(parts, written)
        except BaseException:
            self.buffer.empty()
            raise
        self.written = written

    def _restore(self, parts: Iterable[TensorDictBase], written: int) -> None:
        places_before = written % self.size if written > self.size else 0  # that of the oldest row
        for rows in parts:
            while places_before:  # any rows fill them: the newest rows overwrite them at the end
                filler = rows[:places_before]
                self._store(filler)  # pyright: ignore[reportArgumentType]
                places_before -= len(filler)
            self._store(rows)

    def _store(self, rows: TensorDictBase) -> None:
        places = self.buffer.extend(rows)  # pyright: ignore[reportArgumentType]
        if self.priorities is not None:
            self.priorities.add(places)

    def bytes_per_row(self, example: TensorDictBase) -> int:
        """The size of a row and its priority, given an example of collected rows."""
        return size_of(self.one_row(example)) + (0 if self.priorities is None else BYTES_PER_ROW)

    def one_row(self, example: TensorDictBase) -> TensorDict:
        """A row as it is stored, ``[1]``, given an example of collected rows."""
        return self.transitions(cast(TensorDictBase, self._flat(example)[:1]))

    def _flat(self, collected: TensorDictBase) -> TensorDictBase:
        """Collected rows ``[..., *row_shape]`` in one dimension, ``[R, *row_shape]``."""
        lead = collected.batch_size[: collected.ndim - len(self.row_shape)]
        return collected.reshape(lead.numel(), *self.row_shape)  # -1 is ambiguous where there are no rows

    def _sampled(self, stored: TensorDictBase) -> TensorDictBase:
        """Stored rows as losses read them: the steps of sequences in the batch size, and memories at every step."""
        if not self.row_shape:
            return stored
        batch = [len(stored), *self.row_shape]
        out = self._empty(batch, batch)
        for key, value in stored.items(True, True):
            if as_path(key)[-1] == "memory":
                value = value.unsqueeze(1).expand(*batch, *value.shape[1:])
            out.set(key, value)
        return out

    def _stored(self, batch: Sequence[int]) -> TensorDict:
        """Empty rows as they are stored. Those of sequences have all steps in each entry, and one memory per agent."""
        return self._empty(batch, None if self.row_shape else batch)

    def _empty(self, batch: Sequence[int], agents_of: Sequence[int] | None) -> TensorDict:
        """Empty rows, whose groups have the batch size ``[*agents_of, N]``, or that of the rows."""
        out = TensorDict({"next": TensorDict({}, batch)}, batch)
        for group in self.groups:
            own = batch if agents_of is None else [*agents_of, group.n_agents]
            out.set(group.name, TensorDict({}, own))
            out.set(("next", group.name), TensorDict({}, own))
        return out

    def transitions(self, rows: TensorDictBase) -> TensorDict:
        """Observations, actions and masks, and the next rewards, terminated flags and observations; nothing else.

        With memories also where they begin anew, and what they were before the first step of a sequence: losses compute
        the rest. n-step rows have the number of steps too.
        """
        out = self._stored(rows.batch_size[: rows.ndim - len(self.row_shape)])
        if (steps := rows.get("steps_to_next_obs", None)) is not None:
            out.set("steps_to_next_obs", steps)
        for group in self.groups:
            name = group.name
            kept = [
                *((name, entry) for entry in (*group.seen, "mask", "memory", "is_init")),
                *map(as_path, group.action_keys),
            ]
            kept += [("next", name, entry) for entry in group.seen]
            for signal in ("reward", "terminated"):
                in_group, at_root = ("next", name, signal), ("next", signal)
                kept.append(in_group if rows.get(in_group, None) is not None else at_root)
            for key in kept:
                value = rows.get(key, None)
                if value is not None:
                    first_only = self.row_shape and key[-1] == "memory"
                    out.set(key, value.select(len(out.batch_size), 0) if first_only else value)
        return out


def size_of(data: TensorDictBase) -> int:
    """The bytes of all tensors in ``data``."""
    tensors: list[Tensor] = list(data.values(True, True))  # pyright: ignore[reportAssignmentType]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
