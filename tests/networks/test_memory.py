"""Recurrent memories of the agents of a group."""

import math

import pytest
import torch
from torch import nn

from masac.images import ImageSpec
from masac.networks.config import ModelConfig
from masac.networks.memory import GroupMemory
from masac.recurrence import gru_cell, lstm_cell

N, F, H, B, T = 3, 4, 5, 2, 6
KINDS = ["gru", "lstm"]
TORCH_CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def memory(kind, *, share_params=True):
    return GroupMemory(kind, n_agents=N, observation_dim=F, size=H, share_params=share_params)


def cell_of(one, agent):
    """PyTorch's cell with the weights of an agent."""
    cell = TORCH_CELLS[one.kind](F, H)
    layers = (one.from_input, one.from_state)
    weights = [layer.weight if one.share_params else layer.weight[agent] for layer in layers]
    biases = [layer.bias if one.share_params else layer.bias[agent] for layer in layers]
    named = zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (*weights, *biases), strict=True)
    return lambda x, state: torch.func.functional_call(
        cell, {name: value.T if name.startswith("weight") else value[0] for name, value in named}, (x, state)
    )


def one_step(one, agent, x, state):
    """The state ``[S]`` of an agent after an observation ``[F]``, by PyTorch's cell."""
    cell = cell_of(one, agent)
    if one.kind == "gru":
        return cell(x[None], state[None])[0]
    return torch.cat([part[0] for part in cell(x[None], tuple(part[None] for part in state.chunk(2)))])


def unrolled(one, observation, state, begins, alive):
    """The rule of unroll, agent by agent and step by step."""
    rows = []
    for b in range(observation.shape[0]):
        agents = []
        for i in range(N):
            now, after = state[b, i], []
            for t in range(observation.shape[1]):
                if begins[b, t, i]:
                    now = torch.zeros_like(now)
                now = one_step(one, i, observation[b, t, i], now) if alive[b, t, i] else torch.zeros_like(now)
                after.append(now)
            agents.append(torch.stack(after))
        rows.append(torch.stack(agents, 1))
    return torch.stack(rows)


def sequences(one):
    """Observations, a state before them, and an agent that begins in the middle, one that dies and one that returns."""
    begins = torch.zeros(B, T, N, 1, dtype=torch.bool)
    begins[0, 2, 1] = begins[1, 0] = True
    alive = torch.ones(B, T, N, 1, dtype=torch.bool)
    alive[0, 3:, 0] = alive[1, 1:3, 2] = alive[0, 0, 2] = False
    return torch.randn(B, T, N, F), torch.randn(B, N, one.state_dim), begins, alive


def test_a_gated_recurrent_unit_by_hand():
    # r = σ(0) = 1/2, z = σ(ln 3) = 3/4, n = tanh(1 + 1/2 * -2) = 0: h' = 1/4 * 0 + 3/4 * 0.8
    after = gru_cell(torch.tensor([0.0, math.log(3), 1.0]), torch.tensor([0.0, 0.0, -2.0]), torch.tensor([0.8]))
    assert after.item() == pytest.approx(0.6)


def test_a_long_short_term_memory_by_hand():
    # i = σ(0) = 1/2, f = σ(ln 3) = 3/4, g = tanh(0) = 0, o = σ(-ln 3) = 1/4: c' = 3/4 * 2, h' = 1/4 tanh(3/2)
    gates = torch.tensor([0.0, math.log(3), 0.5, -math.log(3)])
    out, cell = lstm_cell(gates, torch.tensor([0.0, 0.0, -0.5, 0.0]), torch.tensor([0.9, 2.0]))
    assert cell.item() == pytest.approx(1.5)
    assert out.item() == pytest.approx(math.tanh(1.5) / 4)


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_pytorchs_cell(kind, share_params):
    one = memory(kind, share_params=share_params)
    observation, state = torch.randn(B, T, N, F), torch.randn(B, T, N, one.state_dim)
    after = one.step(observation, state)
    assert after.shape == state.shape
    for i in range(N):
        expected = one_step(one, i, observation[1, 2, i], state[1, 2, i])
        torch.testing.assert_close(after[1, 2, i], expected)
    torch.testing.assert_close(one.step(observation[0, 0], state[0, 0]), after[0, 0])  # without a batch
    torch.testing.assert_close(one.output(after), after[..., :H])


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_a_loop_over_agents_and_steps_in_values_and_gradients(kind, share_params):
    one = memory(kind, share_params=share_params)
    observation, state, begins, alive = sequences(one)
    state.requires_grad_()
    wanted = [*one.parameters(), state]
    weights = torch.randn(B, T, N, one.state_dim)
    expected = unrolled(one, observation, state, begins, alive)
    got = one.unroll(observation, state, begins, alive)
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad((weights * after).sum(), wanted) for after in (got, expected)]
    torch.testing.assert_close(*gradients)
    everyone = one.unroll(observation, state, begins)
    torch.testing.assert_close(everyone, unrolled(one, observation, state, begins, torch.ones_like(alive)))


@pytest.mark.parametrize("kind", KINDS)
def test_steps_one_by_one_are_a_sequence(kind):
    one = memory(kind)
    observation, state, *_ = sequences(one)
    after, now = one.unroll(observation, state, torch.zeros(B, T, N, 1, dtype=torch.bool)), state
    for t in range(T):
        now = one.step(observation[:, t], now)
        torch.testing.assert_close(now, after[:, t])


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_of_the_dead_and_of_forgotten_states_reaches_nothing(kind, share_params):
    one = memory(kind, share_params=share_params)
    observation, state, begins, alive = sequences(one)
    damaged = torch.where(alive, observation, math.nan)
    forgotten = torch.where(begins[:, 0] | ~alive[:, 0], math.nan, state)
    results = []
    for seen, before in ((observation, state), (damaged, forgotten)):
        after = one.unroll(seen, before, begins, alive)
        results.append([after, *torch.autograd.grad(after.square().sum(), list(one.parameters()))])
    torch.testing.assert_close(*results)
    assert (results[0][0] == 0)[~alive.expand_as(results[0][0])].all()


IMAGES = (
    ImageSpec(name="image_eye", shape=(10, 9, 3), divide_by=255.0),
    ImageSpec(name="image_depth", shape=(2, 8, 12), dtype="float32"),
)


@pytest.mark.parametrize("share_params", [True, False])
@pytest.mark.parametrize("features", [F, 0])
def test_images_are_seen_beside_the_vector_each_agent_with_its_own(features, share_params):
    sizes = {"observation_dim": features, "size": H, "images": IMAGES, "model": ModelConfig(cnn=(2, 3))}
    one = GroupMemory("gru", n_agents=N, share_params=share_params, **sizes)
    assert one.image_names == ["image_eye", "image_depth"]
    vector, depth = torch.randn(B, T, N, features), torch.rand(B, T, N, 2, 8, 12)
    eye = torch.randint(256, (B, T, N, 10, 9, 3), dtype=torch.uint8)
    seen = one.see(vector, eye, depth)
    torch.testing.assert_close(seen[..., :features], vector)
    _, state, begins, alive = sequences(one)
    after = one.unroll(seen, state, begins, alive)
    assert all(gradient.any() for gradient in torch.autograd.grad(after.square().sum(), list(one.parameters())))
    for agent in range(N):
        alone = one.of_agent(agent)
        own = [entry[:, 0, agent : agent + 1] for entry in (vector, eye, depth)]
        torch.testing.assert_close(alone.see(*own).squeeze(1), seen[:, 0, agent])
        expected = one.step(seen[:, 0], state)[:, agent]
        torch.testing.assert_close(alone.step(alone.see(*own), state[:, agent : agent + 1]).squeeze(1), expected)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="must be 'gru' or 'lstm'; got 'rnn'"):
        GroupMemory("rnn", n_agents=N, observation_dim=F, size=H)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        GroupMemory("gru", n_agents=N, observation_dim=F, size=0)
    one = GroupMemory("gru", n_agents=N, observation_dim=F, size=H, images=IMAGES)
    with pytest.raises(ValueError, match=r"the images must be \['image_eye', 'image_depth'\]; got 0 of them"):
        one.see(torch.zeros(B, N, F))
    with pytest.raises(ValueError, match="With images, observations are what see"):
        one.step(torch.zeros(B, N, F), torch.zeros(B, N, H))
    one = GroupMemory("gru", n_agents=N, observation_dim=F, size=H, share_params=False, images=IMAGES)
    with pytest.raises(ValueError, match=r"'image_eye' must have shape \['\*B', 3, 10, 9, 3\]; got \[6, 10, 9, 3\]"):
        one.see(torch.zeros(B, N, F), torch.zeros(6, 10, 9, 3), torch.zeros(B, N, 2, 8, 12))
    one = memory("lstm")
    with pytest.raises(ValueError, match=r"states \[..., 3, 10\]; got \[2, 3, 4\] and \[2, 3, 5\]"):
        one.step(torch.zeros(B, N, F), torch.zeros(B, N, H))
    with pytest.raises(ValueError, match=r"entries of shape \[\*B, 3, F\]; got \[2, 2, 4\]"):
        memory("gru", share_params=False).step(torch.zeros(B, 2, F), torch.zeros(B, 2, H))
