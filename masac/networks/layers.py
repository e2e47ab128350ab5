"""Layers with weights that may be stacked (over agents, over critics): one ``baddbmm`` per layer.

Shape legend: ``*S`` the stack of the weights (``[]``, ``[N]``, ``[K]``, ``[K, N]``), ``M`` rows, ``F`` features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masac.networks.config import ModelConfig

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
        return stacked_linear(x, self.weight, self.bias)


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[*S, M, in]`` (repeated along missing dimensions of the stack) to ``[*S, M, out]``.

    Args:
        x: the input.
        weight: ``[*S, in, out]``.
        bias: ``[*S, 1, out]``.
    """
    stack = weight.shape[:-2]
    if not stack:
        return torch.addmm(bias, x, weight)
    if weight.shape[-1] == 1:  # a sum: batched products of one column are several times slower on CPUs
        return (x * weight.transpose(-1, -2)).sum(-1, keepdim=True) + bias
    x = x.expand(*stack, *x.shape[-2:])
    out = torch.baddbmm(bias.flatten(0, -3), x.flatten(0, -3), weight.flatten(0, -3))
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
        return self._rest(0, x)

    def _rest(self, first: int, x: Tensor) -> Tensor:
        """The output, given the input of a layer."""
        for index, linear in enumerate(self.hidden):
            if index >= first:
                x = self._activate(index, linear(x))
        return x if self.output is None else self.output(x)

    def _activate(self, index: int, x: Tensor) -> Tensor:
        """What follows the linear map of a hidden layer."""
        return ACTIVATIONS[self.activation](x if self.norms is None else self.norms[index](x))


class ChoiceMLP(StackedMLP):
    """A value for every choice: an MLP with a choice (one-hot) among its inputs, which runs once per choice.

    The product of the other inputs and the first layer is that of all choices, and computed once.

    Args:
        in_features: the other input features F.
        choices: D.
        hidden: features of the hidden layers; at least one, or the choice would only shift the value.
        **kinds: see :class:`StackedMLP`.
    """

    def __init__(self, in_features: int, choices: int, *, hidden: Sequence[int], **kinds: Any) -> None:
        super().__init__(in_features + choices, 1, hidden=hidden, **kinds)
        self.choices = choices

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """``[*S, M, F]`` to ``[*S, M, D]``; or, of the choices ``[*S, M, D]`` (one-hot) alone, to ``[*S, M, 1]``."""
        weight, of_choices = self.first.weight.split([x.shape[-1], self.choices], dim=-2)
        common = stacked_linear(x, weight, self.first.bias)
        if chosen is not None:
            return self._rest(1, self._activate(0, common + chosen @ of_choices))
        every = common.unsqueeze(-2) + of_choices.unsqueeze(-3)  # [*S, M, D, H]
        values = self._rest(1, self._activate(0, every.flatten(-3, -2)))
        return values.unflatten(-2, (-1, self.choices)).squeeze(-1)


def value_mlp(in_features: int, n_actions: int | None, model: ModelConfig, stack: Sequence[int]) -> StackedMLP:
    """The last part of a critic: one value, or one for each of an agent's discrete actions.

    Args:
        in_features: without the agent's own discrete action.
        n_actions: D; None for one value.
        model: sizes and kinds of layers, and how discrete actions are valued.
        stack: ``*S``, the stack of the weights.
    """
    kinds: dict[str, Any] = {"activation": model.activation, "layer_norm": model.layer_norm, "stack": stack}
    if n_actions is not None and model.choices_are_inputs(n_actions):
        return ChoiceMLP(in_features, n_actions, hidden=model.hidden, **kinds)
    return StackedMLP(in_features, 1 if n_actions is None else n_actions, hidden=model.hidden, **kinds)


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
