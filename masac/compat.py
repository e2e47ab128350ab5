"""What differs between the supported versions of PyTorch, TorchRL and TensorDict, and the private names we use of them.

Each private name stands here with the reason, and with what would replace it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import set_composite_lp_aggregate
from torch import Tensor, fx, nn
from torch.distributions import Distribution

# Modes see every operation; PyTorch documents them, but under a private name. A public one would replace it.
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

# torch.utils.pytree has a public tree_leaves in the newest PyTorch only.
from torch.utils._pytree import tree_leaves as tree_leaves

try:
    from torchrl.modules.distributions.utils import rsample_and_log_prob as _rsample_and_log_prob
except ImportError:  # TorchRL < 0.14 scores the rounded action instead of the draw itself

    def _rsample_and_log_prob(distribution: Distribution) -> Any:
        action = distribution.rsample()
        return action, distribution.log_prob(action)


try:
    from torchrl.objectives.utils import get_value_estimator_entry as _get_value_estimator_entry
except ImportError:  # TorchRL < 0.13 has no registry of value estimators
    _get_value_estimator_entry = None


# Older versions always replace a module's parameters; newer ones keep them registered by default.
_REPLACE = (
    {"preserve_module_state": False}
    if "preserve_module_state" in inspect.signature(TensorDictBase.to_module).parameters
    else {}
)


def parameters_in(module: nn.Module, params: TensorDictBase) -> AbstractContextManager[Any]:
    """Within this context the module computes with other parameters, those in ``params``."""
    return params.to_module(module, **_REPLACE)  # pyright: ignore[reportReturnType]


def stacked_parameters(module: nn.Module) -> TensorDictParams:
    """The parameters and buffers of a list of one module, ``[1, ...]``; those that TorchRL makes are not trained."""

    def stacked(value: Tensor) -> Tensor:
        one = value.detach().unsqueeze(0).clone()
        return nn.Parameter(one, value.requires_grad) if isinstance(value, nn.Parameter) else one

    params: Any = TensorDict.from_module(module)
    return TensorDictParams(params.apply(stacked, batch_size=[1]), no_convert=True)


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


def compile_operations(
    module: fx.GraphModule, examples: Sequence[Tensor], options: dict[str, Any]
) -> Callable[..., list[Tensor]]:
    """Compile a flat graph of tensor operations for inputs like ``examples``, without guards on later inputs.

    ``standalone_compile`` is private; ``torch.compile``, which replaces it on PyTorch < 2.8, checks the kind of the
    inputs at every call, which takes time.

    Args:
        module: what to compile; it may be changed.
        examples: inputs.
        options: of Inductor.
    """
    try:
        from torch._inductor import standalone_compile
    except ImportError:
        compiled: Any = torch.compile(module, fullgraph=True, dynamic=False, options=options)
        compiled(*examples)  # it compiles now, at its first call
        return compiled
    return standalone_compile(
        module, list(examples), dynamic_shapes="from_example_inputs", options={"config_patches": options}
    )


def record_operations(function: Callable[..., list[Tensor]], examples: Sequence[Tensor]) -> fx.GraphModule:
    """The operations of a function of tensors as a flat graph, those of its backward passes too.

    ``make_fx`` is experimental; ``torch.export`` would replace it once it records ``torch.autograd.grad``. While it
    runs, distributions do not look at the values of their parameters; the switch for that has no public reader.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # imported when needed: slow

    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        return make_fx(function)(*examples)
    finally:
        Distribution.set_default_validate_args(before)


def not_recording() -> AbstractContextManager[Any]:
    """Within it :func:`record_operations` records nothing: values are read. A public name of the same would do."""
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

    return disable_proxy_modes_tracing()


def changes(tensor: Tensor) -> int:
    """How often a tensor was changed in place; autograd counts it under a private name. Cheaper than to compare it."""
    return tensor._version


def parameter_places(module: nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    """Every parameter with the dictionary and the name under which its module holds it.

    ``named_parameters`` walks all modules every time, which takes too long for a check before every update.
    """
    return [
        (one._parameters, name, parameter)
        for one in module.modules()
        for name, parameter in one._parameters.items()
        if parameter is not None
    ]


def registered_value_estimator(name: Any) -> tuple[type, Mapping[str, Any]] | None:
    """The class and settings that a user registered in TorchRL as a value estimator; None if nothing is."""
    if _get_value_estimator_entry is None:
        return None
    try:
        entry = _get_value_estimator_entry(name)
    except (KeyError, TypeError, NotImplementedError):
        return None
    return entry.cls, entry.default_kwargs


def mute_ray() -> Callable[[], None]:
    """Keep Ray's driver from printing sixty lines of state when a node changes; returns a function that undoes it.

    ``log_to_driver=False`` does not prevent it, and Ray has no public switch; one would replace this. masac itself
    reports collectors that are lost.
    """
    worker = import_module("ray._private.worker")
    prints = getattr(worker, "print_to_stdstream", None)
    if prints is None:  # another version of Ray
        return lambda: None
    vars(worker)["print_to_stdstream"] = lambda *args, **kwargs: None
    return lambda: vars(worker).update(print_to_stdstream=prints)


def compiler_cache() -> Path:
    """The folder of the cache of Inductor, PyTorch's compiler, which has no public name."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # imported when needed: slow

    return Path(cache_dir())
