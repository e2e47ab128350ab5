"""Functions of tensors as flat graphs: traced once for every kind of input, then replayed or compiled.

Much of the time of a small update goes into Python: looking up entries, building distributions, recording gradients. A
trace keeps only the tensor operations, including those of the backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import tensordict
import torch
from tensordict import TensorDictBase
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from masac.compat import (
    TorchDispatchMode,
    changes,
    compile_operations,
    compiler_cache,
    not_recording,
    record_operations,
    tree_leaves,
)
from masac.process.compiler_cache import remove_damaged_libraries

Results = dict[Any, Tensor]
"""The output of a function: tensors by any names."""


class GraphError(ValueError):
    """A function cannot become a graph, or its graph is no longer valid."""


class CompileError(GraphError):
    """A graph cannot be compiled; it can still be replayed."""


class TracedFunction:
    """A function of a TensorDict that runs as a graph of tensor operations.

    The first call with a new kind of input (names, shapes, strides, dtypes, devices) runs the function once in Python,
    so that it raises its own errors, and then traces it; later calls run the recorded operations only. Every call reads
    the current parameters and buffers, and draws new random numbers; everything else that is not a tensor (flags, keys,
    numbers) is frozen at the trace.

    Python may read the values of tensors, as distributions do that check their bounds, if the result never changes.

    Args:
        function: from a TensorDict, which it leaves unchanged, to tensors by name. Its results must not depend through
            Python on values that change (``if tensor.any()``), and no shape may depend on values.
        compile: compile the graphs with PyTorch's Inductor, which takes seconds to a minute once (less if its cache on
            disk has them), and is faster afterwards.
        around_compiling: a context for compiling.
        while_tracing: a context for tracing, such as one that turns off checks of values.
    """

    def __init__(
        self,
        function: Callable[[TensorDictBase], Results],
        *,
        compile: bool,
        around_compiling: Callable[[], AbstractContextManager[Any]] = nullcontext,
        while_tracing: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.function = function
        self.compile = compile
        self.around_compiling = around_compiling
        self.while_tracing = while_tracing
        self._graphs: dict[Hashable, _Traced] = {}

    @property
    def traces(self) -> int:
        """The number of kinds of input so far."""
        return len(self._graphs)

    def __call__(self, tensordict: TensorDictBase) -> Results:
        """The results of the function, without gradient.

        Raises:
            GraphError: if the function cannot be traced, or if values that Python read have changed; in that case
                random numbers may have been drawn.
            CompileError: if its graph cannot be compiled.
        """
        entries = {key: value for key, value in tensordict.items(True, True) if isinstance(value, Tensor)}
        signature = tuple(
            (key, value.shape, value.stride(), value.dtype, value.device) for key, value in entries.items()
        )
        traced = self._graphs.get(signature)
        if traced is None:
            traced = self._graphs[signature] = _Traced(
                self.function,
                tensordict,
                list(entries),
                compile=self.compile,
                around_compiling=self.around_compiling,
                while_tracing=self.while_tracing,
            )
        return traced(list(entries.values()))


class _Traced:
    """One trace of a function.

    Args:
        function: see :class:`TracedFunction`.
        example: an input.
        keys: its entries.
        compile: see :class:`TracedFunction`.
        around_compiling: see :class:`TracedFunction`.
        while_tracing: see :class:`TracedFunction`.
    """

    def __init__(
        self,
        function: Callable[[TensorDictBase], Results],
        example: TensorDictBase,
        keys: Sequence[Any],
        *,
        compile: bool,
        around_compiling: Callable[[], AbstractContextManager[Any]],
        while_tracing: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.names: list[Any] = []
        empty = example.empty(recurse=True)
        reads = _ValueReads()

        def flat(*tensors: Tensor) -> list[Tensor]:
            with reads, _WholeValueReads(reads):
                results = function(empty.copy().update(dict(zip(keys, tensors, strict=True))))
            self.names = list(results)
            return [*results.values(), *reads.seen]

        examples = [example.get(key) for key in keys]
        cuda = sorted({value.device.index or 0 for value in examples if value.device.type == "cuda"})
        self.run: Callable[..., list[Tensor]]
        # Both draw random numbers, which the first call is to draw again.
        with torch.random.fork_rng(devices=cuda):
            function(example)  # raises its own errors, with its checks of values
        with torch.random.fork_rng(devices=cuda):
            with while_tracing():
                self.run = module = _traced(flat, examples)
            self.constants, self.guards = _split_reads(module.graph, reads, len(self.names))
            _drop_dead_code(module.graph)
            self.held = _lift_held(module)
            if compile:
                with around_compiling():
                    self.run = _compiled(module, [*examples, *self.held])

    def __call__(self, tensors: Sequence[Tensor]) -> Results:
        for constant in self.constants:
            constant.check()
        with torch.no_grad():
            results = self.run(*tensors, *self.held)
        for (expected, place), value in zip(self.guards, results[len(self.names) :], strict=True):
            if not torch.equal(value, expected):
                raise _python_decides(place)
        return dict(zip(self.names, results, strict=False))


def _traced(flat: Callable[..., list[Tensor]], examples: Sequence[Tensor]) -> fx.GraphModule:
    """The graph of a function of tensors."""
    try:
        return record_operations(flat, examples)
    except GraphError:
        raise
    except Exception as error:
        raise GraphError(_reason("trace what runs as a graph", error)) from error


class _ValueReads(TorchDispatchMode):
    """Lets Python read the values of tensors while a function is traced, and records which.

    The graph is valid as long as Python would read the same values: see :func:`_split_reads`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.places: list[str] = []

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Record that Python reads these."""
        place = _place()
        for tensor in tensors:
            self.seen.append(tensor)
            self.places.append(place)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if _has_size_by_values(func, args):
            raise GraphError(
                f"what runs as a graph must have shapes that do not depend on values; {func.overloadpacket.__name__} "
                f"makes one {_place()}"
            )
        if torch.Tag.data_dependent_output not in func.tags:
            return func(*args, **(kwargs or {}))
        self.note(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        with not_recording():
            return func(*args, **(kwargs or {}))


class _WholeValueReads(TorchFunctionMode):
    """Records the tensors whose values leave PyTorch without a dispatched operation."""

    def __init__(self, reads: _ValueReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _WHOLE_VALUES:
            self.reads.note(args[:1])
        return func(*args, **(kwargs or {}))


_WHOLE_VALUES = (Tensor.tolist, Tensor.numpy, Tensor.__array__)


def _has_size_by_values(func: Any, args: Sequence[Any]) -> bool:
    """Whether the shape of an operation's result depends on values, as for a mask as an index."""
    if torch.Tag.dynamic_output_shape not in func.tags:
        return False
    if func.overloadpacket is torch.ops.aten.index:
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return True


class _Constant:
    """A tensor that must keep its values, because Python read them, or results of them, during the trace."""

    def __init__(self, tensor: Tensor, place: str) -> None:
        self.tensor = tensor
        self.place = place
        self.value = tensor.clone()
        self.changes = changes(tensor)

    def check(self) -> None:
        """Raise :class:`GraphError` if the values changed."""
        if changes(self.tensor) != self.changes:
            if not torch.equal(self.tensor, self.value):
                raise _python_decides(self.place)
            self.changes = changes(self.tensor)


def _split_reads(graph: fx.Graph, reads: _ValueReads, results: int) -> tuple[list[_Constant], list[tuple[Tensor, str]]]:
    """The values that must not change after a trace, because Python read them.

    Args:
        graph: its outputs after the first ``results`` are values that Python read; those that depend on constants only
            are removed.
        reads: the tensors that were read, and where.
        results: number of outputs that the function returned.

    Returns:
        The constants, and the values that the remaining outputs must have, with the place of each read.
    """
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    every: list[Any] = list(output.args[0])  # pyright: ignore[reportArgumentType]
    kept, constants, guards = every[:results], {}, []
    for node, tensor, place in zip(every[results:], reads.seen, reads.places, strict=True):
        held = [_held_constant(graph, source) for source in _sources(node)]
        if any(one is None for one in held):
            kept.append(node)
            guards.append((tensor.detach().clone(), place))
        constants.update({id(one): _Constant(one, place) for one in held if one is not None})
    output.args = (kept,)
    return list(constants.values()), guards


def _held_constant(graph: fx.Graph, source: fx.Node) -> Tensor | None:
    """The tensor of a source that is expected to stay constant: not a parameter."""
    tensor = getattr(graph.owning_module, str(source.target)) if source.op == "get_attr" else None
    return None if tensor is None or tensor.requires_grad or tensor.is_inference() else tensor


def _sources(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes that a node depends on: inputs, held tensors, draws of random numbers."""
    waiting, known = [node], {node}
    while waiting:
        one = waiting.pop()
        random = torch.Tag.nondeterministic_seeded in getattr(one.target, "tags", ())
        if random or one.op in ("placeholder", "get_attr"):
            yield one
        new = [before for before in one.all_input_nodes if before not in known]
        known.update(new)
        waiting += new


def _python_decides(place: str) -> GraphError:
    return GraphError(f"what runs as a graph must not let Python decide by the values of tensors; it does so {place}")


def _reason(done: str, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"PyTorch must be able to {done}; got {type(error).__name__}: {lines[0] if lines else 'no message'}"


_OF_PYTORCH = [Path(str(package.__file__)).parent for package in (torch, tensordict)]


def _place() -> str:
    """The running line of the innermost code outside of PyTorch."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file != Path(__file__) and not any(file.is_relative_to(folder) for folder in _OF_PYTORCH):
            break
        frame = frame.f_back
    return "in Python" if frame is None else f"in {frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _compiled(module: fx.GraphModule, examples: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    _separate_biases(module)
    try:
        remove_damaged_libraries(compiler_cache())
        # fallback_random: the same random numbers for a seed as without compiling
        with torch.no_grad():
            return compile_operations(module, examples, {"fallback_random": True})
    except Exception as error:
        raise CompileError(_reason("compile a graph", error)) from error


def _drop_dead_code(graph: fx.Graph) -> None:
    """Remove unused results, and detach operations, since a graph records no gradients."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()


def _separate_biases(module: fx.GraphModule) -> None:
    """Add biases after matrix products, not in them: the compiler fuses the sum with the next activation."""
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
