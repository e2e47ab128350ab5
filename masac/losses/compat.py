"""What differs between the supported versions of TorchRL (0.11 to 0.14), in one place."""

from __future__ import annotations

from typing import Any

from tensordict.nn import set_composite_lp_aggregate
from torch import Tensor
from torch.distributions import Distribution

try:
    from torchrl.modules.distributions.utils import rsample_and_log_prob as _rsample_and_log_prob
except ImportError:  # TorchRL < 0.14 scores the rounded action instead of the draw itself

    def _rsample_and_log_prob(distribution: Distribution) -> Any:
        action = distribution.rsample()
        return action, distribution.log_prob(action)


def rsample_and_log_prob(distribution: Distribution) -> tuple[Tensor, Tensor]:
    """Draw a reparametrized action and its log-probability, of a composite distribution the sum over its parts."""
    with set_composite_lp_aggregate(True):
        return _rsample_and_log_prob(distribution)
