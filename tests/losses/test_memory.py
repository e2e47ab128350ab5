"""Losses of sequences with memories: as a loop over agents and steps, whoever dies, returns or is cut off."""

import math
from functools import partial

import pytest
import torch
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.data import Bounded

from masac import (
    GroupHybridSACLoss,
    GroupMemory,
    GroupSACLoss,
    ModelConfig,
    MultiGroupLoss,
    make_critic,
    make_hybrid_actor,
    make_tanh_normal_actor,
)
from masac.images import ImageSpec
from tests.losses.common import GROUP, A, F, N, make_batch, total
from tests.losses.discrete_common import D
from tests.losses.memory_common import (
    GIVEN,
    ROWS,
    H,
    T,
    actor_that_reads,
    critic_that_reads,
    make_loss,
    memory,
    remembered,
    sequences,
)

TERMS = ("loss_actor", "loss_qvalue", "loss_alpha")


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def results(loss, data):
    """The terms, and the gradient of their sum, by name."""
    torch.manual_seed(1)
    losses = loss(data)
    loss.zero_grad()
    total(losses).backward()
    return {name: losses[name].detach() for name in TERMS}, gradients_of(loss)


def gradients_of(loss):
    return {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}


def by_the_loop(loss, data, *, burn_in=0, **kwargs):
    """The same of a loss without memories, whose networks read what a loop says that memories hold."""
    other = make_loss(given=True, **kwargs)
    other.load_state_dict({name: value for name, value in loss.state_dict().items() if "_memory_" not in name})
    loss.zero_grad()
    known = remembered(data, loss, burn_in=burn_in)
    torch.manual_seed(1)
    losses = other(known.copy())
    fixed = known.copy()
    fixed[GROUP, GIVEN[1]] = fixed[GROUP, GIVEN[1]].detach()  # the actor loss holds the critics fixed
    torch.manual_seed(1)
    actor_losses = other(fixed)
    other.zero_grad()
    (losses["loss_qvalue"] + actor_losses["loss_actor"] + actor_losses["loss_alpha"]).backward()
    gradients = gradients_of(other) | {name: grad for name, grad in gradients_of(loss).items() if "_memory_" in name}
    return {name: losses[name].detach() for name in TERMS}, gradients


CASES = [
    {"skip_done_states": "fill"},
    {"skip_done_states": "drop"},
    {"skip_done_states": "fill", "discrete": True},
    {"skip_done_states": "fill", "centralized": True},
    {"skip_done_states": "fill", "burn_in": 2},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_and_gradients_are_those_of_a_loop(case):
    case = dict(case)
    burn_in, discrete = case.pop("burn_in", 0), case.get("discrete", False)
    loss = make_loss(burn_in=burn_in, **case)
    data = sequences(discrete=discrete)
    got, expected = results(loss, data.copy()), by_the_loop(loss, data, burn_in=burn_in, **case)
    torch.testing.assert_close(got[0], expected[0])
    assert got[1].keys() == expected[1].keys() == dict(loss.named_parameters()).keys()
    torch.testing.assert_close(got[1], expected[1])


def test_lambda_returns_are_those_of_a_loop():
    loss, other = make_loss(skip_done_states="fill"), make_loss(given=True, skip_done_states="fill")
    other.load_state_dict({name: value for name, value in loss.state_dict().items() if "_memory_" not in name})
    for one in (loss, other):
        one.make_value_estimator("TDLambda", gamma=0.9, lmbda=0.7)
    data = sequences()
    torch.testing.assert_close(loss.target_value(data), other.target_value(remembered(data, loss)))


def ours(kind, *, hybrid=False, memory_kind="lstm", images=(), burn_in=0):
    """A loss on masac's networks with memories, and weights per agent."""
    model = ModelConfig(hidden=(8,), cnn=(2, 3), memory=memory_kind, memory_size=H)
    sizes = {"n_agents": N, "observation_dim": F, "share_params": False, "model": model, "images": images}
    networks = {"group": GROUP, **sizes}
    memories = {f"{name}_memory": GroupMemory(memory_kind, size=H, **sizes) for name in ("actor", "critic")}
    spec = Bounded(-1, 1, (N, A), dtype=torch.float64)
    options = {"skip_done_states": "fill", "alpha_init": 0.5, "burn_in": burn_in, **memories}
    if not hybrid:
        critic = make_critic(kind, action_dim=A, **networks)
        return GroupSACLoss(make_tanh_normal_actor(action_spec=spec, **networks), critic, **options)
    critic = make_critic(kind, action_dim=A + D, n_actions=D, own_action_dim=A, **networks)
    actor = make_hybrid_actor(action_spec=spec, sizes=[D], **networks)
    return GroupHybridSACLoss(actor, critic, num_actions=[D], action_spec=spec, **options)


@pytest.mark.parametrize(
    "make",
    [
        partial(make_loss, skip_done_states="fill"),
        partial(make_loss, skip_done_states="fill", centralized=True),
        partial(make_loss, skip_done_states="fill", discrete=True),
        partial(ours, "independent"),
        partial(ours, "centralized"),
        partial(ours, "pooled", memory_kind="gru"),
        partial(ours, "centralized", hybrid=True),
    ],
)
def test_each_term_trains_its_own_memory_with_finite_gradients(make):
    loss = make()
    data = sequences(discrete=make.keywords.get("discrete", False), stored=False)
    data[GROUP, "discrete_action"] = torch.randint(D, (ROWS, T, N, 1))
    for term, trained in (("loss_actor", "actor_"), ("loss_qvalue", "critic_"), ("loss_alpha", None)):
        loss.zero_grad()
        loss(data.copy())[term].backward()
        gradients = gradients_of(loss)
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        memories = {name for name, grad in gradients.items() if "_memory_" in name and grad.any()}
        assert all(name.startswith(str(trained)) for name in memories)
        assert len(memories) == (4 if trained else 0)


@pytest.mark.parametrize("burn_in", [0, 2])
def test_images_are_remembered_and_those_of_the_dead_reach_nothing(burn_in):
    loss = ours("centralized", images=(ImageSpec(name="image", shape=(2, 8, 9), dtype="float32"),), burn_in=burn_in)
    data = sequences(stored=False)
    alive, ended = (data[key].reshape(ROWS, T, N, 1, 1, 1) for key in ((GROUP, "mask"), ("next", GROUP, "terminated")))
    images, terms = torch.rand(2, ROWS, T, N, 2, 8, 9), []
    for beyond in (0.0, math.nan):
        data[GROUP, "image"] = images[0].where(alive, beyond)
        data["next", GROUP, "image"] = images[1].where(alive & ~ended, beyond)
        terms.append(results(loss, data.copy()))
    torch.testing.assert_close(*terms)
    encoders = [name for name in terms[0][1] if "_memory_" in name and "cnns" in name]
    assert len(encoders) == 2 * 2 * 2  # of actor and critics, two layers, weight and bias
    assert all(terms[0][1][name].any() for name in encoders)
    data[GROUP, "image"][:, burn_in + 1, 1] += 0.1  # both see it
    changed, before = results(loss, data.copy())[0], terms[0][0]
    assert not any(torch.equal(changed[name], before[name]) for name in TERMS)


def test_burn_in_is_seen_without_gradient_and_has_no_terms():
    loss, data = make_loss(burn_in=2, skip_done_states="fill", reduction="none"), sequences()
    seen = data[GROUP, "observation"].nan_to_num().requires_grad_()
    data[GROUP, "observation"] = seen
    losses = loss(data)
    for term in TERMS:
        assert losses[term].shape == (ROWS, T, N)
        assert not losses[term][:, :2].any()
        assert losses[term][:, 2:].any()
    assert data["td_error"].shape == (ROWS, T)
    assert not data["td_error"][:, :2].any()
    (gradient,) = torch.autograd.grad(losses["loss_qvalue"].sum() + losses["loss_actor"].sum(), seen)
    assert not gradient[:, :2].any()
    assert gradient[:, 2].any()
    target = loss.target_value(data)
    assert target.shape == (ROWS, T, N, 1)
    assert not target[:, :2].any()
    data[GROUP, "observation"] = torch.cat([seen[:, :1] + 1, seen[:, 1:]], 1).detach()
    assert (loss.target_value(data)[0, 2] != target[0, 2]).any()  # it was seen


def test_a_truncated_step_bootstraps_from_the_memory_of_its_own_episode():
    loss, data = make_loss(skip_done_states="fill"), sequences()  # row 1 is truncated in step 1
    target = loss.target_value(data)[1, 1]
    changed = data.clone()
    changed[GROUP, "observation"][1, 2:] += 1.0
    changed["next", GROUP, "observation"][1, 2:] += 1.0
    torch.testing.assert_close(loss.target_value(changed)[1, 1], target, rtol=0, atol=0)
    for key in ((GROUP, "observation"), ("next", GROUP, "observation")):
        changed = data.clone()
        changed[key][1, int(key[0] == "next")] += 1.0  # the first step's observation, then what followed the cut
        assert (loss.target_value(changed)[1, 1] != target).all()


def test_what_the_data_says_about_beginnings_wins():
    loss, data = make_loss(skip_done_states="fill"), sequences()
    derived = loss.target_value(data)
    begins = torch.zeros(ROWS, T, N, 1, dtype=torch.bool)
    begins[1, 2] = begins[1, 5, 1] = begins[0, 3, 0] = begins[0, 2, 2] = True
    data[GROUP, "is_init"] = begins
    torch.testing.assert_close(loss.target_value(data), derived)
    begins[0, 1] = True
    assert (loss.target_value(data)[0, 1, :2] != derived[0, 1, :2]).all()
    data["is_init"] = begins.any(-2)  # as TorchRL's InitTracker writes it
    of_group = loss.target_value(data)
    del data[GROUP, "is_init"]
    row = loss.target_value(data)
    torch.testing.assert_close(row[0, :2], of_group[0, :2])


def test_the_stored_memory_is_where_the_actor_begins():
    loss, data = make_loss(skip_done_states="fill"), sequences()
    actor_loss = loss(data.copy())["loss_actor"]
    data[GROUP, "memory"][:, 1:] = math.nan  # of later steps it is not read
    torch.testing.assert_close(loss(data.copy())["loss_actor"], actor_loss)
    del data[GROUP, "memory"]
    without = loss(data.copy())["loss_actor"]
    data[GROUP, "memory"] = torch.zeros(ROWS, T, N, H)
    assert loss(data.copy())["loss_actor"] == without != actor_loss


def test_with_an_empty_memory_it_is_the_loss_of_single_steps():
    loss = make_loss(skip_done_states="fill")
    with torch.no_grad():
        for params in (loss.actor_memory_params, loss.critic_memory_params, loss.target_critic_memory_params):
            for value in params.values(True, True):
                value.zero_()  # a candidate of 0: the state stays 0
    data = sequences(stored=False)
    other = make_loss(given=True, skip_done_states="fill")
    other.load_state_dict({name: value for name, value in loss.state_dict().items() if "_memory_" not in name})
    flat = data.reshape(-1)
    for entry in GIVEN:
        flat[GROUP, entry] = flat["next", GROUP, entry] = torch.zeros(ROWS * T, N, H)
    got, expected = results(loss, data), results(other, flat)
    torch.testing.assert_close(got[0], expected[0])
    for name, gradient in expected[1].items():
        torch.testing.assert_close(got[1][name], gradient)


def test_groups_with_memories_of_their_own_add_up():
    loss = make_loss(skip_done_states="fill", burn_in=1)
    alone, data = loss(sequences()), sequences()
    together = MultiGroupLoss([loss])(data)
    torch.testing.assert_close(together["loss"], total(alone))
    assert data["td_error"].shape == (ROWS, T)
    assert (GROUP, "actor_memory") not in data.keys(True)
    feed_forward = make_loss(given=True)
    feed_forward.group = "others"
    with pytest.raises(ValueError, match=r"must have the same burn_in, .* got \[0, 1\]"):
        MultiGroupLoss([loss, feed_forward])


def test_keys_name_what_is_read_and_not_what_is_computed():
    loss = make_loss()
    assert (GROUP, "observation") in loss.in_keys
    assert not [key for key in loss.in_keys if key[-1] in ("actor_memory", "critic_memory")]
    assert {(GROUP, "memory"), (GROUP, "is_init"), ("is_init",), ("next", "done")} <= set(loss.optional_in_keys)
    data = sequences()
    kept = data.select(*loss.in_keys, *loss.optional_in_keys, strict=False)
    torch.testing.assert_close(loss(kept)["loss_actor"], loss(data)["loss_actor"])


@pytest.mark.parametrize("discrete", [False, True])
def test_networks_and_memories_must_fit(discrete):
    with pytest.raises(ValueError, match=r"reads \('agents', 'actor_memory'\) must come with that memory"):
        make_loss(discrete=discrete, actor_memory=None)
    with pytest.raises(ValueError, match=r"critic_memory must be read: add \('agents', 'critic_memory'\)"):
        make_loss(discrete=discrete, given=True, critic_memory=memory())
    with pytest.raises(ValueError, match="burn_in must be a number of steps, at least 0; got -1"):
        make_loss(discrete=discrete, burn_in=-1)


def test_data_that_are_no_sequences_are_errors():
    loss = make_loss(burn_in=T)
    with pytest.raises(ValueError, match=rf"T greater than burn_in={T}; got \[{ROWS}, {T}\]"):
        loss(sequences())
    with pytest.raises(ValueError, match=rf"must be given sequences, .* got \[{ROWS * T}\]"):
        make_loss()(sequences().reshape(-1))
    data = sequences()
    data["steps_to_next_obs"] = torch.ones(ROWS, T, 1)
    with pytest.raises(ValueError, match="must be given data of single steps"):
        make_loss()(data)


class Cumulated(nn.Module):
    """The sum of what an agent has seen since its episode began: a memory that a network has of its own."""

    def forward(self, observation, is_init):
        total, sums = torch.zeros_like(observation[:, 0]), []
        for seen, begins in zip(observation.unbind(1), is_init.unbind(1), strict=True):
            total = torch.where(begins.unsqueeze(-1), 0.0, total) + seen
            sums.append(total)
        return torch.stack(sums, 1)[..., :H]


def with_own_memory(network, entry):
    """The network after a memory of its own, which writes the entry that the network reads."""
    own = TensorDictModule(Cumulated(), [(GROUP, "observation"), "is_init"], [(GROUP, entry)])
    modules = network if isinstance(network, ProbabilisticTensorDictSequential) else [network]
    kind = ProbabilisticTensorDictSequential if len(list(modules)) > 1 else TensorDictSequential
    return kind(own, *modules)


def test_networks_with_a_memory_of_their_own_run_over_burn_in_which_has_no_weight():
    networks = (
        with_own_memory(actor_that_reads(GIVEN[0]), GIVEN[0]),
        with_own_memory(critic_that_reads(GIVEN[1]), GIVEN[1]),
    )
    options = {"group": GROUP, "gamma": 0.9, "target_entropy": -2.0, "actor_layout": "per_agent"}
    whole, burned = (GroupSACLoss(*networks, burn_in=steps, **options) for steps in (0, 2))
    burned.load_state_dict(whole.state_dict())
    data = make_batch(batch=(ROWS, T), seed=0)
    data["is_init"] = data["next", "is_init"] = torch.zeros(ROWS, T, 1, dtype=torch.bool)
    weighted = data.clone()
    weighted["priority_weight"] = (torch.arange(T) >= 2).double().expand(ROWS, T)
    got, expected = results(burned, data.copy()), results(whole, weighted)
    assert got[0]["loss_qvalue"] != results(whole, data.copy())[0]["loss_qvalue"]
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(got[1], expected[1], rtol=0, atol=0)
    burned(data)
    assert data["td_error"].shape == (ROWS, T)
    assert not data["td_error"][:, :2].any()
    assert data["td_error"][:, 2:].all()
    changed = data.clone()
    changed[GROUP, "observation"][:, 0] += 1.0
    assert results(burned, changed)[0]["loss_actor"] != got[0]["loss_actor"]  # it was seen
    changed = data.clone()
    changed["next", GROUP, "reward"][:, :2] = 99.0
    assert results(burned, changed)[0]["loss_qvalue"] == got[0]["loss_qvalue"]
