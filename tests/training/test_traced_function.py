"""Graphs of tensor operations: what they keep up with, and what they refuse."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.modules import TanhDelta, TanhNormal, TruncatedNormal

from masac.training import traced_function as tracing
from masac.training.traced_function import CompileError, GraphError, TracedFunction


def batch(rows=4):
    return TensorDict({"x": torch.randn(rows, 3), "deep": TensorDict({"y": torch.randn(rows)}, [rows])}, [rows])


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_graph_equals_its_function_with_gradients_and_noise(compile):
    linear = nn.Linear(3, 2)

    def function(data):
        loss = linear(data["x"] + torch.randn(4, 3)).square().mean() + data["deep", "y"].sum()
        (gradient,) = torch.autograd.grad(loss, linear.weight)
        return {"loss": loss, ("gradient", 0): gradient}

    graph = TracedFunction(function, compile=compile)
    for seed in range(2):  # the first call traces, the second replays
        data = batch()
        torch.manual_seed(seed)
        expected = function(data)
        torch.manual_seed(seed)
        results = graph(data)
        assert results.keys() == expected.keys()
        for name, value in results.items():
            torch.testing.assert_close(value, expected[name])
            assert not value.requires_grad


def test_parameters_are_read_anew_in_every_call():
    weight = nn.Parameter(torch.ones(3))
    graph = TracedFunction(lambda data: {"out": (data["x"] * weight).sum()}, compile=False)
    data = batch()
    assert graph(data)["out"] == data["x"].sum()
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(graph(data)["out"], 2 * data["x"].sum())


def test_random_numbers_are_seeded_and_new_in_every_call():
    graph = TracedFunction(lambda data: {"out": data["x"] + torch.randn(4, 3)}, compile=False)
    data = batch()
    torch.manual_seed(5)
    first, second = graph(data)["out"], graph(data)["out"]
    torch.manual_seed(5)
    assert torch.equal(first, data["x"] + torch.randn(4, 3))
    assert torch.equal(second, data["x"] + torch.randn(4, 3))


def test_every_kind_of_batch_is_traced_once():
    calls = []

    def function(data):
        calls.append(data.shape)
        return {"out": data["x"].sum()}

    graph = TracedFunction(function, compile=False)
    for rows in (4, 4, 6, 4, 6):
        data = batch(rows)
        torch.testing.assert_close(graph(data)["out"], data["x"].sum())
    assert calls == 2 * [torch.Size([4])] + 2 * [torch.Size([6])]  # run once, then traced
    assert graph.traces == 2


def test_other_strides_are_another_kind_of_batch():
    graph = TracedFunction(lambda data: {"out": data["x"].reshape(-1) * torch.arange(12)}, compile=False)
    for data in (batch(), TensorDict({"x": torch.randn(3, 4).t()}, [4])):
        assert torch.equal(graph(data)["out"], data["x"].reshape(-1) * torch.arange(12))


def test_a_changed_python_branch_in_a_graph_is_an_error():
    graph = TracedFunction(lambda data: {"out": data["x"] if data["x"].sum() > 0 else -data["x"]}, compile=False)
    for sign in (1, 1):
        data = batch()
        data["x"] = sign * data["x"].abs()
        assert torch.equal(graph(data)["out"], data["x"])
    data["x"] = -data["x"]
    with pytest.raises(GraphError, match="must not let Python decide by the values of tensors"):
        graph(data)


def test_an_error_of_the_function_is_its_own():
    graph = TracedFunction(lambda data: {"out": data["z"]}, compile=False)
    with pytest.raises(KeyError, match="z"):
        graph(batch())


def test_entries_that_are_no_tensors_are_passed_over():
    data = batch()
    data.set_non_tensor("note", "hello")
    assert torch.equal(TracedFunction(lambda data: {"out": data["x"]}, compile=False)(data)["out"], data["x"])


# -- what Python looks at ----------------------------------------------------------------------------------------------


def test_python_may_look_at_what_stays_as_it_is():
    low, high = torch.tensor([-1.0, -2.0, 0.0]), torch.tensor([1.0, 2.0, 5.0])
    graph = TracedFunction(
        lambda data: {"out": data["x"] * (high - low) if (high > low).all() else data["x"]}, compile=False
    )
    for _ in range(2):
        data = batch()
        assert torch.equal(graph(data)["out"], data["x"] * (high - low))
    assert graph.traces == 1


def test_what_python_looked_at_must_stay_as_it_is():
    high = torch.ones(3)
    graph = TracedFunction(lambda data: {"out": data["x"] * 2 if (high > 0).all() else data["x"]}, compile=False)
    graph(batch())
    high.copy_(torch.ones(3))  # a state loaded again
    graph(batch())
    high.mul_(-1)
    with pytest.raises(GraphError, match="must not let Python decide by the values of tensors"):
        graph(batch())


WEIGHT = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    "look",
    [
        lambda data: (data["x"] > 0).all(),
        lambda data: torch.rand(()).item(),
        lambda data: (WEIGHT * torch.arange(3)).sum() > 0,
        lambda data: torch.equal(data["x"], torch.zeros(4, 3)),
        lambda data: data["x"].tolist()[0][0],
        lambda data: data["x"].detach().numpy().any(),
    ],
)
def test_python_must_not_decide_by_what_changes(look):
    graph = TracedFunction(lambda data: {"out": data["x"] if look(data) else -data["x"]}, compile=False)
    graph(batch() * 0)
    torch.rand(())
    with torch.no_grad():
        WEIGHT.add_(1)
    try:
        with pytest.raises(
            GraphError, match=r"must not let Python decide by the values .* in .*test_traced_function.py"
        ):
            graph(batch().apply(lambda value: value.abs() + 1))
    finally:
        WEIGHT.data.zero_()


@pytest.mark.parametrize("pick", [lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: x.masked_select(x > 0)])
def test_shapes_must_not_depend_on_values(pick):
    graph = TracedFunction(lambda data: {"out": pick(data["x"]).sum()}, compile=False)
    with pytest.raises(GraphError, match="must have shapes that do not depend on values"):
        graph(batch())


def test_an_index_of_numbers_is_a_graph():
    graph = TracedFunction(lambda data: {"out": data["x"][torch.tensor([1, 0])]}, compile=False)
    data = batch()
    assert torch.equal(graph(data)["out"], data["x"][:2].flip(0))


def test_errors_of_the_function_itself_are_not_graph_errors():
    graph = TracedFunction(lambda data: {"out": data["x"] @ data["x"]}, compile=False)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        graph(batch())


@pytest.mark.parametrize(
    ("distribution", "kwargs"),
    [
        (TanhNormal, {}),
        (TanhNormal, {"tanh_loc": True, "upscale": torch.tensor(3.0)}),
        (TruncatedNormal, {}),
        (TanhDelta, {}),
    ],
)
def test_torchrl_distributions_with_tensor_bounds_are_traced(distribution, kwargs):
    bounds = {"low": torch.tensor([-1.0, -2.0, 0.0]), "high": torch.tensor([1.0, 2.0, 5.0])}
    scale = () if distribution is TanhDelta else (torch.ones(3),)

    def draw(data):
        made = distribution(data["x"], *scale, **bounds, **kwargs)
        action = made.rsample()
        return {"out": action, "log_prob": made.log_prob(action)}

    graph, data = TracedFunction(draw, compile=False), batch()
    for _ in range(2):
        torch.manual_seed(0)
        expected = draw(data)
        torch.manual_seed(0)
        torch.testing.assert_close(graph(data), expected)


def test_what_cannot_be_compiled_says_why(monkeypatch):
    def compile_operations(*_):
        raise ImportError("c.so: file too short\nand more")

    monkeypatch.setattr(tracing, "compile_operations", compile_operations)
    graph = TracedFunction(lambda data: {"out": data["x"]}, compile=True)
    with pytest.raises(CompileError, match=r"must be able to compile a graph; got ImportError: c.so: file too short$"):
        graph(batch())
