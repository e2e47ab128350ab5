"""What differs between the supported versions of TorchRL and TensorDict (0.11 to 0.14), in one place."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from tensordict import TensorDictBase
from tensordict.nn import set_composite_lp_aggregate
from torch import Tensor, nn
from torch.distributions import Distribution

try:
    from torchrl.modules.distributions.utils import rsample_and_log_prob as _rsample_and_log_prob
except ImportError:  # TorchRL < 0.14 scores the rounded action instead of the draw itself

    def _rsample_and_log_prob(distribution: Distribution) -> Any:
        action = distribution.rsample()
        return action, distribution.log_prob(action)


# Newer versions keep a module's parameters registered unless told to replace them, which older ones always do.
_REPLACE = (
    {"preserve_module_state": False}
    if "preserve_module_state" in inspect.signature(TensorDictBase.to_module).parameters
    else {}
)


def parameters_in(module: nn.Module, params: TensorDictBase) -> AbstractContextManager[Any]:
    """Within this context the module computes with other parameters, those in ``params``."""
    return params.to_module(module, **_REPLACE)  # pyright: ignore[reportReturnType]


def rsample_and_log_prob(distribution: Distribution) -> tuple[Tensor, Tensor]:
    """Draw a reparametrized action and its log-probability, of a composite distribution the sum over its parts."""
    with set_composite_lp_aggregate(True):
        return _rsample_and_log_prob(distribution)


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's ``state_dict``, to which TensorDict < 0.12 adds batch sizes and devices."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def load_state_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what :func:`state_tensors` returned, of any version.

    Raises:
        RuntimeError: if it is of another module.
    """
    others = {name: value for name, value in module.state_dict().items() if not isinstance(value, Tensor)}
    module.load_state_dict({**tensors, **others})
