"""The discrete loss: exact expectations over legal actions, who lives, encodings, what is refused."""

import itertools
import math

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Categorical, MultiCategorical, MultiOneHot
from torchrl.modules import MaskedCategorical, ProbabilisticActor

from masac import GroupDiscreteSACLoss, functional
from masac.actions.discrete import DiscreteActions, read_discrete_actions
from masac.compat import parameters_in
from tests.losses.common import (
    GRID,
    GROUP,
    SHARE_AND_CRITIC,
    B,
    F,
    N,
    gradients,
    grid_batch,
    our_actor,
    torchrl_critic,
    total,
)
from tests.losses.discrete_common import (
    SIZES,
    D,
    discrete_batch,
    discrete_loss,
    our_discrete_actor,
    our_discrete_critic,
    spec_of,
    torchrl_discrete_actor,
    torchrl_discrete_critic,
)

GAMMA = 0.5
WIDTH = {"categorical": D, "one-hot": D, "multi-discrete": sum(SIZES)}


@pytest.fixture
def likeliest(monkeypatch):
    """Draws the likeliest action, so that every way to run an actor draws the same one."""

    def draw(probs, sizes):
        parts = [part == part.amax(-1, keepdim=True) for part in probs.split(list(sizes), -1)]
        return torch.cat(parts, -1).to(probs.dtype)

    monkeypatch.setattr(functional, "draw_one_hot", draw)


def loss_of(share, kind, *, encoding="categorical", masked=False, **kwargs):
    actor = our_discrete_actor(share, encoding=encoding, masked=masked)
    return discrete_loss(
        actor, our_discrete_critic(share, kind, n_actions=WIDTH[encoding]), encoding=encoding, **kwargs
    )


def reference_targets(loss, batch, sizes=(D,)):
    """The critic target, row by row, agent by agent, action by action, as the equations have it."""
    targets = torch.zeros(B, N, 1, dtype=batch["next", GROUP, "reward"].dtype)
    alpha = loss.log_alpha.exp()
    for row in range(B):
        terminated = batch["next", GROUP, "terminated"][row].squeeze(-1)
        valid = batch["next"][row : row + 1].clone()
        for name in ("observation", "action_mask"):
            if name in batch[GROUP].keys():  # noqa: SIM118
                valid[GROUP, name][0][terminated] = batch[GROUP, name][row][terminated]
        with parameters_in(loss.actor_network, loss.actor_network_params):
            logits = loss.actor_network.get_dist(valid).logits[0]
        legal = valid[GROUP, "action_mask"][0] if "action_mask" in batch[GROUP].keys() else torch.ones_like(logits)  # noqa: SIM118
        probs = torch.zeros_like(logits)
        for agent, part in itertools.product(range(N), range(len(sizes))):
            start = sum(sizes[:part])
            choices = [a for a in range(start, start + sizes[part]) if legal[agent, a]]
            weights = torch.stack([logits[agent, a] for a in choices]).softmax(0)
            for choice, weight in zip(choices, weights, strict=True):
                probs[agent, choice] = weight
        drawn = functional.draw_one_hot(probs, sizes)
        seen = valid.clone()
        if loss.centralized_critic:
            seen[GROUP, "observation"][0][terminated] = 0.0
            drawn[terminated] = 0.0
        seen[GROUP, "action"] = drawn.unsqueeze(0)
        seen[GROUP, "alive"] = ~terminated.reshape(1, N, 1)
        values = []
        for params in loss.target_qvalue_network_params.unbind(0):
            with parameters_in(loss.qvalue_network, params):
                values.append(loss.qvalue_network(seen.clone())[GROUP, "action_value"][0])
        for agent in range(N):
            target = batch["next", GROUP, "reward"][row, agent].clone()
            if not terminated[agent]:
                for action in range(sum(sizes)):
                    p = probs[agent, action]
                    if p > 0:
                        smallest = min(value[agent, action] for value in values)
                        target += GAMMA * p * (smallest - alpha * p.log())
            targets[row, agent] = target
    return targets.detach()


# -- the grid ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64", "likeliest")
@pytest.mark.parametrize("skip", ["fill", "drop"])
@pytest.mark.parametrize(("torchrl", "share", "kind", "ends", "nan"), GRID)
def test_skipping_follows_the_equations(torchrl, share, kind, ends, nan, skip):
    if torchrl:
        actor, critic = torchrl_discrete_actor(share), torchrl_discrete_critic(share, kind)
    else:
        actor, critic = our_discrete_actor(share), our_discrete_critic(share, kind)
    loss = discrete_loss(actor, critic, gamma=GAMMA, skip_done_states=skip)
    batch = grid_batch(ends, nan, make=discrete_batch)
    torch.testing.assert_close(loss.target_value(batch), reference_targets(loss, batch), rtol=1e-9, atol=1e-9)
    losses = loss(batch)
    total(losses).backward()
    assert all(value.isfinite().all() for value in losses.values())
    assert batch["td_error"].shape == (B,)
    grads = gradients(loss)
    assert len(grads) == len(list(loss.parameters()))
    assert all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.usefixtures("float64", "likeliest")
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
@pytest.mark.parametrize("encoding", ["categorical", "multi-discrete"])
def test_masked_multi_discrete_targets_follow_the_equations(share, kind, encoding):
    batch = grid_batch("mixed", True, make=discrete_batch, encoding=encoding, action_mask=True)
    sizes = SIZES if encoding == "multi-discrete" else (D,)
    expected = None
    for masked, skip in itertools.product((True, False), ("fill", "drop")):
        torch.manual_seed(0)
        loss = loss_of(share, kind, encoding=encoding, masked=masked, gamma=GAMMA, skip_done_states=skip)
        expected = reference_targets(loss, batch, sizes) if expected is None else expected
        torch.testing.assert_close(loss.target_value(batch), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64", "likeliest")
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
@pytest.mark.parametrize("encoding", ["categorical", "multi-discrete"])
def test_skip_modes_agree_where_observations_are_finite(share, kind, encoding):
    batch = grid_batch("mixed", False, make=discrete_batch, encoding=encoding, action_mask=True)
    first = loss_of(share, kind, encoding=encoding, masked=True)
    expected = first(batch.clone())
    for skip in (True, "fill", "drop"):
        other = loss_of(share, kind, encoding=encoding, masked=True, skip_done_states=skip)
        other.load_state_dict(first.state_dict())
        losses = other(batch.clone())
        for name in ("loss_actor", "loss_qvalue", "loss_alpha", "entropy"):
            torch.testing.assert_close(losses[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skip", [False, "fill", "drop"])
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
def test_a_batch_in_which_everything_ended_is_fine(share, kind, skip):
    loss = loss_of(share, kind, skip_done_states=skip)
    batch = discrete_batch(terminated=torch.ones(B, N, 1, dtype=torch.bool))
    if skip:
        batch["next", GROUP, "observation"] = torch.full((B, N, F), float("nan"))
    assert torch.equal(loss.target_value(batch), batch["next", GROUP, "reward"])
    losses = loss(batch)
    total(losses).backward()
    assert all(grad.isfinite().all() for grad in gradients(loss).values())


# -- who lives ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64", "likeliest")
@pytest.mark.parametrize("skip", [False, "fill", "drop"])
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
@pytest.mark.parametrize("encoding", ["categorical", "one-hot", "multi-discrete"])
def test_what_a_dead_pair_holds_changes_no_loss_and_no_gradient(share, kind, skip, encoding):
    mask = torch.rand(B, N, 1, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0] = False  # a row without a living agent
    mask[1] = True
    results = []
    loss = loss_of(share, kind, encoding=encoding, masked=True, skip_done_states=skip)
    for garbage in (False, True):
        batch = discrete_batch(encoding=encoding, mask=mask, action_mask=True, truncated=~mask)
        if garbage:
            dead = ~mask.squeeze(-1)
            for state in (batch, batch["next"]):
                state[GROUP, "observation"][dead] = float("nan")
                state[GROUP, "action_mask"][dead] = False
            batch[GROUP, "action"][dead] = -7
            batch["next", GROUP, "reward"][dead] = float("inf")
            batch["next", GROUP, "terminated"][dead] = True
        loss.zero_grad()
        losses = loss(batch)
        total(losses).backward()
        results.append(({**losses, "td_error": batch["td_error"]}, gradients(loss)))
    for one, other in zip(*results, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-12, atol=1e-12)
            assert value.isfinite().all()


def test_truncated_agents_bootstrap_and_terminated_do_not():
    loss = loss_of(True, "independent", gamma=0.9)
    flags = torch.zeros(B, N, 1, dtype=torch.bool)
    flags[0, 0] = True
    plain = loss.target_value(discrete_batch())
    torch.testing.assert_close(loss.target_value(discrete_batch(truncated=flags)), plain)
    ended = loss.target_value(discrete_batch(terminated=flags, truncated=flags))
    assert ended[0, 0] == discrete_batch()["next", GROUP, "reward"][0, 0]
    torch.testing.assert_close(ended[1:], plain[1:])


def test_a_posthumous_value_uses_the_first_action_only():
    kwargs = {"terminated_reduction": "all", "posthumous": True, "reward_reduction": "mean"}
    loss = loss_of(True, "independent", gamma=0.5, **kwargs)
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1] = False
    batch = discrete_batch(mask=mask)
    warm = loss.target_value(batch)
    loss.log_alpha.data.fill_(-50.0)
    cold = loss.target_value(batch)
    changed = (warm != cold).squeeze(-1)
    assert changed.sum() == B * N - 1
    assert not changed[0, 1]
    reward = batch["next", GROUP, "reward"][0, [0, 2]].sum() / N
    blank = TensorDict({GROUP: TensorDict({"observation": torch.zeros(1, N, F)}, [1, N])}, [1])
    first = loss._q_values(blank, loss.target_qvalue_network_params, N).amin(0)[0, 1, 0]
    torch.testing.assert_close(warm[0, 1, 0], reward + 0.5 * first)
    assert loss._executed(batch, loss._read_signals(batch)).action[0, 1].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_priorities_are_the_largest_error_of_the_living():
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1:] = False
    loss = loss_of(True, "independent")
    batch = discrete_batch(mask=mask)
    loss(batch)
    target = loss.target_value(batch)
    state = batch.select((GROUP, "observation"))
    for row in range(B):
        errors = []
        for params in loss.qvalue_network_params.unbind(0):
            with parameters_in(loss.qvalue_network, params):
                values = loss.qvalue_network(state.clone())[GROUP, "action_value"][row]
            for agent in range(N):
                if mask[row, agent]:
                    errors.append(abs(values[agent, batch[GROUP, "action"][row, agent]] - target[row, agent, 0]).item())
        assert batch["td_error"][row].item() == pytest.approx(max(errors), rel=1e-5)


# -- encodings and masks -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64", "likeliest")
@pytest.mark.parametrize("kind", ["independent", "centralized", "pooled"])
def test_action_encodings_give_the_same_losses(kind):
    loss = loss_of(True, kind)
    one_hot = GroupDiscreteSACLoss(our_discrete_actor(True), our_discrete_critic(True, kind), num_actions=D)
    one_hot.load_state_dict(loss.state_dict())
    batch = discrete_batch()
    expected = loss(batch.clone())
    with_dimension, vectors = batch.clone(), batch.clone()
    with_dimension[GROUP, "action"] = batch[GROUP, "action"].unsqueeze(-1)
    vectors[GROUP, "action"] = nn.functional.one_hot(batch[GROUP, "action"], D).bool()
    for losses in (loss(with_dimension), one_hot(vectors)):
        for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
            torch.testing.assert_close(losses[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("neg_inf", [-math.inf, -1e4, -3.0])
def test_illegal_actions_never_count(neg_inf):
    def masked(logits, mask):
        return MaskedCategorical(logits=logits, mask=mask, neg_inf=neg_inf)

    network = our_discrete_actor(True, masked=True)[0]
    actor = ProbabilisticActor(
        network,
        in_keys={"logits": (GROUP, "logits"), "mask": (GROUP, "action_mask")},
        out_keys=[(GROUP, "action")],
        distribution_class=masked,
    )
    loss = discrete_loss(actor, our_discrete_critic(True, "independent"))
    batch = discrete_batch(action_mask=True)
    policy = loss._act(batch)
    illegal = ~batch[GROUP, "action_mask"]
    assert (policy.probs[illegal] == 0).all()
    torch.testing.assert_close(policy.probs.sum(-1), torch.ones(B, N))
    total(loss(batch)).backward()
    assert all(grad.isfinite().all() for grad in gradients(loss).values())
    first = discrete_loss(our_discrete_actor(True), our_discrete_critic(True, "independent"))
    first.load_state_dict(loss.state_dict())
    torch.testing.assert_close(first.target_value(batch), loss.target_value(batch), rtol=1e-9, atol=1e-9)


def test_an_infinite_value_of_an_illegal_action_changes_nothing():
    probs, log_probs = torch.tensor([0.25, 0.75, 0.0]), torch.tensor([0.25, 0.75, 1.0]).log()
    q_values = torch.tensor([2.0, 4.0, math.inf])
    value = functional.discrete_soft_state_value(q_values, log_probs, probs, torch.tensor(0.0))
    assert value.item() == 3.5  # 0.25 * 2 + 0.75 * 4


def test_no_legal_action_is_an_error_that_names_row_and_agent():
    batch = discrete_batch(action_mask=True)
    batch[GROUP, "action_mask"][2, 1] = False
    with pytest.raises(ValueError, match=r"agent 1 of group 'agents' must have a legal action in row 2"):
        loss_of(True, "independent", masked=True)(batch)
    loss_of(True, "independent", validate_actions=False)(batch)
    batch = discrete_batch(action_mask=True)
    batch["next", GROUP, "action_mask"][3, 0] = False
    with pytest.raises(ValueError, match=r"agent 0 .* in the next state of row 3"):
        loss_of(True, "independent", masked=True)(batch)
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[3, 0] = False
    batch[GROUP, "mask"] = mask.squeeze(-1)
    loss_of(True, "independent", masked=True)(batch)  # it is dead


def test_an_action_out_of_range_names_row_and_agent():
    batch = discrete_batch()
    batch[GROUP, "action"][4, 2] = D
    with pytest.raises(ValueError, match=r"agent 2 .* must have taken one of the \[4\] actions in row 4; got 4"):
        loss_of(True, "independent")(batch)


def test_target_entropy_is_a_share_of_legal_actions_entropy():
    loss = loss_of(True, "independent", masked=True, target_entropy_weight=0.5)
    batch = discrete_batch(action_mask=True)
    policy = loss._act(batch)
    legal = batch[GROUP, "action_mask"].sum(-1, keepdim=True)
    torch.testing.assert_close(loss._target_entropy_per_agent(policy), 0.5 * legal.float().log())
    assert loss.target_entropy.item() == pytest.approx(0.5 * math.log(D))
    two = loss_of(True, "independent", encoding="multi-discrete", target_entropy_weight=0.5)
    assert two.target_entropy.item() == pytest.approx(0.5 * (math.log(3) + math.log(2)))


def test_log_probabilities_and_entropies_of_factors_add():
    # factor 1 over {0, 1, 2}: logits of 1/2, 1/4, 1/4; factor 2 over {0, 1} with only 0 legal
    logits = torch.tensor([0.5, 0.25, 0.25, 0.5, 0.5]).log()
    legal = torch.tensor([True, True, True, True, False])
    log_probs, probs, _ = functional.discrete_policy(logits, legal, (3, 2))
    assert probs.tolist() == pytest.approx([0.5, 0.25, 0.25, 1.0, 0.0])
    entropy = -functional.expectation(probs, log_probs).item()
    assert entropy == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert functional.max_entropy(legal, (3, 2)).item() == pytest.approx(math.log(3))


# -- critics that see the others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["centralized", "pooled"])
@pytest.mark.parametrize("share", [True, False])
def test_values_of_all_own_actions_see_teammates_actions(share, kind):
    network = our_discrete_critic(share, kind).module
    observation, alive = torch.randn(B, N, F), torch.ones(B, N, 1)
    action = torch.randn(B, N, D, requires_grad=True)
    values = network(observation, action, alive)
    assert values.shape == (B, N, D)
    (gradient,) = torch.autograd.grad(values[:, 0].sum(), action)
    assert (gradient[:, 0] == 0).all()
    assert (gradient[:, 1:] != 0).all()


def test_critics_see_executed_actions_and_actors_drawn_ones():
    seen = []
    loss = loss_of(True, "centralized")
    for name in ("stacked_values", "chosen_values"):
        values_of = getattr(loss.qvalue_network, name)

        def spy(inputs, *more, values_of=values_of):
            seen.append(inputs[GROUP, "action"])
            return values_of(inputs, *more)

        setattr(loss.qvalue_network, name, spy)
    with torch.no_grad():  # a policy that always takes action 3
        loss.actor_network_params["module", "0", "module", "mlp", "output", "bias"][..., 3] = 50.0
    batch = discrete_batch()
    loss(batch)
    targets, executed, current = seen
    assert (targets.argmax(-1) == 3).all()
    assert torch.equal(executed.argmax(-1), batch[GROUP, "action"])
    assert (current.argmax(-1) == 3).all()
    assert not current.requires_grad


def test_drawn_actions_follow_the_probabilities():
    probs = torch.tensor([0.1, 0.9, 0.0, 0.5, 0.5]).expand(20_000, 5)
    drawn = functional.draw_one_hot(probs, (3, 2)).mean(0)
    torch.testing.assert_close(drawn, probs[0], atol=0.02, rtol=0)
    assert drawn[2] == 0


def test_a_foreign_critic_that_reads_the_joint_action_is_refused():
    critic = torchrl_critic(True, "centralized")
    critic.out_keys = [(GROUP, "action_value")]
    with pytest.raises(ValueError, match="a critic of discrete actions must not read the group's action"):
        discrete_loss(our_discrete_actor(True), critic)


def test_team_critics_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="would need a value for every combination of the agents' actions"):
        our_discrete_critic(True, "team")

    class Team(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(N * F, D)

        def forward(self, observation):
            return self.linear(observation.flatten(-2))

    critic = TensorDictModule(Team(), in_keys=[(GROUP, "observation")], out_keys=["action_value"])
    loss = discrete_loss(our_discrete_actor(True), critic)
    with pytest.raises(ValueError, match="every combination of the agents' actions"):
        loss(discrete_batch())


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"action_space": "continuous"}, "action_space must be one of categorical, one-hot"),
        ({"action_space": "one-hot", "num_actions": None}, "target_entropy='auto' must come with the number of"),
        ({"action_space": "categorical", "num_actions": [2, 3]}, "num_actions must be one number"),
        ({"action_space": Categorical(D, shape=(N,)), "num_actions": 3}, r"num_actions must be \(4,\)"),
    ],
)
def test_a_wrong_action_space_is_a_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GroupDiscreteSACLoss(our_discrete_actor(True), our_discrete_critic(True, "independent"), **kwargs)


def test_the_number_of_actions_is_read_from_the_logits():
    loss = GroupDiscreteSACLoss(
        our_discrete_actor(True),
        our_discrete_critic(True, "independent"),
        action_space="categorical",
        target_entropy=0.5,
    )
    loss(discrete_batch())
    assert loss.actions.sizes == (D,)


def test_a_wrong_number_of_actions_is_an_error():
    loss = GroupDiscreteSACLoss(
        our_discrete_actor(True), our_discrete_critic(True, "independent"), action_space="categorical", num_actions=3
    )
    with pytest.raises(ValueError, match="the actor's logits must have 3 entries per agent"):
        loss(discrete_batch())


def test_a_continuous_actor_is_an_error():
    loss = GroupDiscreteSACLoss(our_actor(True), our_discrete_critic(True, "independent"), num_actions=D)
    with pytest.raises(ValueError, match="distribution must be categorical"):
        loss(discrete_batch(encoding="one-hot"))


@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("n_agents", [1, N])
def test_a_call_with_keyword_tensors_gives_the_same(n_agents, trailing):
    loss = GroupDiscreteSACLoss(
        our_discrete_actor(True, n_agents=n_agents),
        our_discrete_critic(True, "independent", n_agents=n_agents),
        n_agents=n_agents,
        action_space=spec_of("categorical", n_agents),
    )
    batch = discrete_batch(n_agents=n_agents)
    if trailing:
        batch[GROUP, "action"] = batch[GROUP, "action"].unsqueeze(-1)
    expected = loss(batch.clone())
    flat = {"_".join(key): batch[key] for key in loss.in_keys}
    results = loss(**flat)
    for name, value in zip(loss.keyword_out_keys, results, strict=True):
        torch.testing.assert_close(value, expected[name])


def test_in_keys_are_the_entries_that_are_read():
    loss = loss_of(True, "centralized", masked=True)
    batch = discrete_batch(action_mask=True)
    torch.manual_seed(0)
    expected = loss(batch.clone())
    torch.manual_seed(0)
    got = loss(batch.select(*loss.in_keys))
    torch.testing.assert_close(got["loss_qvalue"], expected["loss_qvalue"])
    assert (GROUP, "action_mask") in loss.optional_in_keys


def test_batches_of_time_and_no_reduction():
    loss = loss_of(False, "independent", reduction="none")
    losses = loss(discrete_batch(batch=(2, 5)))
    assert {name: tuple(value.shape) for name, value in losses.items()} == dict.fromkeys(
        ("loss_actor", "loss_qvalue", "loss_alpha"), (2, 5, N)
    )


def test_importance_weights_and_steps_are_one_a_row():
    loss = loss_of(True, "independent", gamma=0.5)
    batch = discrete_batch()
    doubled = batch.clone()
    doubled["priority_weight"] = torch.full((B,), 2.0)
    torch.testing.assert_close(loss(doubled)["loss_qvalue"], loss(batch)["loss_qvalue"])
    steps = batch.clone()
    steps["steps_to_next_obs"] = torch.full((B, 1), 3)
    reward = batch["next", GROUP, "reward"]
    torch.testing.assert_close(loss.target_value(steps) - reward, (loss.target_value(batch) - reward) / 4)


def test_one_temperature_per_agent():
    loss = loss_of(True, "independent", alpha_per_agent=True, n_agents=N)
    total(loss(discrete_batch())).backward()
    assert loss.log_alpha.grad.shape == (N,)


def test_the_policies_learn_the_better_action():
    loss = loss_of(True, "centralized", gamma=0.0, target_entropy=0.1, alpha_init=0.1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for step in range(400):
        batch = discrete_batch(batch=(64,), seed=step)
        batch["next", GROUP, "reward"] = (batch[GROUP, "action"] == 2).float().unsqueeze(-1)
        optimizer.zero_grad()
        total(loss(batch)).backward()
        optimizer.step()
    assert loss._act(discrete_batch()).probs[..., 2].mean() > 0.9


# -- found in review ---------------------------------------------------------------------------------------------------


def test_infinite_values_of_untaken_actions_change_nothing():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(F, D)

        def forward(self, observation, mask):
            return self.linear(observation).masked_fill(~mask, -math.inf)

    keys = [(GROUP, "observation"), (GROUP, "action_mask")]
    critic = TensorDictModule(Masked(), in_keys=keys, out_keys=[(GROUP, "action_value")])
    loss = discrete_loss(our_discrete_actor(True, masked=True), critic)
    total(loss(discrete_batch(action_mask=True))).backward()
    assert all(grad.isfinite().all() for grad in gradients(loss).values())


@pytest.mark.parametrize("place", ["here", "next"])
def test_an_action_mask_in_one_state_only_is_an_error(place):
    batch = discrete_batch(action_mask=True)
    del (batch if place == "next" else batch["next"])[GROUP]["action_mask"]
    with pytest.raises(KeyError, match="must exist in both states"):
        loss_of(True, "independent")(batch)


def test_an_ended_agents_next_mask_may_allow_nothing():
    ended = torch.zeros(B, N, 1, dtype=torch.bool)
    ended[1, 2] = True
    batch = discrete_batch(action_mask=True, terminated=ended)
    batch["next", GROUP, "action_mask"][1, 2] = False
    assert loss_of(True, "independent", masked=True, skip_done_states="fill")(batch)["loss_qvalue"].isfinite()


def test_every_factor_needs_a_legal_choice():
    batch = discrete_batch(encoding="multi-discrete", action_mask=True, batch=(2, 3))
    batch[GROUP, "action_mask"][1, 2, 1, SIZES[0] :] = False
    with pytest.raises(ValueError, match=r"agent 1 .* must have a legal action in row \[1, 2\]"):
        loss_of(True, "independent", encoding="multi-discrete", masked=True)(batch)


@pytest.mark.parametrize("vector", [[0.25] * 4, [1.0, 1.0, 0.0, 0.0], [0.0] * 4])
def test_vectors_that_are_not_one_hot_are_errors(vector):
    loss = GroupDiscreteSACLoss(our_discrete_actor(True), our_discrete_critic(True, "independent"), num_actions=D)
    batch = discrete_batch(encoding="one-hot")
    batch[GROUP, "action"] = batch[GROUP, "action"].float()
    batch[GROUP, "action"][2, 0] = torch.tensor(vector)
    with pytest.raises(ValueError, match=r"agent 0 .* in row 2; got \["):
        loss(batch)


def test_weights_weigh_rows_in_every_term():
    loss = loss_of(True, "independent")
    batch = discrete_batch(batch=(2,))
    alone = [loss(batch[row : row + 1].clone()) for row in range(2)]
    batch["priority_weight"] = torch.tensor([3.0, 1.0])
    both = loss(batch)
    for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
        torch.testing.assert_close(both[name], (3 * alone[0][name] + alone[1][name]) / 4)


def test_each_agent_has_the_bonus_of_its_own_temperature():
    loss = loss_of(True, "independent", alpha_per_agent=True, n_agents=N, gamma=0.5)
    batch = discrete_batch()
    before = loss.target_value(batch), loss(batch.clone())
    loss.log_alpha.data[1] += 1.0
    change = (loss.target_value(batch) - before[0]).squeeze(-1)
    assert (change[:, 1] > 0).all()
    assert (change[:, [0, 2]] == 0).all()
    policy = loss._act(batch)
    entropy = -(policy.probs * policy.log_probs).sum(-1)[:, 1].mean()
    moved = loss(batch.clone())["loss_actor"] - before[1]["loss_actor"]
    torch.testing.assert_close(moved, -(math.e - 1) * entropy / N)


def test_the_dead_are_looked_up_at_their_first_action():
    kwargs = {"terminated_reduction": "all", "posthumous": True, "reward_reduction": "mean"}
    loss = loss_of(True, "independent", encoding="one-hot", **kwargs)
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1] = False
    batch = discrete_batch(encoding="one-hot", mask=mask)
    batch[GROUP, "action"][0, 1] = 0
    loss._act(batch)
    assert loss._executed(batch, loss._read_signals(batch)).action[0, 1].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_drawn_choices_of_a_factor_follow_its_probabilities():
    probs = torch.tensor([0.1, 0.2, 0.7]).expand(40_000, 3)
    torch.testing.assert_close(functional.draw_one_hot(probs, (3,)).mean(0), probs[0], atol=0.01, rtol=0)


def test_two_factors_one_hot_side_by_side():
    spec = MultiOneHot(SIZES)
    actions = read_discrete_actions(spec)
    assert actions == DiscreteActions(encoding="mult-one-hot", sizes=SIZES)
    action = torch.tensor([[0.0, 1, 0, 0, 1]])
    assert torch.equal(actions.one_hot(action, (1,), SIZES, torch.float32), action)
    indices = DiscreteActions(encoding="multi-discrete", sizes=SIZES)
    assert torch.equal(indices.one_hot(torch.tensor([[1, 1]]), (1,), SIZES, torch.float32), action)
    assert indices.from_one_hot(action, SIZES).tolist() == [[1, 1]]
    assert DiscreteActions(encoding="categorical", sizes=(5,)).from_one_hot(action[:, :3], (3,)).tolist() == [1]
    assert read_discrete_actions(torch.stack([MultiCategorical([3, 2]), MultiCategorical([2, 3])])) is None


def test_networks_of_another_float_type_take_one_hot_actions():
    loss = loss_of(True, "centralized").to(torch.bfloat16)
    batch = discrete_batch().to(torch.bfloat16)
    batch[GROUP, "action"] = discrete_batch()[GROUP, "action"]
    assert loss(batch)["loss_qvalue"].dtype == torch.bfloat16
