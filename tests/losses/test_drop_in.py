"""A call of TorchRL's SACLoss or DiscreteSACLoss is one of the group losses, or an error that says why not."""

import functools
import inspect
import pickle

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import CompositeDistribution, TensorDictModule
from torch import nn
from torch.distributions import Normal
from torchrl.data import Bounded, Composite
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import DiscreteSACLoss, SACLoss, SoftUpdate, ValueEstimators
from torchrl.objectives.value import GAE, TD0Estimator, TD1Estimator, TDLambdaEstimator

from masac import GroupDiscreteSACLoss, GroupSACLoss, MultiGroupLoss
from tests.losses.common import (
    GROUP,
    A,
    B,
    F,
    N,
    action_spec,
    make_batch,
    our_actor,
    our_critic,
    torchrl_actor,
    torchrl_critic,
    total,
)
from tests.losses.discrete_common import (
    D,
    discrete_batch,
    our_discrete_actor,
    our_discrete_critic,
    torchrl_discrete_actor,
    torchrl_discrete_critic,
)


def make(**kwargs):
    return GroupSACLoss(our_actor(True), our_critic(True, "independent"), **kwargs)


def make_discrete(masked=False, **kwargs):
    critic = our_discrete_critic(True, "independent")
    return GroupDiscreteSACLoss(
        our_discrete_actor(True, masked=masked), critic, action_space="categorical", num_actions=D, **kwargs
    )


def pair(kind):
    """TorchRL's loss and ours, of the same networks."""
    if kind == "continuous":
        actor, critic = torchrl_actor(True), torchrl_critic(True, "independent")
        theirs = SACLoss(actor, critic, action_spec=action_spec())
        return theirs, GroupSACLoss(actor, critic, action_spec=action_spec())
    actor, critic = torchrl_discrete_actor(True), torchrl_discrete_critic(True, "independent")
    settings = {"action_space": "one-hot", "num_actions": D}
    return DiscreteSACLoss(actor, critic, **settings), GroupDiscreteSACLoss(actor, critic, **settings)


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), [(SACLoss, make), (DiscreteSACLoss, make_discrete)])
def test_every_argument_of_torchrl_is_taken_with_its_default(theirs, ours):
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(theirs.__init__).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in ("action_space", "num_actions")
    }
    assert len(defaults) > 15
    ours(**defaults)


def test_a_third_argument_is_the_value_network_as_in_torchrl():
    GroupSACLoss(our_actor(True), our_critic(True, "team"), None)
    with pytest.raises(ValueError, match="value_network=a Linear is not taken, because it belongs to the first SAC"):
        GroupSACLoss(our_actor(True), our_critic(True, "team"), nn.Linear(2, 1))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("make_loss", [make, make_discrete])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"delay_actor": True},
        {"priority_key": "priority"},
        {"separate_losses": True},
        {"scalar_output_mode": "tensor"},
    ],
)
def test_what_would_change_something_is_not_taken_and_says_why(make_loss, kwargs):
    with pytest.raises(ValueError, match=f"{next(iter(kwargs))}=.* is not taken, because "):
        make_loss(**kwargs)


def test_an_argument_of_nobody_is_named():
    with pytest.raises(TypeError, match="GroupSACLoss has no argument 'delay_qvalues'"):
        make(delay_qvalues=True)


def test_composite_actions_and_binary_ones_are_not_taken():
    def composite(key, names):
        module = TensorDictModule(nn.Linear(F, A), [(GROUP, "observation")], [("params", "loc"), ("params", "scale")])
        kwargs = {"distribution_map": dict.fromkeys(names, Normal)}
        return ProbabilisticActor(
            module,
            in_keys=["params"],
            out_keys=key,
            distribution_class=CompositeDistribution,
            distribution_kwargs=kwargs,
        )

    force, word = (GROUP, "action", "force"), (GROUP, "action", "word")
    for keys, as_partial in (([force], False), ([force, word], False), ([force], True)):
        actor = composite(keys, [key[-1] for key in keys])
        if as_partial:  # as in TorchRL's tests
            actor[-1].distribution_class = functools.partial(CompositeDistribution)
        with pytest.raises(ValueError, match=r"a composite action \(.*force.*\) is not taken, because"):
            GroupSACLoss(actor, our_critic(True, "team"))
    with pytest.raises(ValueError, match="action_space='binary' is not taken, because"):
        GroupDiscreteSACLoss(our_discrete_actor(True), our_discrete_critic(True, "independent"), action_space="binary")


@pytest.mark.parametrize("name", ["multi_categorical", "multi-discrete", "mult_one_hot", "multi-one-hot", None])
def test_torchrls_names_of_action_spaces_are_taken_and_told(name):
    loss = GroupDiscreteSACLoss(
        our_discrete_actor(True), our_discrete_critic(True, "independent"), action_space=name, num_actions=D
    )
    told = {None: "one_hot", "multi-discrete": "multi_categorical", "multi-one-hot": "mult_one_hot"}
    assert loss.action_space == told.get(name, name)


@pytest.mark.parametrize("kwargs", [{"min_alpha": 0.1}, {"max_alpha": 2.0}, {"min_alpha": 0.0, "max_alpha": 2.0}])
def test_bounds_of_the_temperature_have_torchrls_state(kwargs):
    actor, critic = torchrl_actor(True), torchrl_critic(True, "independent")
    theirs = SACLoss(actor, critic, action_spec=action_spec(), **kwargs)
    ours = GroupSACLoss(actor, critic, action_spec=action_spec(), **kwargs)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


# -- attributes and methods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_every_public_name_of_torchrls_loss_is_there(kind):
    theirs, ours = pair(kind)
    of_the_first_sac = {"qvalue_v1_loss", "value_loss"}
    missing = {name for name in set(dir(theirs)) - set(dir(ours)) if not name.startswith("_")}
    assert missing <= of_the_first_sac
    names = ("fixed_alpha", "delay_actor", "delay_qvalue", "skip_done_states", "_alpha", "num_qvalue_nets", "reduction")
    for name in (*names, "target_entropy", *(["target_entropy_buffer", "device"] if kind == "continuous" else [])):
        assert getattr(ours, name) == getattr(theirs, name), name
    supported = ours.SUPPORTED_VALUE_ESTIMATORS
    assert set(supported) == set(getattr(theirs, "SUPPORTED_VALUE_ESTIMATORS", supported))  # TorchRL 0.11 has none
    if kind == "discrete":
        assert ours.action_space == theirs.action_space


def test_the_terms_one_by_one_are_torchrls():
    theirs, ours = pair("continuous")
    ours.actor_gradient = "joint"
    names = ("action", "state_action_value", "reward", "done", "terminated", "value")
    theirs.set_keys(**{name: (GROUP, name) for name in names})
    ours.set_keys(**{name: (GROUP, name) for name in names})  # `value` too, which nothing reads
    theirs.make_value_estimator(gamma=0.99)
    SoftUpdate(theirs, tau=0.1)
    SoftUpdate(ours, tau=0.1)
    ours.load_state_dict(theirs.state_dict())
    results = []
    for loss in (theirs, ours):
        torch.manual_seed(0)
        critic, _ = loss.qvalue_v2_loss(make_batch())
        actor, said = loss.actor_loss(make_batch())
        results.append([critic, actor, said["log_prob"], loss.alpha_loss(log_prob=said["log_prob"])])
    for their, our in zip(*results, strict=True):
        torch.testing.assert_close(our, their)


def test_the_temperatures_loss_takes_one_temperature_an_agent():
    loss = make(alpha_per_agent=True, target_entropy=-2.0)
    loss.log_alpha.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    expected = torch.tensor([[3.0, 6.0, 9.0]])  # -log α (log π + H) = -log α (-1 - 2)
    torch.testing.assert_close(loss.alpha_loss(torch.full((1, N), -1.0)), expected)
    torch.testing.assert_close(loss.alpha_loss(torch.full((1, N, 1), -1.0)), expected.unsqueeze(-1))


def test_skip_done_states_can_be_set_later():
    loss = make()
    loss.skip_done_states = "drop"
    assert loss.skip_mode == "drop"
    with pytest.raises(ValueError, match="skip_done_states must be"):
        loss.skip_done_states = "yes"


def test_unreduced_losses_give_non_tensors_if_asked():
    out = make(reduction="none", scalar_output_mode="non_tensor", alpha_init=0.5)(make_batch())
    assert out.batch_size == (B,)
    assert out["alpha"].item() == pytest.approx(0.5)
    assert out["entropy"].shape == ()
    for mode in (None, "exclude"):
        assert "alpha" not in make(reduction="none", scalar_output_mode=mode)(make_batch())


# -- calls with keyword tensors ----------------------------------------------------------------------------------------


def call_with_keywords(loss, batch, *left_out):
    keys = [key if isinstance(key, tuple) else (key,) for key in batch.keys(True, True)]
    keys = [key for key in keys if key[-1] not in ("truncated", "noise")]  # which no loss reads
    torch.manual_seed(1)
    values = loss(**{"_".join(key): batch[key] for key in keys if "_".join(key) not in left_out})
    torch.manual_seed(1)
    expected = loss(batch.clone())
    for name, value in zip(loss.keyword_out_keys, values, strict=True):
        torch.testing.assert_close(value, expected[name])
    return dict(zip(loss.keyword_out_keys, values, strict=True))


def test_keywords_name_masks_and_done_flags_and_the_row_weights():
    batch = make_batch()
    dead = torch.zeros(B, N, dtype=torch.bool)
    dead[0, 0] = True
    batch["next", GROUP, "done"] = batch["next", GROUP, "terminated"].clone()
    batch["next", "done"] = torch.zeros(B, 1, dtype=torch.bool)
    unmasked = call_with_keywords(make(), batch)
    batch[GROUP, "mask"] = ~dead
    batch[GROUP, "observation"][dead] = torch.nan  # keywords that were not read would make the losses NaN
    batch["priority_weight"] = torch.rand(B)
    batch["steps_to_next_obs"] = torch.full((B,), 2)
    masked = call_with_keywords(make(), batch)
    assert all(value.isfinite() for value in masked.values())
    assert masked["loss_qvalue"] != unmasked["loss_qvalue"]


def test_keywords_name_the_signals_of_the_team():
    batch = make_batch()
    for name in ("reward", "terminated"):
        batch["next", name] = batch["next", GROUP].pop(name)[:, 0]
    batch["next", "done"] = batch["next", "terminated"].clone()
    call_with_keywords(make(), batch)


def test_keywords_name_the_masks_of_actions():
    batch = discrete_batch(action_mask=True)
    losses = call_with_keywords(make_discrete(masked=True), batch)
    assert losses["entropy"].isfinite()
    with pytest.raises(KeyError, match="must exist in both states"):
        call_with_keywords(make_discrete(masked=True), batch, f"next_{GROUP}_action_mask")


def test_keywords_of_several_groups():
    loss = MultiGroupLoss([make()])
    batch = make_batch()
    batch[GROUP, "mask"] = torch.ones(B, N, dtype=torch.bool)
    batch["next", GROUP, "done"] = batch["next", GROUP, "terminated"]
    torch.manual_seed(1)
    keys = [key for key in batch.keys(True, True) if key[-1] not in ("truncated", "noise")]
    of_group, summed = loss(**{"_".join(key): batch[key] for key in keys})
    torch.manual_seed(1)
    expected = loss(batch.clone())
    torch.testing.assert_close(summed, expected["loss"])
    torch.testing.assert_close(of_group["loss_actor"], expected[GROUP, "loss_actor"])


# -- target entropy ----------------------------------------------------------------------------------------------------


def unknown_spec(**kwargs):
    return GroupSACLoss(torchrl_actor(True), torchrl_critic(True, "independent"), **kwargs)


def test_a_loss_is_built_before_its_spec_is_known():
    loss = unknown_spec()
    assert loss._target_entropy == "auto"
    with pytest.raises(ValueError, match="must be given an action spec"):
        loss(make_batch())
    pickle.loads(pickle.dumps(loss))
    loss._action_spec = Composite({GROUP: Composite({"action": Bounded(-1, 1, (N, A))}, shape=(N,))})
    assert loss.target_entropy.item() == -A
    total(loss(make_batch())).backward()
    loss.to(torch.float64)
    assert loss.target_entropy.dtype == torch.float64


def test_a_spec_that_is_set_later_is_honoured():
    loss = make()
    assert loss.target_entropy.item() == -A
    loss._action_spec = Bounded(-1, 1, (N, 5))
    assert loss.target_entropy.item() == -5
    number = make(target_entropy=-0.5)
    number._action_spec = Bounded(-1, 1, (N, 5))
    assert number.target_entropy.item() == -0.5


def test_a_state_brings_a_target_entropy_that_was_not_known():
    known, unknown = unknown_spec(action_spec=action_spec()), unknown_spec()
    assert "_target_entropy" not in unknown.state_dict()
    MultiGroupLoss([unknown]).load_state_dict(MultiGroupLoss([known]).state_dict())
    assert unknown.target_entropy.item() == -A


# -- value estimators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [ValueEstimators.TD0, "TD0", "td0", TD0Estimator, TD0Estimator(gamma=0.5, value_network=None)],  # pyright: ignore
)
def test_an_estimator_is_named_in_any_of_four_ways(estimator):
    loss = make()
    hyperparams = {} if isinstance(estimator, TD0Estimator) else {"gamma": 0.5}
    assert loss.make_value_estimator(estimator, **hyperparams) is loss
    batch = make_batch()
    other = make(gamma=0.5)
    other.load_state_dict(loss.state_dict())
    targets = []
    for one in (loss, other):
        torch.manual_seed(0)
        targets.append(one.target_value(batch))
    torch.testing.assert_close(*targets)
    bootstrap = targets[0] - batch["next", GROUP, "reward"]
    loss.value_estimator.gamma.fill_(0.25)
    torch.manual_seed(0)
    torch.testing.assert_close(loss.target_value(batch) - batch["next", GROUP, "reward"], bootstrap / 2)


@pytest.mark.parametrize("estimator", [ValueEstimators.TD1, "td1", TD1Estimator])
def test_td1_is_the_lambda_return_of_lambda_one(estimator):
    loss = make()
    batch = make_batch(batch=(2, B))
    batch["next", GROUP, "done"] = batch["next", GROUP, "terminated"]
    targets = []
    for kind, hyperparams in ((estimator, {}), (TDLambdaEstimator, {"lmbda": 1.0})):
        loss.make_value_estimator(kind, gamma=0.9, **hyperparams)
        torch.manual_seed(0)
        targets.append(loss.target_value(batch))
    torch.testing.assert_close(*targets)


@pytest.mark.parametrize(
    ("estimator", "hyperparams", "error"),
    [
        (ValueEstimators.GAE, {}, NotImplementedError),
        ("gae", {}, NotImplementedError),
        ("td2", {}, NotImplementedError),
        (GAE, {"gamma": 0.9, "lmbda": 0.9}, NotImplementedError),
        (type("Own", (TD0Estimator,), {}), {"gamma": 0.9}, NotImplementedError),
        (ValueEstimators.TD0, {"average_rewards": True}, ValueError),
        (ValueEstimators.TDLambda, {"time_dim": 0}, ValueError),
        (TD0Estimator(gamma=0.5, value_network=None), {"gamma": 0.9}, ValueError),  # pyright: ignore
    ],
)
def test_an_estimator_that_would_change_targets_is_not_taken(estimator, hyperparams, error):
    with pytest.raises(error, match="not taken, because"):
        make().make_value_estimator(estimator, **hyperparams)


def test_an_estimator_registered_in_torchrl_is_taken():
    registry = pytest.importorskip("torchrl.objectives.utils")
    if not hasattr(registry, "register_value_estimator"):
        pytest.skip("this TorchRL has no registry of value estimators")
    registry.register_value_estimator("one step", default_kwargs={"gamma": 0.25})(TD0Estimator)
    loss = make(gamma=0.9)
    loss.make_value_estimator("one step", gamma=0.25)
    assert loss.value_estimator.gamma.item() == 0.25
    assert isinstance(TensorDict(loss.state_dict(), []), TensorDict)


# -- torch.compile -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch._dynamo.config.inline_inbuilt_nn_modules is deprecated")
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_a_users_torch_compile_makes_one_graph_without_checks(kind):
    torch.compiler.reset()
    if kind == "continuous":
        loss, batch = make(skip_done_states="fill"), make_batch(mask=torch.rand(B, N) < 0.7)
    else:
        loss, batch = make_discrete(masked=True, skip_done_states="fill"), discrete_batch(action_mask=True)
    SoftUpdate(loss, tau=0.1)
    compiled = torch.compile(lambda data: loss(data), fullgraph=True, backend="aot_eager")
    results, gradients = [], []
    for forward in (loss, compiled):
        torch.manual_seed(0)
        results.append(forward(batch.clone()))
        loss.zero_grad()
        total(results[-1]).backward()
        gradients.append({name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None})
    if kind == "discrete":  # nothing is drawn: the numbers are the same
        torch.testing.assert_close(dict(results[1].items()), dict(results[0].items()))
        torch.testing.assert_close(gradients[1], gradients[0])
        batch[GROUP, "action"][0, 1] = D
        compiled(batch.clone())
        with pytest.raises(ValueError, match=f"agent 1 of group '{GROUP}' must have taken one of"):
            loss(batch.clone())
    assert gradients[1].keys() == gradients[0].keys()
