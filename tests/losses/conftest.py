"""Runs the tests of the losses on the path that training takes: ``pytest tests/losses --losses graph`` (or compile)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from masac import GroupDiscreteSACLoss, GroupSACLoss, MultiGroupLoss
from masac.losses.base import GroupLoss
from masac.training.traced_function import Results, TracedFunction
from masac.training.update import unchecked

Forward = Callable[..., Any]


class WithGradients(torch.autograd.Function):
    """A value whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        (output,) = outputs
        scaled = [None if gradient is None else output * gradient for gradient in ctx.gradients]
        return None, None, *scaled


@pytest.fixture(autouse=True)
def losses_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = request.config.getoption("--losses")
    if mode != "eager":
        for kind in (GroupSACLoss, GroupDiscreteSACLoss, MultiGroupLoss):
            monkeypatch.setattr(kind, "forward", as_graph(kind.forward, compile=mode == "compile"))


def as_graph(forward: Forward, *, compile: bool) -> Forward:
    """The forward pass of a loss whose values and gradients come from a graph."""
    graphs: WeakKeyDictionary[Any, TracedFunction] = WeakKeyDictionary()

    def on_graph(loss: Any, tensordict: TensorDictBase | None = None, **entries: Tensor) -> Any:
        if tensordict is None:
            return forward(loss, **entries)
        losses = [loss] if isinstance(loss, GroupLoss) else loss.group_losses
        if any(one.skip_mode == "drop" or one.reduction == "none" for one in losses) or not tensordict.batch_dims:
            return forward(loss, tensordict)
        parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        if loss not in graphs:
            graphs[loss] = TracedFunction(
                lambda batch: evaluate(forward, loss, parameters, batch),
                compile=compile,
                while_tracing=lambda: unchecked(losses),
            )
        results = graphs[loss](tensordict)
        tensordict.set(loss.tensor_keys.priority, results.pop("priority"))
        out = TensorDict({}, [])
        for name, value in results.items():
            if name[0] == "out":
                gradients = [results.get(("gradient", name[1], index)) for index in range(len(parameters))]
                out.set(name[1], WithGradients.apply(value, gradients, *parameters))
        return out

    return on_graph


def evaluate(forward: Forward, loss: Any, parameters: list[Tensor], batch: TensorDictBase) -> Results:
    """What the loss returns, the gradients of every term, and the priority."""
    batch = batch.copy()
    results: Results = {}
    out = forward(loss, batch)
    for key, value in out.items(True, True):
        results["out", key] = value
        if isinstance(value, Tensor) and value.requires_grad:
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            for index, gradient in enumerate(gradients):
                if gradient is not None:
                    results["gradient", key, index] = gradient
    return {**results, "priority": batch.get(loss.tensor_keys.priority)}
