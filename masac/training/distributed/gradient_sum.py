"""One update from the rows that several processes hold, each its own.

A mean over all rows is that of the processes' means, each times its denominator (see
:mod:`masac.losses.denominators`); the gradients of means too. So every process multiplies its results by their
denominators, puts them into one flat tensor, and one all-reduce gives all processes the same: a mean over the living
agents of all rows, not a mean of means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an update is made of, before anything is clipped or applied.

    Args:
        said: scalars to log, by name: ``group/loss_qvalue`` and so on.
        total: the sum of all terms, a scalar.
        gradients: by parameter.
        faults: bool scalars, True for a check that failed.
    """

    said: dict[str, Tensor]
    total: Tensor
    gradients: dict[Tensor, Tensor]
    faults: Sequence[Tensor]


class Shares:
    """Packs what a process found into a flat tensor, and unpacks the sum of those of all processes.

    Args:
        processes: how many.
        term_of: the name of the term that a parameter is trained by, of every parameter.
    """

    def __init__(self, processes: int, term_of: Mapping[Tensor, str]) -> None:
        self.processes = processes
        self.term_of = term_of
        self._said: list[str] = []
        self._counted: list[str] = []
        self._trained: list[Tensor] = []

    def pack(self, found: Found, counts: Mapping[str, Tensor]) -> Tensor:
        """A flat tensor.

        Args:
            found: on this process's rows.
            counts: what its means are over, by their names in ``found.said``; no entry where that is the same in all
                processes.
        """
        self._said, self._counted, self._trained = list(found.said), list(counts), list(found.gradients)
        parts = [_times(gradient, counts.get(self.term_of[p])) for p, gradient in found.gradients.items()]
        parts += [_times(value, counts.get(name)) for name, value in found.said.items()]
        faulty = torch.stack([*found.faults]).any() if found.faults else parts[0].new_zeros(())
        parts += [*counts.values(), faulty.to(parts[0])]
        return torch.cat([part.reshape(-1) for part in parts])

    def unpack(self, total: Tensor) -> Found:
        """What was found on the rows of all processes, from the sum of their tensors."""
        sizes = [parameter.numel() for parameter in self._trained]
        *gradients, rest = total.split([*sizes, total.numel() - sum(sizes)])
        said, over, fault = rest.split([len(self._said), len(self._counted), 1])
        # Nobody lives in any row: the sums are 0, and so are the means.
        counts = dict(zip(self._counted, torch.where(over > 0, over, torch.ones_like(over)), strict=True))
        means = {name: value / counts.get(name, self.processes) for name, value in zip(self._said, said, strict=True)}
        return Found(
            said=means,
            total=torch.stack([mean for name, mean in means.items() if is_term(name)]).sum(),
            gradients={
                parameter: (gradient / counts.get(self.term_of[parameter], self.processes))
                .reshape(parameter.shape)
                .to(parameter.dtype)
                for parameter, gradient in zip(self._trained, gradients, strict=True)
            },
            faults=[fault.squeeze(0) > 0],
        )


def is_term(name: str) -> bool:
    """Whether what is said by that name is a term of the loss: ``group/loss_actor``."""
    return name.rpartition("/")[2].startswith("loss_")


def _times(value: Tensor, count: Tensor | None) -> Tensor:
    return value if count is None else value * count
