"""Functions of tensors as flat graphs: traced once for every kind of input, then replayed or compiled.

Much of a small update is not arithmetic but Python: looking up entries, building distributions, recording gradients. A
trace keeps the tensor operations alone, those of the backward pass too.
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
"""What a function returns: tensors by any names."""


class GraphError(ValueError):
    """A function cannot become a graph, or is not the graph any more that it was."""


class CompileError(GraphError):
    """A graph cannot be compiled; it can be replayed."""


class TracedFunction:
    """A function of a TensorDict that runs as a graph of tensor operations.

    The first call with a new kind of input (names, shapes, strides, dtypes, devices) traces the function; calls after
    it run the operations alone. Parameters and buffers that the function reads are read anew in every call, random
    numbers are drawn anew; everything else that is not a tensor (flags, keys, numbers) is what it was at the trace.

    Python may look at the values of tensors, as distributions do that check their bounds, as long as what it sees is
    always the same.

    Args:
        function: of a TensorDict; returns tensors by name, and leaves its input as it is. What it computes must not
            depend through Python on values that change (``if tensor.any()``), nor shapes on any (counts).
        compile: compile the graphs with PyTorch's Inductor, which takes seconds to a minute once (less where its cache
            on disk has them), and is faster from then on.
        around_compiling: a context in which graphs are compiled.
        while_tracing: a context in which the function is traced, such as one that turns off checks of values. Before,
            the function runs outside of it once, and raises what is wrong with its first input of that kind.
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
        """How many kinds of input there were."""
        return len(self._graphs)

    def __call__(self, tensordict: TensorDictBase) -> Results:
        """What the function returns, without gradient.

        Raises:
            GraphError: if the function cannot be traced, or if Python would see other values now; then random numbers
                may have been drawn.
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
        # Both compute, and draw the random numbers that the first call then draws.
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
    """Lets Python look at the values of tensors while a function is traced, and notes at which.

    The graph holds as long as Python sees the same values: see :func:`_split_reads`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.places: list[str] = []

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Note that Python looks at these."""
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
    """Notes the tensors whose values leave PyTorch altogether, which no dispatch shows."""

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
    """Whether the shape of what an operation returns depends on values: a mask as an index, say."""
    if torch.Tag.dynamic_output_shape not in func.tags:
        return False
    if func.overloadpacket is torch.ops.aten.index:
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return True


class _Constant:
    """A tensor that must keep its values, as Python looked at them, or at what follows from them, during a trace."""

    def __init__(self, tensor: Tensor, place: str) -> None:
        self.tensor = tensor
        self.place = place
        self.value = tensor.clone()
        self.changes = changes(tensor)

    def check(self) -> None:
        """Raise :class:`GraphError` if the values are others."""
        if changes(self.tensor) != self.changes:
            if not torch.equal(self.tensor, self.value):
                raise _python_decides(self.place)
            self.changes = changes(self.tensor)


def _split_reads(graph: fx.Graph, reads: _ValueReads, results: int) -> tuple[list[_Constant], list[tuple[Tensor, str]]]:
    """What must be as it was during a trace, because Python looked at it.

    Args:
        graph: whose outputs after the first ``results`` are what Python looked at; those that follow from constants
            are removed.
        reads: what was looked at, and where.
        results: number of outputs that the function returned.

    Returns:
        The constants; and the values that the outputs that are left must have, with the place of the look.
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
    """The tensor that a source is, if it may be expected to stay as it is: no parameter."""
    tensor = getattr(graph.owning_module, str(source.target)) if source.op == "get_attr" else None
    return None if tensor is None or tensor.requires_grad or tensor.is_inference() else tensor


def _sources(node: fx.Node) -> Iterator[fx.Node]:
    """What a node depends on: inputs, held tensors, draws of random numbers."""
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
    said = str(error).strip().splitlines()
    return f"PyTorch must be able to {done}; got {type(error).__name__}: {said[0] if said else 'no message'}"


_OF_PYTORCH = [Path(str(package.__file__)).parent for package in (torch, tensordict)]


def _place() -> str:
    """The line that runs, of the innermost code that is not PyTorch's own."""
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
        # fallback_random: the random numbers that the same seed gives without compiling
        with torch.no_grad():
            return compile_operations(module, examples, {"fallback_random": True})
    except Exception as error:
        raise CompileError(_reason("compile a graph", error)) from error


def _drop_dead_code(graph: fx.Graph) -> None:
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
