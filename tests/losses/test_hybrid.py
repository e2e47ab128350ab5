"""The loss of hybrid actions: values by hand, its two temperatures, agents that end, masks and batches of training."""

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from masac import (
    GroupHybridSACLoss,
    GroupSACLoss,
    ModelConfig,
    MultiGroupLoss,
    OtherGroup,
    UpdateStep,
    functional,
    make_critic,
    make_hybrid_actor,
    make_tanh_normal_actor,
)
from masac.errors import ConfigError

N, F, D, SIZES = 2, 3, 1, (2, 3)
MODEL = ModelConfig(hidden=(8,), activation="tanh")
COMMON: dict[str, Any] = {"group": "agents", "n_agents": N, "observation_dim": F, "model": MODEL}


def actor_of(share=True, masked=False):
    spec = Bounded(-1, 1, (N, D))
    return make_hybrid_actor(action_spec=spec, sizes=SIZES, share_params=share, action_mask=masked, **COMMON)


def critic_of(kind="centralized", share=True, **more):
    return make_critic(
        kind,
        action_dim=D + sum(SIZES),
        n_actions=math.prod(SIZES),
        own_action_dim=D,
        share_params=share,
        **COMMON,
        **more,
    )


def loss_of(kind="centralized", *, share=True, masked=False, **options):
    options = {"gamma": 0.9, "action_spec": Bounded(-1, 1, (N, D)), "alpha_init": 0.5, **options}
    return GroupHybridSACLoss(actor_of(share, masked), critic_of(kind, share), num_actions=SIZES, **options)


def batch_of(rows=4, *, mask=False, legal=False):
    def state():
        entries = {"observation": torch.randn(rows, N, F)}
        if legal:
            entries["action_mask"] = torch.tensor([True, True, False, True, True]).expand(rows, N, -1).clone()
        return TensorDict(entries, [rows, N])

    now, after = state(), state()
    now["action"] = torch.rand(rows, N, D) * 2 - 1
    now["discrete_action"] = torch.stack([torch.randint(n, (rows, N)) for n in SIZES], -1)
    if legal:
        now["discrete_action"][..., 1].clamp_(min=1)
    if mask:
        now["mask"] = torch.ones(rows, N, dtype=torch.bool)
    after["reward"], after["terminated"] = torch.randn(rows, N, 1), torch.zeros(rows, N, 1, dtype=torch.bool)
    return TensorDict({"agents": now, "next": {"agents": after}}, [rows])


def test_combinations_are_products_with_the_last_factor_fastest():
    vectors = torch.tensor([0.25, 0.75, 0.5, 0.2, 0.3])
    expected = [0.125, 0.05, 0.075, 0.375, 0.15, 0.225]
    torch.testing.assert_close(functional.combinations(vectors, SIZES), torch.tensor(expected))
    one_hot = functional.combinations(torch.tensor([0.0, 1, 0, 0, 1]), SIZES)
    assert one_hot.tolist() == [0, 0, 0, 0, 0, 1]
    assert functional.combinations(vectors[:2], (2,)).tolist() == [0.25, 0.75]


def test_value_and_actor_loss_of_hybrid_actions_by_hand():
    # π(d) = (1/4, 3/4), Q = (2, 6): 5. Σ π log π = -0.5623351446, α_d = 2: +1.1246702892.
    # log π(c) = -0.4, α_c = 0.5: +0.2. Together 6.3246702892.
    q_values, probs = torch.tensor([[[2.0, 6.0]]]), torch.tensor([[[0.25, 0.75]]])
    discrete = functional.expectation(probs, probs.log())
    arguments = (q_values, probs, discrete, torch.tensor([[[-0.4]]]), torch.tensor(2.0), torch.tensor(0.5))
    assert functional.hybrid_soft_state_value(*arguments).item() == pytest.approx(6.3246702892)
    assert functional.hybrid_actor_loss(*arguments).item() == pytest.approx(-6.3246702892)


class Known:
    """Policies and critics with known outputs, in place of those of a loss."""

    # d = 0: π = (1/2, 1/2) of two choices, times (1/2, 1/4, 1/4) of three.
    probs = torch.tensor([0.5, 0.5, 0.5, 0.25, 0.25])
    entropy = math.log(2) + 1.5 * math.log(2)

    def __init__(self, loss, monkeypatch, q_values):
        from masac.losses.hybrid_sac import HybridAction

        def act(state):
            lead = state["agents", "observation"].shape[:-1]
            probs = self.probs.expand(*lead, -1)
            log_prob = torch.full((*lead, 1), -0.3)
            return HybridAction(
                torch.full((*lead, D), 0.2), log_prob, probs.log(), probs, torch.ones_like(probs).bool()
            )

        def values(inputs, params, n_agents):
            return torch.stack([torch.tensor(one).expand(*inputs.batch_size, N, -1) for one in q_values])

        monkeypatch.setattr(loss, "_act", act)
        monkeypatch.setattr(loss, "_q_values", values)


def test_the_critic_target_and_error_are_those_by_hand(monkeypatch):
    loss = loss_of(gamma=0.9, loss_function="l2")
    loss.log_alpha.data.fill_(math.log(0.5))
    loss.log_alpha_discrete.data.fill_(math.log(0.1))
    data = batch_of(1)
    data["next", "agents", "reward"][:] = 1.0
    data["next", "agents", "terminated"][0, 1] = True
    data["agents", "discrete_action"][:] = torch.tensor([1, 2])
    Known(loss, monkeypatch, [[0.0, 4, 8, 0, 0, 4], [9.0, 9, 9, 9, 9, 2]])
    # min_k Q = (0, 4, 8, 0, 0, 2) with probabilities (1/4, 1/8, 1/8, 1/4, 1/8, 1/8): 14 / 8 = 1.75.
    # + 0.1 * 2.5 log 2 + 0.5 * 0.3; then 1 + 0.9 of it, and 1 for the agent that ended.
    value = 1.75 + 0.1 * 2.5 * math.log(2) + 0.15
    expected = [1 + 0.9 * value, 1.0]
    assert loss.target_value(data).flatten().tolist() == pytest.approx(expected)
    # Executed: the last combination, with the values 4 and 2.
    errors = [(4 - y) ** 2 + (2 - y) ** 2 for y in expected]
    assert loss(data)["loss_qvalue"].item() == pytest.approx(sum(errors) / 2)


@pytest.mark.usefixtures("float64")
def test_each_part_has_its_own_temperature_and_target_entropy():
    loss = loss_of(target_entropy_weight=0.5)
    data, policy = batch_of(), None
    out = loss(data)
    out["loss_alpha"].backward()
    torch.manual_seed(3)
    policy = loss._act_now(data, loss._read_signals(data)).policy
    most = 0.5 * (math.log(2) + math.log(3))
    assert loss.continuous_target_entropy == -D
    assert out["target_entropy"].item() == pytest.approx(most - D)
    # d/d log α of -log α (log π + target) is the mean of -(log π + target); the discrete log π needs no draw.
    expected = -(policy.discrete_log_prob.mean() + most)
    torch.testing.assert_close(loss.log_alpha_discrete.grad, expected.detach())
    assert loss.log_alpha.grad is not None
    assert loss.log_alpha.grad != loss.log_alpha_discrete.grad


@pytest.mark.usefixtures("float64")
def test_the_actor_gradient_reaches_both_parts_and_no_critic():
    loss = loss_of("independent")
    loss(batch_of())["loss_actor"].backward()
    network = loss.actor_network[0].module
    gradient = loss.actor_network_params["module", "0", "module", "mlp", "output", "bias"].grad
    assert (gradient.reshape(-1) != 0).all()
    assert network.parts == (D, D, sum(SIZES))
    assert all(parameter.grad is None for parameter in loss.qvalue_network_params.parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["independent", "centralized", "pooled"])
def test_values_depend_on_the_own_continuous_part_and_teammates_actions(kind):
    critic, data = critic_of(kind), batch_of(1)
    action = torch.randn(1, N, D + sum(SIZES))
    action.requires_grad_()
    data["agents", "action"], data["agents", "alive"] = action, torch.ones(1, N, 1, dtype=torch.bool)
    values = critic(data.select(*critic.in_keys))["agents", "action_value"]
    assert values.shape == (1, N, 6)
    (gradient,) = torch.autograd.grad(values[0, 0].sum(), action)
    own, mate = (gradient[0] != 0).tolist()
    assert own == [True] * D + [False] * sum(SIZES)
    assert mate == [kind != "independent"] * (D + sum(SIZES))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", [False, "fill", "drop"])
@pytest.mark.parametrize("share", [True, False])
def test_what_dead_and_ended_agents_hold_changes_nothing(mode, share):
    results = []
    for rubbish in (0.0, math.nan):
        torch.manual_seed(0)
        loss = loss_of("centralized", share=share, masked=True, skip_done_states=mode)
        data = batch_of(mask=True, legal=True)
        data["agents", "mask"][0, 0] = data["agents", "mask"][1, 1] = False
        data["next", "agents", "terminated"][2, 0] = True
        for entry in ("observation", "action"):
            data["agents", entry][0, 0] = rubbish
            data["agents", entry][1, 1] = rubbish
        data["agents", "discrete_action"][0, 0] = 77 if math.isnan(rubbish) else 0
        data["next", "agents", "observation"][0, 0] = data["next", "agents", "observation"][1, 1] = rubbish
        if mode:
            data["next", "agents", "observation"][2, 0] = rubbish
        torch.manual_seed(1)
        out = loss(data)
        total = out["loss_actor"] + out["loss_qvalue"] + out["loss_alpha"]
        total.backward()
        gradients = [p.grad for p in loss.parameters() if p.grad is not None]
        assert len(gradients) > 6
        results.append([total, data["td_error"], *gradients])
    for clean, dirty in zip(*results, strict=True):
        torch.testing.assert_close(dirty, clean)


@pytest.mark.usefixtures("float64")
def test_drop_equals_fill_where_the_noise_does_not_matter():
    targets = []
    for mode in ("fill", "drop"):
        torch.manual_seed(0)
        loss = loss_of("independent", skip_done_states=mode)
        data = batch_of()
        data["next", "agents", "terminated"][0, 0] = data["next", "agents", "terminated"][1] = True
        with torch.no_grad():  # almost no noise in the continuous part
            loss.actor_network_params["module", "0", "module", "mlp", "output", "bias"][..., D : 2 * D] = -50
        loss.log_alpha.data.fill_(-50)
        targets.append(loss.target_value(data))
    torch.testing.assert_close(*targets, atol=0.1, rtol=0)


@pytest.mark.usefixtures("float64")
def test_illegal_choices_are_not_drawn_and_have_no_value():
    loss, data = loss_of("independent", masked=True), batch_of(legal=True)
    policy = loss._act_now(data, loss._read_signals(data)).policy
    assert (policy.probs[..., 2] == 0).all()
    combined = functional.combinations(policy.probs, SIZES)
    assert (combined[..., [0, 3]] == 0).all()
    torch.testing.assert_close(combined.sum(-1), torch.ones(4, N))
    data["agents", "discrete_action"][0, 0, 0] = 5
    with pytest.raises(
        ValueError, match=r"agent 0 of group 'agents' must have taken one of the \[2, 3\] actions in row 0"
    ):
        loss(data)


@pytest.mark.usefixtures("float64")
def test_importance_weights_weight_rows_and_priorities_are_the_largest_errors():
    loss, data = loss_of("independent", loss_function="l1"), batch_of(2)
    data["next", "agents", "terminated"][:] = True
    data["priority_weight"] = torch.tensor([1.0, 3.0])
    out = loss(data)
    values = loss.qvalue_network.stacked_values(
        data.select(("agents", "observation")).update(
            {
                "agents": {
                    "action": torch.cat(
                        [
                            data["agents", "action"],
                            loss.actions.one_hot(data["agents", "discrete_action"], (2, N), SIZES, torch.float64),
                        ],
                        -1,
                    )
                }
            }
        ),
        loss.qvalue_network_params,
    )
    index = data["agents", "discrete_action"] @ torch.tensor([3, 1])
    chosen = values.gather(-1, index.expand(2, 2, N).unsqueeze(-1))
    error = (chosen - data["next", "agents", "reward"]).abs()
    torch.testing.assert_close(data["td_error"], error.amax(0).flatten(1).amax(-1))
    rows = error.sum(0).mean((1, 2))
    torch.testing.assert_close(out["loss_qvalue"], (rows[0] + 3 * rows[1]) / 4)


@pytest.mark.parametrize("gradient", ["own", "joint"])
def test_an_update_as_a_graph_equals_one_without(gradient):
    results = []
    for mode in ("eager", "graph"):
        torch.manual_seed(0)
        loss, data = loss_of(actor_gradient=gradient), batch_of(mask=True)
        update = UpdateStep(loss, torch.optim.Adam(loss.parameters(), lr=1e-2), tau=0.1, mode=mode)
        for _ in range(2):
            torch.manual_seed(1)
            logged = update(data.clone())
            assert {"alpha", "alpha_discrete", "loss_alpha"} <= set(logged)
        results.append([p.detach().clone() for p in loss.parameters()])
    assert results[0]
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(eager, graph)


def test_another_groups_critic_sees_both_parts():
    hybrid = loss_of("centralized")
    rivals = {**COMMON, "group": "rivals", "share_params": True}
    seen = [OtherGroup(group="agents", n_agents=N, observation_dim=F, action_dim=D + sum(SIZES))]
    critic = critic_of(others=[OtherGroup(group="rivals", n_agents=N, observation_dim=F, action_dim=2)])
    hybrid = GroupHybridSACLoss(actor_of(), critic, num_actions=SIZES, action_spec=Bounded(-1, 1, (N, D)))
    spec = Bounded(-1, 1, (N, 2))
    other = GroupSACLoss(
        make_tanh_normal_actor(action_spec=spec, **rivals),
        make_critic("centralized", action_dim=2, others=seen, **rivals),
        group="rivals",
    )
    data = batch_of()
    rest = batch_of()
    rest["agents", "action"] = torch.rand(4, N, 2)
    data["rivals"], data["next", "rivals"] = rest["agents"].exclude("discrete_action"), rest["next", "agents"]
    out = MultiGroupLoss([hybrid, other], critic_sees="all_groups")(data)
    assert out["loss"].isfinite()
    assert set(out["agents"].keys()) - set(out["rivals"].keys()) == {"alpha_discrete"}


def test_too_many_combinations_and_other_critics_are_errors():
    with pytest.raises(ConfigError, match=r"at most 1,024 combinations .*; got 1,089 \(33 x 33\) in group 'agents'"):
        GroupHybridSACLoss(actor_of(), critic_of(), num_actions=(33, 33), action_spec=Bounded(-1, 1, (N, D)))
    wrong = make_critic("independent", action_dim=D, share_params=True, **COMMON)
    with pytest.raises(ValueError, match=r"must not read the group's action|must be from masac.make_critic"):
        GroupHybridSACLoss(actor_of(), wrong, num_actions=SIZES, action_spec=Bounded(-1, 1, (N, D)))
    with pytest.raises(NotImplementedError, match="each part has a temperature"):
        loss_of().alpha_loss(torch.zeros(2, N))
