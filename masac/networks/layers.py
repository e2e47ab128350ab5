"""Layers with weights that may be stacked (over agents, over critics): one ``baddbmm`` per layer.

Shape legend: ``*S`` the stack of the weights (``[]``, ``[N]``, ``[K]``, ``[K, N]``), ``M`` rows, ``F`` features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}


class StackedLinear(nn.Module):
    """A linear map with weights ``[*S, in, out]``; further leading dimensions, such as K critics, are allowed.

    Weights and biases are initialized uniformly in ±1/sqrt(in), as in ``torch.nn.Linear``.
    """

    def __init__(self, in_features: int, out_features: int, stack: Sequence[int] = ()) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(*stack, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(*stack, 1, out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """``[*S, M, in]`` (repeated along missing dimensions of the stack) to ``[*S, M, out]``."""
        stack = self.weight.shape[:-2]
        if not stack:
            return torch.addmm(self.bias, x, self.weight)
        if self.weight.shape[-1] == 1:  # a sum: batched products of one column are several times slower on CPUs
            return (x * self.weight.transpose(-1, -2)).sum(-1, keepdim=True) + self.bias
        x = x.expand(*stack, *x.shape[-2:])
        out = torch.baddbmm(self.bias.flatten(0, -3), x.flatten(0, -3), self.weight.flatten(0, -3))
        return out.view(*stack, *out.shape[-2:])


class StackedLayerNorm(nn.Module):
    """Layer norm (Ba et al. 2016, arXiv 1607.06450) with a gain and a bias ``[*S, 1, F]``."""

    def __init__(self, features: int, stack: Sequence[int] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*stack, 1, features))
        self.bias = nn.Parameter(torch.zeros(*stack, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        """``[*S, M, F]`` to ``[*S, M, F]``."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class StackedMLP(nn.Module):
    """Linear layers with (optionally) a layer norm and an activation between them.

    Args:
        in_features: input features F.
        out_features: output features; None to end with the activation of the last hidden layer.
        hidden: features of the hidden layers.
        activation: a name in ``ACTIVATIONS``.
        layer_norm: a layer norm before every activation.
        stack: ``*S``, the stack of the weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None,
        *,
        hidden: Sequence[int],
        activation: str,
        layer_norm: bool,
        stack: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}; got {activation!r}.")
        sizes = [in_features, *hidden]
        self.activation = activation
        self.hidden = nn.ModuleList(StackedLinear(a, b, stack) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(StackedLayerNorm(size, stack) for size in hidden) if layer_norm else None
        self.output = None if out_features is None else StackedLinear(sizes[-1], out_features, stack)
        self.out_features = sizes[-1] if out_features is None else out_features

    @property
    def first(self) -> StackedLinear:
        """The layer that sees the input."""
        layer = self.hidden[0] if len(self.hidden) else self.output
        assert isinstance(layer, StackedLinear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """``[*S, M, in]`` to ``[*S, M, out]``."""
        activate = ACTIVATIONS[self.activation]
        for index, linear in enumerate(self.hidden):
            x = linear(x)
            x = activate(x if self.norms is None else self.norms[index](x))
        return x if self.output is None else self.output(x)


def flat_rows(entries: Tensor, batch: Sequence[int], *, trailing: int) -> Tensor:
    """``[*B, ...]`` with the batch as one dimension; a leading K is kept.

    Args:
        entries: with ``trailing`` dimensions after the batch.
        batch: ``*B``.
        trailing: see above.
    """
    end = entries.ndim - trailing
    start = end - len(batch)
    return entries.flatten(start, end - 1) if len(batch) else entries.unsqueeze(start)


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate features along the last dimension, after broadcasting the others."""
    leads = [part.shape[:-1] for part in parts]
    if all(lead == leads[0] for lead in leads):
        return torch.cat(parts, dim=-1)  # pyright: ignore[reportArgumentType]
    lead = torch.broadcast_shapes(*leads)
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)
