"""The pooled critic: the mean of a loop over agents, in linear time, with the dead left out."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from masac import GroupSACLoss, ModelConfig, OtherGroup, make_critic
from masac.networks.pooled import mean_of_all, mean_of_others
from tests.losses.common import GROUP, MODEL, A, B, F, N, make_batch, our_actor, our_critic

OTHERS = [
    OtherGroup(group="sheep", n_agents=4, observation_dim=5, action_dim=3),
    OtherGroup(group="cats", n_agents=1, observation_dim=2, action_dim=1),
]
MODELS = [MODEL, ModelConfig(hidden=(8, 8), layer_norm=True, activation="silu"), ModelConfig(hidden=())]


def pooled(share, *, n_agents=N, model=MODEL, n_actions=None, others=()):
    return make_critic(
        "pooled",
        group=GROUP,
        n_agents=n_agents,
        observation_dim=F,
        action_dim=A,
        share_params=share,
        model=model,
        n_actions=n_actions,
        others=others,
    ).module


def entries(n_agents=N, batch=(B,), *, alive=0.6):
    observation, action = torch.randn(*batch, n_agents, F), torch.randn(*batch, n_agents, A)
    return observation, action, torch.rand(*batch, n_agents, 1) < alive


def of_agent(mlp, agent, share):
    """The weights of one agent, as an MLP of its own."""
    if share:
        return mlp
    one = copy.deepcopy(mlp)
    for parameter in one.parameters():
        parameter.data = parameter.data[agent]
    return one


def mean_and_part(encodings, size, width):
    """The mean of a list of encodings, and which part of ``size`` it is."""
    mean = torch.stack(encodings).mean(0) if encodings else torch.zeros(width)
    return [mean, torch.tensor([len(encodings) / max(size, 1)])]


def one_by_one(network, observation, action, alive, seen, share):
    """The values ``[B, N, V]``, row by row and agent by agent; ``seen``: entries of the other groups."""
    rows, n_agents = observation.shape[:2]
    values = []
    for row in range(rows):
        pairs = torch.cat([observation[row], action[row]], -1)
        for agent in range(n_agents):
            mates = [j for j in range(n_agents) if j != agent and alive[row, j]]
            encodings = [of_agent(network.encoder, j, share)(pairs[j : j + 1])[0] for j in mates]
            own = observation[row, agent] if network.values_actions else pairs[agent]
            own = own if alive[row, agent] else torch.zeros_like(own)
            parts = [own, alive[row, agent].to(own.dtype)]
            parts += mean_and_part(encodings, n_agents - 1, network.encoder.out_features)
            for encoder, (there_observation, there_action, there) in zip(network.other_encoders, seen, strict=True):
                others = torch.cat([there_observation[row], there_action[row]], -1)
                living = [encoder(others[j : j + 1])[0] for j in range(len(others)) if there[row, j]]
                parts += mean_and_part(living, len(others), encoder.out_features)
            values.append(of_agent(network.mlp, agent, share)(torch.cat(parts).unsqueeze(0))[0])
    return torch.stack(values).unflatten(0, (rows, n_agents))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("n_actions", [None, A], ids=["continuous", "discrete"])
@pytest.mark.parametrize("others", [(), OTHERS], ids=["alone", "other-groups"])
@pytest.mark.parametrize("n_agents", [1, 2, 5])
@pytest.mark.parametrize("share", [True, False])
def test_values_are_those_of_a_loop_over_rows_and_agents(share, n_agents, others, n_actions, model):
    network = pooled(share, n_agents=n_agents, model=model, n_actions=n_actions, others=others)
    own = entries(n_agents)
    seen = []
    for other in others:
        alive = torch.rand(B, other.n_agents, 1) < 0.5
        sizes = (other.observation_dim, other.action_dim)
        seen.append((*(torch.randn(B, other.n_agents, size) for size in sizes), alive))
    parts = [part.to(torch.float64).flatten(1) for group in seen for part in group]
    values = network(*own, torch.cat(parts, -1) if parts else None)
    assert values.shape == (B, n_agents, n_actions or 1)
    torch.testing.assert_close(values, one_by_one(network, *own, seen, share), rtol=1e-10, atol=1e-12)


def test_the_mean_over_the_others_by_hand():
    # One row, agents with 1, 3, 8 and (dead) NaN: the others' means are (3 + 8)/2, (1 + 8)/2, (1 + 3)/2 and 12/3.
    values = torch.tensor([1.0, 3.0, 8.0, float("nan")]).reshape(4, 1, 1)
    present = torch.tensor([True, True, True, False]).reshape(4, 1, 1)
    mean, part = mean_of_others(values, present)
    assert mean.flatten().tolist() == [5.5, 4.5, 2.0, 4.0]
    assert part.flatten().tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1.0])
    mean, part = mean_of_all(values, present)
    assert (mean.item(), part.item()) == (4.0, 0.75)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_agents", [2, 3, 50])
def test_leaving_an_agent_out_of_the_sum_only_rounds(n_agents, dtype):
    # One agent a thousand times as large as the others: what is left of the sum without it is small.
    values = torch.rand(n_agents, 40, 7, dtype=dtype)
    values[0] *= 1000
    present = torch.rand(n_agents, 40, 1) < 0.8
    mean, _ = mean_of_others(values, present)
    for agent in range(n_agents):
        others = present.clone()
        others[agent] = False
        count = others.sum(0)
        exact = torch.where(others, values.double(), 0.0).sum(0) / count.clamp(min=1)
        error = (mean[agent].double() - exact).abs()
        assert (error <= 8 * torch.finfo(dtype).eps * values.double().sum(0) / count.clamp(min=1)).all()
        assert (mean[agent][count.expand(40, 7) == 0] == 0).all()


def multiply_adds(kind, n_agents):
    """Of one row, forward and backward."""
    network = our_critic(True, kind, n_agents=n_agents).module
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(1, n_agents, F), torch.randn(1, n_agents, A), torch.ones(1, n_agents, 1)).sum().backward()
    return counter.get_total_flops()


def test_a_rows_cost_grows_linearly_in_the_number_of_agents():
    four, eight, sixteen = (multiply_adds("pooled", n_agents) for n_agents in (4, 8, 16))
    assert (eight, sixteen) == (2 * four, 4 * four)
    four, eight, sixteen = (multiply_adds("centralized", n_agents) for n_agents in (4, 8, 16))
    assert sixteen - 2 * eight > 3 * (eight - 2 * four) > 0  # what is beyond linear is quadratic


@pytest.mark.usefixtures("float64")
def test_the_order_of_teammates_changes_nothing():
    network = pooled(True, n_agents=5)
    order = torch.tensor([3, 0, 4, 2, 1])
    own = entries(5)
    torch.testing.assert_close(network(*(entry[:, order] for entry in own)), network(*own)[:, order])
    network = pooled(True, n_agents=5, others=OTHERS[:1])
    here, sheep = entries(5), (torch.randn(B, 4, 5), torch.randn(B, 4, 3), torch.rand(B, 4, 1))
    order = torch.tensor([1, 3, 2, 0])
    values = [
        network(*here, torch.cat([entry.flatten(1) for entry in seen], -1))
        for seen in (sheep, [entry[:, order] for entry in sheep])
    ]
    torch.testing.assert_close(*values)


@pytest.mark.usefixtures("float64")
def test_with_weights_an_agent_a_teammate_is_known_by_its_place():
    network = pooled(False, n_agents=3)
    observation, action, alive = entries(3, alive=1.0)
    order = torch.tensor([0, 2, 1])
    swapped = network(observation[:, order], action[:, order], alive)
    assert (swapped[:, 0] != network(observation, action, alive)[:, 0]).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("share", [True, False])
def test_entries_of_dead_teammates_change_nothing(share):
    network = pooled(share)
    observation, action, alive = entries(alive=1.0)
    alive[:, 1] = False
    results = []
    for garbage in (0.0, float("nan"), float("inf")):
        observation[:, 1], action[:, 1] = garbage, garbage
        network.zero_grad()
        values = network(observation, action, alive)
        values.sum().backward()
        results.append([values, *(p.grad.clone() for p in network.parameters())])
    for one in results[1:]:
        for got, expected in zip(one, results[0], strict=True):
            assert got.isfinite().all()
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("share", [True, False])
def test_a_row_in_which_nobody_lives_sees_zeros(share):
    network = pooled(share)
    observation, action, alive = entries(alive=0.0)
    action.requires_grad_()
    values = network(observation, action, alive)
    mean, part = mean_of_others(network._per_agent(network.encoder, torch.randn(N, B, F + A)), alive.transpose(0, 1))
    assert (mean == 0).all()
    assert (part == 0).all()
    values.sum().backward()
    assert values.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert action.grad.isfinite().all()
    for name, parameter in network.encoder.named_parameters():
        assert (parameter.grad == 0).all(), name


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("share", [True, False])
def test_joint_gradient_reaches_living_teammates_actions(share):
    network = pooled(share)
    observation, action, alive = entries(alive=1.0)
    alive[:, 2] = False
    action.requires_grad_()
    joint = network(observation, action, alive)
    (gradient,) = torch.autograd.grad(joint[:, 0].sum(), action)
    assert (gradient[:, :2] != 0).all()
    assert (gradient[:, 2] == 0).all()
    own = network(observation, action, alive, own_gradient=True)
    (alone,) = torch.autograd.grad(own[:, 0].sum(), action)
    torch.testing.assert_close(alone[:, 0], gradient[:, 0])
    assert (alone[:, 1:] == 0).all()


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_batches_of_any_number_of_dimensions(batch):
    network = pooled(True)
    own = entries(batch=batch)
    values = network(*own)
    assert values.shape == (*batch, N, 1)
    flat = network(*(entry.reshape(-1, *entry.shape[-2:]) for entry in own))
    torch.testing.assert_close(values.reshape(flat.shape), flat)


def test_an_agent_alone_in_its_group_trains():
    loss = GroupSACLoss(our_actor(True, n_agents=1), our_critic(True, "pooled", n_agents=1))
    assert loss.centralized_critic
    losses = loss(make_batch(n_agents=1))
    (losses["loss_actor"] + losses["loss_qvalue"]).backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)
