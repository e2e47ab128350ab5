"""Functions of tensors as flat graphs: traced once for every kind of input, then replayed or compiled.

Much of a small update is not arithmetic but Python: looking up entries, building distributions, recording gradients. A
trace keeps the tensor operations alone, those of the backward pass too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, fx
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx

from masac.compat import compile_operations

Results = dict[Any, Tensor]
"""What a function returns: tensors by any names."""


class GraphError(ValueError):
    """A function cannot become a graph."""


class Graph:
    """A function of a TensorDict that runs as a graph of tensor operations.

    The first call with a new kind of input (names, shapes, strides, dtypes, devices) traces the function; calls after
    it run the operations alone. Parameters and buffers that the function reads are read anew in every call, random
    numbers are drawn anew; everything else that is not a tensor (flags, keys, numbers) is what it was at the trace.

    Args:
        function: of a TensorDict; returns tensors by name, and leaves its input as it is. What it computes must not
            depend on the values of tensors through Python (``if tensor.any()``, shapes made of counts).
        compile: compile the graphs with PyTorch's Inductor: ten seconds or twenty once (two where its cache on disk
            has them), and faster from then on.
    """

    def __init__(self, function: Callable[[TensorDictBase], Results], *, compile: bool) -> None:
        self.function = function
        self.compile = compile
        self._graphs: dict[Hashable, _Traced] = {}

    @property
    def traces(self) -> int:
        """How many kinds of input there were."""
        return len(self._graphs)

    def __call__(self, tensordict: TensorDictBase) -> Results:
        """What the function returns, without gradient.

        Raises:
            GraphError: if the function cannot be traced or compiled.
        """
        entries = {key: value for key, value in tensordict.items(True, True) if isinstance(value, Tensor)}
        signature = tuple(
            (key, value.shape, value.stride(), value.dtype, value.device) for key, value in entries.items()
        )
        traced = self._graphs.get(signature)
        if traced is None:
            traced = self._graphs[signature] = _Traced(self.function, tensordict, list(entries), compile=self.compile)
        return traced(list(entries.values()))


class _Traced:
    """One trace of a function.

    Args:
        function: see :class:`Graph`.
        example: an input.
        keys: its entries.
        compile: see :class:`Graph`.
    """

    def __init__(
        self,
        function: Callable[[TensorDictBase], Results],
        example: TensorDictBase,
        keys: Sequence[Any],
        *,
        compile: bool,
    ) -> None:
        self.names: list[Any] = []
        empty = example.empty(recurse=True)

        def flat(*tensors: Tensor) -> list[Tensor]:
            results = function(empty.copy().update(dict(zip(keys, tensors, strict=True))))
            self.names = list(results)
            return list(results.values())

        examples = [example.get(key) for key in keys]
        cuda = sorted({value.device.index or 0 for value in examples if value.device.type == "cuda"})
        with torch.random.fork_rng(devices=cuda), _unchecked_distributions():  # it computes, and draws random numbers
            try:
                module = make_fx(flat)(*examples)
            except RuntimeError as error:
                raise GraphError(
                    "what runs as a graph must not let Python decide by the values of tensors; got a function that "
                    f"raised {type(error).__name__}: {str(error).splitlines()[0]} Run it without a graph."
                ) from error
        _drop_idle(module.graph)
        self.held = _lift_held(module)
        self.run = _compiled(module, [*examples, *self.held]) if compile else module

    def __call__(self, tensors: Sequence[Tensor]) -> Results:
        with torch.no_grad():
            return dict(zip(self.names, self.run(*tensors, *self.held), strict=True))


def _kind(value: Tensor) -> Hashable:
    return value.shape, value.stride(), value.dtype, value.device


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Distributions do not look at the values of their parameters."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _compiled(module: fx.GraphModule, examples: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    _separate_biases(module)
    # fallback_random: the random numbers that the same seed gives without compiling
    with torch.no_grad():
        return compile_operations(module, examples, {"fallback_random": True})


def _drop_idle(graph: fx.Graph) -> None:
    """Remove what computes nothing: results that nobody uses, and detaching, as a graph records no gradients."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()


def _separate_biases(module: fx.GraphModule) -> None:
    """Add biases after matrix products, not in them: the compiler fuses the sum with the activation that follows."""
    products = {
        torch.ops.aten.addmm.default: torch.ops.aten.mm.default,
        torch.ops.aten.baddbmm.default: torch.ops.aten.bmm.default,
    }
    for node in list(module.graph.nodes):
        if node.target in products and not node.kwargs:  # without factors
            bias, left, right = node.args
            with module.graph.inserting_before(node):
                product = module.graph.call_function(products[node.target], (left, right))
                total = module.graph.call_function(torch.ops.aten.add.Tensor, (product, bias))
            node.replace_all_uses_with(total)
            module.graph.erase_node(node)
    module.recompile()


def _lift_held(module: fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that a traced function holds (parameters, buffers) into inputs; returns them in order."""
    held: dict[int, tuple[Tensor, fx.Node]] = {}
    last_input = [node for node in module.graph.nodes if node.op == "placeholder"][-1]
    for node in [node for node in module.graph.nodes if node.op == "get_attr"]:
        tensor = getattr(module, node.target)
        if id(tensor) not in held:
            with module.graph.inserting_after(last_input):
                last_input = module.graph.placeholder(f"held_{len(held)}")
            held[id(tensor)] = (tensor, last_input)
        node.replace_all_uses_with(held[id(tensor)][1])
        module.graph.erase_node(node)
    module.recompile()
    return [tensor for tensor, _ in held.values()]
