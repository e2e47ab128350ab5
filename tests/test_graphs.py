"""Graphs of tensor operations: what they keep up with, and what they refuse."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from masac.graphs import Graph, GraphError


def batch(rows=4):
    return TensorDict({"x": torch.randn(rows, 3), "deep": TensorDict({"y": torch.randn(rows)}, [rows])}, [rows])


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_graph_returns_what_its_function_does_with_gradients_inside(compile):
    linear = nn.Linear(3, 2)

    def function(data):
        loss = linear(data["x"]).square().mean() + data["deep", "y"].sum()
        (gradient,) = torch.autograd.grad(loss, linear.weight)
        return {"loss": loss, ("gradient", 0): gradient}

    graph = Graph(function, compile=compile)
    for _ in range(2):  # the first call traces, the second replays
        data = batch()
        expected = function(data)
        results = graph(data)
        assert results.keys() == expected.keys()
        for name, value in results.items():
            torch.testing.assert_close(value, expected[name])
            assert not value.requires_grad


def test_parameters_are_read_anew_in_every_call():
    weight = nn.Parameter(torch.ones(3))
    graph = Graph(lambda data: {"out": (data["x"] * weight).sum()}, compile=False)
    data = batch()
    assert graph(data)["out"] == data["x"].sum()
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(graph(data)["out"], 2 * data["x"].sum())


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_random_numbers_are_those_of_the_seed_and_new_in_every_call(compile):
    graph = Graph(lambda data: {"out": data["x"] + torch.randn(4, 3)}, compile=compile)
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

    graph = Graph(function, compile=False)
    for rows in (4, 4, 6, 4, 6):
        data = batch(rows)
        torch.testing.assert_close(graph(data)["out"], data["x"].sum())
    assert calls == [torch.Size([4]), torch.Size([6])]
    assert graph.traces == 2


def test_other_strides_are_another_kind_of_batch():
    graph = Graph(lambda data: {"out": data["x"].reshape(-1) * torch.arange(12)}, compile=False)
    for data in (batch(), TensorDict({"x": torch.randn(3, 4).t()}, [4])):
        assert torch.equal(graph(data)["out"], data["x"].reshape(-1) * torch.arange(12))


def test_what_python_decides_by_values_is_an_error_that_says_so():
    graph = Graph(lambda data: {"out": data["x"] if data["x"].sum() > 0 else -data["x"]}, compile=False)
    with pytest.raises(GraphError, match="must not let Python decide by the values of tensors"):
        graph(batch())


def test_an_error_of_the_function_is_its_own():
    graph = Graph(lambda data: {"out": data["z"]}, compile=False)
    with pytest.raises(KeyError, match="z"):
        graph(batch())


def test_entries_that_are_no_tensors_are_passed_over():
    data = batch()
    data.set_non_tensor("note", "hello")
    assert torch.equal(Graph(lambda data: {"out": data["x"]}, compile=False)(data)["out"], data["x"])
