"""The temperature of a loss: its parameter, and the bounds it is kept in."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def register_temperature(
    module: nn.Module,
    *,
    alpha_init: float,
    min_alpha: float | None,
    max_alpha: float | None,
    fixed: bool,
    n_agents: int | None,
) -> None:
    """Register ``log_alpha``, ``alpha_init``, ``min_log_alpha`` and ``max_log_alpha``, as TorchRL's losses have them.

    Args:
        module: a loss.
        alpha_init: initial temperature.
        min_alpha: lower bound; None or 0 for none.
        max_alpha: upper bound, or None.
        fixed: a buffer instead of a parameter.
        n_agents: one temperature for each of this many agents; one for the group if None.

    Raises:
        ValueError: unless ``0 < min_alpha <= max_alpha`` and ``0 < alpha_init``.
    """
    min_alpha = None if min_alpha == 0 else min_alpha  # as in TorchRL
    for name, value in (("alpha_init", alpha_init), ("min_alpha", min_alpha), ("max_alpha", max_alpha)):
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be greater than 0; got {value}.")
    if min_alpha is not None and max_alpha is not None and min_alpha > max_alpha:
        raise ValueError(f"min_alpha must be at most max_alpha; got {min_alpha} and {max_alpha}.")
    if min_alpha is not None and max_alpha is None:
        max_alpha = 1e9  # TorchRL's, so that states load into each other
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    module.register_buffer("alpha_init", torch.tensor(alpha_init, device=device))
    for name, bound in (("min_log_alpha", min_alpha), ("max_log_alpha", max_alpha)):
        if bound is None:
            setattr(module, name, None)
        else:
            module.register_buffer(name, torch.tensor(bound, device=device).log())
    log_alpha = torch.full(() if n_agents is None else (n_agents,), math.log(alpha_init), device=device)
    if fixed:
        module.register_buffer("log_alpha", log_alpha)
    else:
        module.register_parameter("log_alpha", nn.Parameter(log_alpha))


def clamped_alpha(log_alpha: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """The temperature, of the shape of ``log_alpha``, without gradient; clamps ``log_alpha`` itself to its bounds."""
    if low is not None or high is not None:
        log_alpha.data.clamp_(low, high)
    return log_alpha.detach().exp()
