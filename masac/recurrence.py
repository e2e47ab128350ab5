"""Recurrent networks, tensors in, tensors out: their cells, and sequences of steps.

Shape legend: ``T`` steps, ``*S`` stack of the weights (``[]`` or ``[N]``), ``M`` rows, ``H`` size, ``D`` numbers of a
state, ``G`` numbers that the gates are computed from.

A sequence is one operator with its own backward pass, not T times the operations of a step: autograd, tracing and
compiling see one operation, and the gradient of the weights is one product over all steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# -- gated recurrent units: Cho et al. 2014 (arXiv 1406.1078, equations 5 to 8) in PyTorch's form ----------------------


def gru_cell(from_input: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """The state of a gated recurrent unit after a step.

    ``r = σ(x_r + h_r)``, ``z = σ(x_z + h_z)``, ``n = tanh(x_n + r h_n)``, ``h' = (1 - z) n + z h``; the reset gate r
    comes after the product with the state.

    Args:
        from_input: ``W x + b``, ``[..., 3 H]``: ``x_r``, ``x_z``, ``x_n``.
        from_state: ``U h + c``, ``[..., 3 H]``: ``h_r``, ``h_z``, ``h_n``.
        state: ``h``, ``[..., H]``.

    Returns:
        ``h'``, ``[..., H]``.
    """
    return _gru(from_input, from_state, state)[0]


def _gru(from_input: Tensor, from_state: Tensor, state: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The state after a step, and what its derivative needs."""
    size = state.shape[-1]
    input_gates, input_candidate = from_input.split([2 * size, size], -1)
    state_gates, state_candidate = from_state.split([2 * size, size], -1)
    reset, update = torch.sigmoid(input_gates + state_gates).chunk(2, -1)
    candidate = torch.tanh(torch.addcmul(input_candidate, reset, state_candidate))
    return torch.lerp(candidate, state, update), [reset, update, candidate, state_candidate]


def _gru_derivative(grad: Tensor, saved: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives by ``from_input``, ``from_state`` and ``state``, from that by the state after the step."""
    reset, update, candidate, state_candidate = saved.chunk(4, -1)
    of_update = grad * (state - candidate) * update * (1 - update)
    of_candidate = grad * (1 - update) * (1 - candidate * candidate)
    of_reset = of_candidate * state_candidate * reset * (1 - reset)
    of_state = torch.cat([of_reset, of_update, of_candidate * reset], -1)
    return torch.cat([of_reset, of_update, of_candidate], -1), of_state, grad * update


# -- long short-term memories: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000 ---------------


def lstm_cell(from_input: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """The state of a long short-term memory after a step, its output h and then its cell c.

    ``i = σ(x_i + h_i)``, ``f = σ(x_f + h_f)``, ``g = tanh(x_g + h_g)``, ``o = σ(x_o + h_o)``, ``c' = f c + i g``,
    ``h' = o tanh(c')``.

    Args:
        from_input: ``W x + b``, ``[..., 4 H]``, of i, f, g and o.
        from_state: ``U h + d``, ``[..., 4 H]``, likewise.
        state: ``h``, ``c``, ``[..., 2 H]``.

    Returns:
        ``h'``, ``c'``, ``[..., 2 H]``.
    """
    return _lstm(from_input, from_state, state)[0]


def _lstm(from_input: Tensor, from_state: Tensor, state: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The state after a step, and what its derivative needs."""
    size = state.shape[-1] // 2
    gates, candidate, out = (from_input + from_state).split([2 * size, size, size], -1)
    write, keep = torch.sigmoid(gates).chunk(2, -1)
    candidate, out = torch.tanh(candidate), torch.sigmoid(out)
    cell = torch.addcmul(keep * state[..., size:], write, candidate)
    bounded = torch.tanh(cell)
    return torch.cat([out * bounded, cell], -1), [write, keep, candidate, out, bounded]


def _lstm_derivative(grad: Tensor, saved: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives by ``from_input``, ``from_state`` and ``state``, from that by the state after the step."""
    write, keep, candidate, out, bounded = saved.chunk(5, -1)
    of_output, of_cell = grad.chunk(2, -1)
    of_cell = of_cell + of_output * out * (1 - bounded * bounded)
    of_write = of_cell * candidate * write * (1 - write)
    of_keep = of_cell * state.chunk(2, -1)[1] * keep * (1 - keep)
    of_candidate = of_cell * write * (1 - candidate * candidate)
    of_gates = torch.cat([of_write, of_keep, of_candidate, of_output * bounded * out * (1 - out)], -1)
    return of_gates, of_gates, torch.cat([torch.zeros_like(of_output), of_cell * keep], -1)


# -- sequences ---------------------------------------------------------------------------------------------------------

CELLS = {"gru": (_gru, _gru_derivative), "lstm": (_lstm, _lstm_derivative)}


def unroll(kind: str, inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, clear: Tensor) -> Tensor:
    """The states after every step of a sequence.

    Args:
        kind: ``"gru"`` or ``"lstm"``.
        inputs: ``W x + b`` of every step, ``[T, *S, M, G]``.
        weight: U, ``[*S, H, G]``.
        bias: ``[*S, 1, G]``.
        state: before the first step, ``[*S, M, D]``.
        clear: where a step begins with a state of zeros, bool ``[T, *S, M, 1]``.

    Returns:
        ``[T, *S, M, D]``.
    """
    return _unroll(inputs, weight, bias, state, clear, kind)[0]


@torch.library.custom_op("masac::unroll", mutates_args=())
def _unroll(
    inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, clear: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    """The states, and what their derivatives need."""
    size, (cell, _) = weight.shape[-2], CELLS[kind]
    zero, states, saved = torch.zeros_like(state), [], []
    for from_input, cleared in zip(inputs, clear, strict=True):
        state = torch.where(cleared, zero, state)
        state, needed = cell(from_input, _linear(state[..., :size], weight, bias), state)
        states.append(state)
        saved.append(torch.cat(needed, -1))
    return torch.stack(states), torch.stack(saved)


@torch.library.custom_op("masac::unroll_backward", mutates_args=())
def _unroll_backward(
    grads: Tensor, states: Tensor, saved: Tensor, weight: Tensor, state: Tensor, clear: Tensor, kind: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The derivatives by inputs, weight, bias and the first state, from those by all states."""
    size, (_, derivative) = weight.shape[-2], CELLS[kind]
    before = torch.cat([state.unsqueeze(0), states[:-1]])
    before = torch.where(clear, torch.zeros_like(before), before)
    after, zero = torch.zeros_like(state), torch.zeros_like(state)
    back, of_inputs, of_states = weight.transpose(-1, -2), [], []
    for grad, one, was, cleared in reversed(list(zip(grads, saved, before, clear, strict=True))):
        of_input, of_state, of_before = derivative(grad + after, one, was)
        of_before[..., :size] += of_state @ back
        after = torch.where(cleared, zero, of_before)
        of_inputs.append(of_input)
        of_states.append(of_state)
    of_state = torch.stack(of_states[::-1])
    rows = [x if x.ndim == 3 else x.transpose(0, 1) for x in (before[..., :size], of_state)]
    seen, of_rows = (x.flatten(-3, -2) for x in rows)
    return torch.stack(of_inputs[::-1]), seen.transpose(-1, -2) @ of_rows, of_rows.sum(-2, keepdim=True), after


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, x, weight) if weight.ndim == 2 else torch.baddbmm(bias, x, weight)


@_unroll.register_fake
def _(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, clear: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    numbers = {"gru": 4, "lstm": 5}[kind] * weight.shape[-2]
    return state.new_empty(inputs.shape[0], *state.shape), inputs.new_empty(*inputs.shape[:-1], numbers)


@_unroll_backward.register_fake
def _(
    grads: Tensor, states: Tensor, saved: Tensor, weight: Tensor, state: Tensor, clear: Tensor, kind: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gates = weight.shape[-1]
    of_bias = weight.new_empty(*weight.shape[:-2], 1, gates)
    return grads.new_empty(*grads.shape[:-1], gates), torch.empty_like(weight), of_bias, torch.empty_like(state)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, weight, _, state, clear, ctx.kind = inputs
    ctx.save_for_backward(*output, weight, state, clear)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grads: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return *_unroll_backward(grads.contiguous(), *ctx.saved_tensors, ctx.kind), None, None


_unroll.register_autograd(_gradients, setup_context=_save)
