"""One update from the rows of several processes.

A mean over all rows is the sum of the processes' means, each weighted by its denominator (see
``GroupLossModule.denominators``), divided by the sum of the denominators; so are the gradients of means. So each
process multiplies its results by their denominators and packs them into one flat tensor. One all-reduce then gives all
processes the same result: a mean over the living agents of all rows, not a mean of means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The gradients of an update before clipping, and what is logged.

    Args:
        logged: scalars to log, by name: ``group/loss_qvalue`` and so on.
        total: the sum of all terms, a scalar.
        gradients: by parameter.
    """

    logged: dict[str, Tensor]
    total: Tensor
    gradients: dict[Tensor, Tensor]


class GradientSum:
    """Packs the gradients of a process into a flat tensor, and unpacks the sum of those of all processes.

    Args:
        processes: their number.
        term_of: for each parameter, the name of the loss term that trains it.
    """

    def __init__(self, processes: int, term_of: Mapping[Tensor, str]) -> None:
        self.processes = processes
        self.term_of = term_of
        self._logged: list[str] = []
        self._denominators: list[str] = []
        self._trained: list[Tensor] = []

    def pack(self, found: Gradients, denominators: Mapping[str, Tensor]) -> Tensor:
        """One flat tensor of all gradients, logged values and denominators.

        Args:
            found: the gradients on this process's rows.
            denominators: of its means, by their names in ``found.logged``; no entry if all processes have the same.
        """
        self._logged, self._denominators, self._trained = list(found.logged), list(denominators), list(found.gradients)
        parts = [_times(gradient, denominators.get(self.term_of[p])) for p, gradient in found.gradients.items()]
        parts += [_times(value, denominators.get(name)) for name, value in found.logged.items()]
        parts += denominators.values()
        return torch.cat([part.reshape(-1) for part in parts])

    def unpack(self, total: Tensor) -> Gradients:
        """The gradients on the rows of all processes, from the sum of their tensors."""
        sizes = [parameter.numel() for parameter in self._trained]
        *gradients, rest = total.split([*sizes, total.numel() - sum(sizes)])
        logged, over = rest.split([len(self._logged), len(self._denominators)])
        # If no agent is alive in any row, the sums are 0, and so are the means.
        denominators = dict(zip(self._denominators, torch.where(over > 0, over, torch.ones_like(over)), strict=True))
        means = {
            name: value / denominators.get(name, self.processes)
            for name, value in zip(self._logged, logged, strict=True)
        }
        return Gradients(
            logged=means,
            total=torch.stack([mean for name, mean in means.items() if is_term(name)]).sum(),
            gradients={
                parameter: (gradient / denominators.get(self.term_of[parameter], self.processes))
                .reshape(parameter.shape)
                .to(parameter.dtype)
                for parameter, gradient in zip(self._trained, gradients, strict=True)
            },
        )


def is_term(name: str) -> bool:
    """Whether what is logged by that name is a term of the loss: ``group/loss_actor``."""
    return name.rpartition("/")[2].startswith("loss_")


def _times(value: Tensor, count: Tensor | None) -> Tensor:
    return value if count is None else value * count
