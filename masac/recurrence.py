"""The cells of recurrent networks, tensors in, tensors out; the linear maps before them are the caller's."""

from __future__ import annotations

import torch
from torch import Tensor


def gru_cell(from_input: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """The state of a gated recurrent unit after a step.

    ``r = σ(x_r + h_r)``, ``z = σ(x_z + h_z)``, ``n = tanh(x_n + r h_n)``, ``h' = (1 - z) n + z h``: Cho et al. 2014
    (arXiv 1406.1078, equations 5 to 8), with the reset gate r after the product with the state, as in PyTorch.

    Args:
        from_input: ``W x + b``, ``[..., 3 H]``: ``x_r``, ``x_z``, ``x_n``.
        from_state: ``U h + c``, ``[..., 3 H]``: ``h_r``, ``h_z``, ``h_n``.
        state: ``h``, ``[..., H]``.

    Returns:
        ``h'``, ``[..., H]``.
    """
    size = state.shape[-1]
    input_gates, input_candidate = from_input.split([2 * size, size], -1)
    state_gates, state_candidate = from_state.split([2 * size, size], -1)
    reset, update = torch.sigmoid(input_gates + state_gates).chunk(2, -1)
    candidate = torch.tanh(torch.addcmul(input_candidate, reset, state_candidate))
    return torch.lerp(candidate, state, update)


def lstm_cell(from_input: Tensor, from_state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the cell of a long short-term memory after a step.

    ``i = σ(x_i + h_i)``, ``f = σ(x_f + h_f)``, ``g = tanh(x_g + h_g)``, ``o = σ(x_o + h_o)``, ``c' = f c + i g``,
    ``h' = o tanh(c')``: Hochreiter and Schmidhuber 1997, with the forget gate f of Gers et al. 2000.

    Args:
        from_input: ``W x + b``, ``[..., 4 H]``, of i, f, g and o.
        from_state: ``U h + d``, ``[..., 4 H]``, likewise.
        cell: ``c``, ``[..., H]``.

    Returns:
        ``h'`` and ``c'``, each ``[..., H]``.
    """
    size = cell.shape[-1]
    gates, candidate, out = (from_input + from_state).split([2 * size, size, size], -1)
    write, keep = torch.sigmoid(gates).chunk(2, -1)
    cell = torch.addcmul(keep * cell, write, torch.tanh(candidate))
    return torch.sigmoid(out) * torch.tanh(cell), cell
