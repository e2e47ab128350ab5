"""Running normalization of observations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Moments = tuple[int, Tensor, Tensor]


class RunningNormalizer(nn.Module):
    """``(x - mean) / std`` with the mean and standard deviation of all merged values, clipped to ±10.

    Moments are merged batch by batch (Chan et al. 1979, updating formulae for the variance).

    Args:
        features: F, size of the last dimension.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(features, dtype=torch.float64))

    @torch.no_grad()
    def moments(self, values: Tensor, mask: Tensor | None = None) -> Moments:
        """Count, mean and sum of squared deviations of ``values`` ``[..., F]`` where ``mask`` ``[..., 1]`` is True."""
        values = values.flatten(0, -2) if mask is None else values[mask.squeeze(-1)]
        if values.shape[0] == 0:
            return 0, torch.zeros_like(self.mean), torch.zeros_like(self.m2)
        values = values.double()
        mean = values.mean(0)
        return values.shape[0], mean, (values - mean).square().sum(0)

    @torch.no_grad()
    def merge(self, number: int, mean: Tensor, m2: Tensor) -> None:
        """Add values by their :meth:`moments`."""
        if number == 0:
            return
        count = self.count + number
        delta = mean.to(self.mean.device) - self.mean
        self.m2 += m2.to(self.m2.device) + delta.square() * self.count * number / count
        self.mean += delta * number / count
        self.count.copy_(count)

    @property
    def std(self) -> Tensor:
        """Standard deviation, ``[F]``; 0 before the first values."""
        return (self.m2 / self.count.clamp_min(1)).sqrt()

    def forward(self, values: Tensor) -> Tensor:
        """Normalize ``[..., F]``; unchanged before the first values."""
        std = self.std.clamp_min(1e-4)
        std = torch.where(self.count > 0, std, torch.ones_like(std))
        return ((values - self.mean.to(values.dtype)) / std.to(values.dtype)).clamp(-10, 10)
