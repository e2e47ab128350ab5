"""Sequences of following steps, the rows of the replay buffer of a run with memories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase

from masac.training.replay.n_step import NStepReturns


class Sequences:
    """Turns steps of vectorised environments into rows of following steps of one environment.

    A row has ``length`` steps to train on, and the ``burn_in`` steps before them, over which the losses only unroll the
    memories. It is made when its last step is collected; the steps to train on of a row are those after the last row's.
    Rows go on across the ends of episodes and agents: ``(group, "is_init")`` says where a memory begins anew.

    Args:
        length: steps to train on.
        burn_in: steps before them.
    """

    def __init__(self, *, length: int, burn_in: int) -> None:
        self.length, self.burn_in = length, burn_in
        self._parts: list[TensorDictBase] = []  # the steps that the next row needs, in batches

    def rows(self, collected: TensorDictBase) -> TensorDictBase:
        """The rows ``[E, R, burn_in + length]`` that a batch ``[E, T]`` of the following steps completes."""
        self._parts.append(collected)
        known = sum(part.shape[1] for part in self._parts)
        count = max(known - self.burn_in, 0) // self.length
        steps = collected if len(self._parts) == 1 or not count else _joined(self._parts)
        within = torch.arange(self.burn_in + self.length)
        rows = steps[:, torch.arange(count).unsqueeze(-1) * self.length + within]
        if count:
            self._parts = [cast(TensorDictBase, steps[:, count * self.length :]).clone()]
        return cast(TensorDictBase, rows)

    def example(self, steps: TensorDictBase) -> TensorDictBase:
        """Rows with the entries of :meth:`rows`, of any values, from steps ``[E]``."""
        return steps.unsqueeze(-1).expand(*steps.batch_size, self.burn_in + self.length)

    def restart(self, environments: Sequence[int] | None = None) -> None:
        """Forget the steps without a row. Where some environments were reset, their next step says so itself."""
        if environments is None:
            self._parts = []


RowMaker = NStepReturns | Sequences


def _joined(parts: Sequence[TensorDictBase]) -> TensorDictBase:
    return cast(TensorDictBase, torch.cat(list(parts), 1))  # pyright: ignore[reportArgumentType]
