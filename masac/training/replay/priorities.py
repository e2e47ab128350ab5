"""Prioritized replay: rows that the critics get most wrong are drawn more often."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

BYTES_PER_ROW = 16
"""What the priority of a row takes, with the memory to draw it."""

SMALLEST = 1e-6
"""Added to every error, so that a row without one is drawn again (ε of Schaul et al., section 3.3)."""


class Priorities:
    """The priorities of the rows of a replay buffer, from which batches are drawn.

    Row i is drawn with probability ``P(i) = p_i^α / Σ_k p_k^α`` and has the importance weight ``(N P(i))^-β`` in the
    losses, N being the number of rows, which divide by the sum of the weights of a batch. β rises linearly to 1 until
    the end of the run. ``p_i`` is the row's error in the last draw that had it. A row that no update has had yet has
    the largest ``p^α`` of those that one had, whatever the unit of rewards.

    Schaul et al. 2016, arXiv 1511.05952, section 3.3 (proportional) and 3.4, equation 1 and algorithm 1.

    Args:
        size: rows that the buffer holds.
        exponent: α, above 0 and at most 1.
        importance_exponent: β at the beginning of the run.
        device: of the priorities.
    """

    def __init__(self, size: int, *, exponent: float, importance_exponent: float, device: str | torch.device) -> None:
        self.size, self.device = size, device
        self.exponent = exponent
        self.importance_exponent = self._first_importance_exponent = importance_exponent
        self._pending: list[tuple[Tensor, Tensor]] = []  # of many updates together they take less time

    @cached_property  # as the rows, they take memory when the first row comes, after the check that it is there
    def _powers(self) -> Tensor:
        """p^α by place in the buffer; 0: no update had the row yet. In float32 their sums would blur single rows."""
        return torch.zeros(self.size, dtype=torch.float64, device=self.device)

    @cached_property
    def _sums(self) -> Tensor:
        """Memory of a draw; new memory for each would take longer than the sums."""
        return torch.zeros_like(self._powers)

    def set_progress(self, done: float) -> None:
        """Set β for the completed fraction of the run, in [0, 1]."""
        first = self._first_importance_exponent
        self.importance_exponent = first + (1 - first) * min(done, 1.0)

    def add(self, places: Tensor) -> None:
        """New rows are at these places of the buffer."""
        self._set_pending()
        self._powers[places.to(self._powers.device)] = 0

    def draw(self, rows: int, *, batches: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw batches, each with one row from every of ``batch_size`` equal parts of the sum of all priorities.

        The sums over all rows, and a binary search in them, take less time than a tree of sums for the thousands of
        rows that a run draws at once.

        Args:
            rows: in the buffer, in its first places.
            batches: how many.
            batch_size: rows per batch.

        Returns:
            Places in the buffer and importance weights, ``[batches * batch_size]``, one batch after the other.
        """
        self._set_pending()
        powers = self._powers[:rows]
        highest = powers.max()
        highest = torch.where(highest > 0, highest, torch.ones_like(highest))
        sums = torch.where(powers.bool(), powers, highest, out=self._sums[:rows]).cumsum_(0)
        within = torch.rand(batches, batch_size, dtype=sums.dtype, device=sums.device)
        points = (torch.arange(batch_size, device=sums.device) + within) / batch_size * sums[-1]
        places = torch.searchsorted(sums, points.flatten()).clamp_(max=rows - 1)
        drawn = powers[places]
        probability = torch.where(drawn > 0, drawn, highest) / sums[-1]
        return places, (rows * probability).pow(-self.importance_exponent).float()

    def update(self, places: Tensor, errors: Tensor) -> None:
        """Set the priorities of the rows of a batch, at the latest when they matter.

        Args:
            places: of the rows, ``[B]``; of a row that was drawn more than once in a call of :meth:`draw` the largest
                error counts.
            errors: ``td_error`` of the losses, ``[B]``. One that is not finite, of an update that was skipped, counts
                as none, so that its row does not come again at once.
        """
        self._pending.append((places, errors))

    def _set_pending(self) -> None:
        if not self._pending:
            return
        places, errors = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        self._pending.clear()
        errors = torch.where(errors.isfinite(), errors, torch.zeros_like(errors)).to(self._powers.dtype)
        self._powers[places] = 0
        self._powers.scatter_reduce_(0, places, (errors + SMALLEST).pow(self.exponent), "amax")

    def state(self, rows: int) -> Tensor:
        """What a checkpoint keeps: one number per row, by place in the buffer."""
        self._set_pending()
        return self._powers[:rows].cpu().clone()

    def set_state(self, state: Tensor, rows: int) -> None:
        """Restore :meth:`state`.

        Raises:
            ValueError: if it is that of another number of rows.
        """
        if state.shape != (rows,):
            raise ValueError(f"priorities must be {rows}, one per row; got shape {list(state.shape)}")
        self._pending.clear()
        self._powers[:rows] = state.to(self._powers)
