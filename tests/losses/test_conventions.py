"""A LossModule as TorchRL's users expect it."""

import pickle
from copy import deepcopy

import pytest
import torch
from torchrl.data import Bounded, Composite
from torchrl.objectives import HardUpdate, SoftUpdate, ValueEstimators

from masac import GroupSACLoss
from masac.losses.target_entropy import auto_target_entropy
from tests.losses.common import (
    GROUP,
    A,
    B,
    F,
    N,
    action_spec,
    gradients,
    make_batch,
    our_actor,
    our_critic,
    torchrl_critic,
    total,
)


def make(**kwargs):
    return GroupSACLoss(our_actor(True), our_critic(True, "centralized"), **kwargs)


# -- target entropy ----------------------------------------------------------------------------------------------------

AGENTS = Composite({"action": Bounded(-1, 1, (N, A))}, shape=(N,))
LEAF = Bounded(-1, 1, (N, A))
SPECS = {
    "composite with an agent axis": Composite({GROUP: AGENTS}),
    "composite with environments": Composite(
        {GROUP: Composite({"action": Bounded(-1, 1, (5, N, A))}, shape=(5, N))}, shape=(5,)
    ),
    "composite without an agent axis": Composite({GROUP: Composite({"action": Bounded(-1, 1, (N, A))})}),
    "environments without an agent axis": Composite(
        {GROUP: Composite({"action": Bounded(-1, 1, (5, N, A))}, shape=(5,))}, shape=(5,)
    ),
    "leaf": LEAF,
    "leaf with environments": Bounded(-1, 1, (5, N, A)),
    "leaf of one agent": Bounded(-1, 1, (A,)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_auto_target_entropy_is_minus_the_action_dimensions(spec):
    assert auto_target_entropy(spec, (GROUP, "action"), N) == -A
    assert make(action_spec=spec).target_entropy.item() == -A


def test_auto_target_entropy_of_a_deeper_group():
    nested = Composite({"robots": Composite({"arms": AGENTS})})
    assert auto_target_entropy(nested, ("robots", "arms", "action"), N) == -A


def test_auto_target_entropy_that_cannot_be_told_is_an_error():
    same = Composite({GROUP: Composite({"action": Bounded(-1, 1, (N, N, A))}, shape=(N,))}, shape=(N,))
    for spec in (same, Composite({GROUP: AGENTS})["agents"], None):
        with pytest.raises(ValueError, match=r"Pass action_spec=.*target_entropy="):
            auto_target_entropy(spec, (GROUP, "action"), N)


def test_auto_target_entropy_is_read_from_the_actors_own_spec():
    assert make().target_entropy.item() == -A
    with pytest.raises(ValueError, match="the action spec must have the action"):
        make(action_spec=Composite({GROUP: Composite({"force": LEAF})}))


# -- targets, states, devices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [None, 2], ids=["one_critic_copied", "list"])
def test_soft_update_moves_the_targets_part_of_the_way(number):
    critic = our_critic(True, "centralized")
    critics = critic if number is None else [deepcopy(critic) for _ in range(number)]
    loss = GroupSACLoss(our_actor(True), critics)
    updater = SoftUpdate(loss, tau=0.25)
    for parameter in loss.qvalue_network_params.values(True, True):
        parameter.data.add_(1.0)
    before = loss.target_qvalue_network_params.clone()
    updater.step()
    for key, value in loss.target_qvalue_network_params.items(True, True):
        torch.testing.assert_close(value, before[key] + 0.25)


def test_hard_update_copies():
    loss = make()
    updater = HardUpdate(loss, value_network_update_interval=1)
    for parameter in loss.qvalue_network_params.values(True, True):
        parameter.data.add_(1.0)
    for _ in range(2):
        updater.step()
    for key, value in loss.target_qvalue_network_params.items(True, True):
        torch.testing.assert_close(value, loss.qvalue_network_params[key].data)


def test_without_delay_there_is_no_target_network():
    loss = make(delay_qvalue=False)
    loss(make_batch())
    assert not any(name.startswith("target") for name in loss.state_dict())


@pytest.mark.parametrize("used", [False, True])
def test_a_state_dict_makes_the_round_trip(used):
    first, second = make(alpha_init=0.3), make()
    if used:
        first(make_batch())
    second.load_state_dict(first.state_dict())
    batch = make_batch()
    results = []
    for loss in (first, second):
        torch.manual_seed(0)
        results.append(loss(batch.clone()))
    assert (results[0] == results[1]).all()


def test_a_used_loss_loads_the_state_of_an_unused_one():
    used, fresh = make(), make()
    used(make_batch())
    used.load_state_dict(fresh.state_dict())


def test_it_moves_to_float64():
    loss = make().to(torch.float64)
    batch = make_batch().apply(lambda x: x.double() if x.is_floating_point() else x)
    losses = loss(batch)
    assert losses["loss_actor"].dtype == torch.float64
    total(losses).backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_moves_to_a_gpu():
    loss = make().to("cuda")
    total(loss(make_batch().to("cuda"))).backward()
    assert all(grad.device.type == "cuda" for grad in gradients(loss).values())


def test_it_pickles_for_workers():
    loss = make(skip_done_states="drop")
    copy = pickle.loads(pickle.dumps(loss))
    results = []
    for one in (loss, copy):
        torch.manual_seed(0)
        results.append(one(make_batch()))
    assert (results[0] == results[1]).all()


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_default_from_the_group_and_can_be_set():
    loss = make()
    assert loss.tensor_keys.reward == (GROUP, "reward")
    assert loss.tensor_keys.agent_mask == (GROUP, "mask")
    loss.set_keys(reward="prize", agent_mask="living")
    batch = make_batch()
    expected = make_batch()
    batch["next", "prize"] = batch["next", GROUP].pop("reward")
    batch["living"] = torch.ones(B, N, dtype=torch.bool)
    assert torch.isfinite(loss.target_value(batch)).all()
    loss.set_keys(reward=None)
    assert loss.tensor_keys.reward == (GROUP, "reward")
    loss.target_value(expected)
    with pytest.raises(ValueError, match="not an accepted tensordict key"):
        loss.set_keys(observation="o")


def test_in_keys_are_the_entries_that_are_read():
    loss = make()
    batch = make_batch().select(*loss.in_keys)
    assert set(loss.in_keys) == set(batch.keys(True, True))
    assert loss(batch)["loss_actor"].isfinite()


def test_the_discount_is_set_as_in_torchrl():
    loss = make(gamma=0.5)
    batch = make_batch()
    torch.manual_seed(0)
    half = loss.target_value(batch) - batch["next", GROUP, "reward"]
    loss.make_value_estimator(ValueEstimators.TD0, gamma=0.25)
    torch.manual_seed(0)
    quarter = loss.target_value(batch) - batch["next", GROUP, "reward"]
    torch.testing.assert_close(quarter, half / 2)
    with pytest.raises(NotImplementedError, match="not taken, because"):
        loss.make_value_estimator(ValueEstimators.GAE)


def test_the_temperature_keeps_its_bounds():
    loss = make(alpha_init=1.0, max_alpha=0.5)
    assert loss(make_batch())["alpha"].item() == pytest.approx(0.5)
    loss = make(alpha_init=0.01, min_alpha=0.1)
    assert loss(make_batch())["alpha"].item() == pytest.approx(0.1)


def test_a_fixed_temperature_has_no_gradient():
    loss = make(fixed_alpha=True, alpha_init=0.2)
    assert "log_alpha" not in dict(loss.named_parameters())
    total(loss(make_batch())).backward()
    assert loss.alpha.item() == pytest.approx(0.2)


def test_critics_can_be_given_one_by_one():
    loss = GroupSACLoss(our_actor(True), [our_critic(True, "centralized") for _ in range(3)], num_qvalue_nets=3)
    total(loss(make_batch())).backward()
    assert len(gradients(loss)) == len(list(loss.parameters()))


@pytest.mark.parametrize("n_agents", [1, 2, 3])
@pytest.mark.parametrize("kind", ["independent", "centralized", "pooled", "team"])
def test_a_call_with_keyword_tensors_gives_the_same(n_agents, kind):
    team = {"terminated_reduction": "all", "reward_reduction": "mean"} if kind == "team" else {}
    loss = GroupSACLoss(our_actor(True, n_agents=n_agents), our_critic(True, kind, n_agents=n_agents), **team)
    batch = make_batch(n_agents=n_agents)
    torch.manual_seed(1)
    expected = loss(batch)
    torch.manual_seed(1)
    values = loss(**{"_".join(key): batch[key] for key in loss.in_keys})
    assert len(values) == 5
    for name, value in zip(loss.keyword_out_keys, values, strict=True):
        torch.testing.assert_close(value, expected[name])


def test_a_copy_is_independent_of_the_original():
    foreign = torchrl_critic(True, "independent")
    loss = GroupSACLoss(our_actor(True), foreign)
    copy = deepcopy(loss)
    assert copy.qvalue_network is not loss.qvalue_network
    for parameter in copy.parameters():
        parameter.data.zero_()
    assert all(parameter.abs().sum() > 0 for name, parameter in loss.named_parameters() if "weight" in name)
    pickle.loads(pickle.dumps(loss))(make_batch())


def test_set_keys_restores_the_keys_of_the_networks():
    loss = GroupSACLoss(our_actor(True), our_critic(True, "team"))
    assert loss.tensor_keys.state_action_value == "state_action_value"
    loss.set_keys(state_action_value="q")
    loss.set_keys(state_action_value=None)
    assert loss.tensor_keys.state_action_value == "state_action_value"


def test_the_entries_that_are_read_where_present_are_named():
    row_masks = [("collector", "mask"), ("shifted_valid",)]
    assert make().optional_in_keys == [(GROUP, "mask"), ("priority_weight",), ("steps_to_next_obs",), *row_masks]


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"loss_function": "huber"}, "loss_function must be"),
        ({"reduction": "median"}, "reduction must be"),
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\]"),
        ({"alpha_init": 0.0}, "alpha_init must be greater than 0"),
        ({"min_alpha": -1.0}, "min_alpha must be greater than 0"),
        ({"min_alpha": 2.0, "max_alpha": 1.0}, "min_alpha must be at most max_alpha"),
        ({"actor_gradient": "mine"}, "actor_gradient must be 'own' or 'joint'"),
        ({"terminated_reduction": "some"}, "terminated_reduction must be"),
        ({"reward_reduction": "max"}, "reward_reduction must be"),
        ({"skip_done_states": "yes"}, "skip_done_states must be"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_what_must_hold(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_an_actor_without_a_distribution_is_an_error():
    with pytest.raises(TypeError, match="actor_network must be a ProbabilisticActor"):
        GroupSACLoss(our_critic(True, "team"), our_critic(True, "team"))  # pyright: ignore[reportArgumentType]


def test_a_temperature_per_agent_needs_the_group_size():
    from torch import nn

    from tests.losses.common import actor_of, linear_head

    actor = actor_of(linear_head(nn.Linear(F, 2 * A)))
    with pytest.raises(ValueError, match="alpha_per_agent=True must come with n_agents"):
        GroupSACLoss(actor, our_critic(True, "team"), alpha_per_agent=True, target_entropy=-2.0)


def test_a_wrong_number_of_agents_is_an_error():
    with pytest.raises(ValueError, match="or the loss the right n_agents"):
        make(n_agents=N + 1, action_spec=action_spec())(make_batch())


def test_a_log_prob_per_action_dimension_is_an_error():
    from torch import nn
    from torch.distributions import Normal

    from tests.losses.common import actor_of, linear_head

    actor = actor_of(linear_head(nn.Linear(F, 2 * A)), distribution=Normal)
    for skip in (False, "fill", "drop"):
        loss = GroupSACLoss(actor, our_critic(True, "independent"), target_entropy=-2.0, skip_done_states=skip)
        with pytest.raises(ValueError, match="must give one log-probability per agent"):
            loss(make_batch())


def test_an_empty_batch_and_one_without_next_are_errors():
    with pytest.raises(ValueError, match="must hold at least one row"):
        make()(make_batch(batch=(0,)))
    with pytest.raises(KeyError, match="the loss needs the reward"):
        make()(make_batch().exclude("next"))


def test_a_wrong_number_of_critics_is_an_error():
    with pytest.raises(ValueError, match="Pass num_qvalue_nets=3"):
        GroupSACLoss(our_actor(True), [our_critic(True, "team") for _ in range(3)])


def test_a_critic_of_another_shape_is_an_error():
    critic = torchrl_critic(True, "independent")
    critic.get_submodule("module").network = torch.nn.Linear(F + A, 2)
    with pytest.raises(ValueError, match="a critic must write"):
        GroupSACLoss(our_actor(True), critic)(make_batch())
