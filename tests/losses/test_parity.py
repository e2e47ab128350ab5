"""Where nobody is done, GroupSACLoss is TorchRL's SACLoss."""

import pytest
import torch
from torchrl.objectives import SACLoss, ValueEstimators

from masac import GroupSACLoss
from tests.losses.common import (
    GROUP,
    TORCHRL_SHARE_AND_CRITIC,
    action_spec,
    assert_equal_losses_and_gradients,
    make_batch,
    torchrl_actor,
    torchrl_critic,
)


def torchrl_loss(actor, critic, **kwargs):
    loss = SACLoss(actor, critic, action_spec=action_spec(), **kwargs)
    names = ("action", "state_action_value", "reward", "done", "terminated")
    loss.set_keys(**{name: (GROUP, name) for name in names})
    loss.make_value_estimator(ValueEstimators.TD0, gamma=0.97)
    return loss


def both(share, kind, **kwargs):
    actor, critic = torchrl_actor(share), torchrl_critic(share, kind)
    theirs = torchrl_loss(actor, critic, **kwargs)
    ours = GroupSACLoss(actor, critic, action_spec=action_spec(), actor_gradient="joint", **kwargs)
    ours.make_value_estimator(ValueEstimators.TD0, gamma=0.97)
    for parameter in theirs.target_qvalue_network_params.values(True, True):
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("share", "kind"), TORCHRL_SHARE_AND_CRITIC)
@pytest.mark.parametrize("loss_function", ["smooth_l1", "l2"])
def test_losses_and_gradients_equal_torchrls_in_float64(share, kind, loss_function):
    theirs, ours = both(share, kind, loss_function=loss_function)
    assert_equal_losses_and_gradients(theirs, ours, make_batch(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("share", "kind"), TORCHRL_SHARE_AND_CRITIC)
def test_losses_and_gradients_equal_torchrls_in_float32(share, kind):
    theirs, ours = both(share, kind)
    assert_equal_losses_and_gradients(theirs, ours, make_batch(), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("share", "kind"), TORCHRL_SHARE_AND_CRITIC)
def test_truncated_data_equals_torchrls_too(share, kind):
    theirs, ours = both(share, kind)
    truncated = torch.rand(6, 3, 1) < 0.5
    assert_equal_losses_and_gradients(theirs, ours, make_batch(truncated=truncated), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_own_and_joint_gradients_agree_for_independent_critics():
    theirs, ours = both(False, "independent")
    ours.actor_gradient = "own"
    assert_equal_losses_and_gradients(theirs, ours, make_batch(), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_without_vmap_the_losses_are_the_same():
    actor, critic = torchrl_actor(True), torchrl_critic(True, "centralized")
    mapped = GroupSACLoss(actor, critic, action_spec=action_spec())
    looped = GroupSACLoss(actor, critic, action_spec=action_spec(), deactivate_vmap=True)
    looped.load_state_dict(mapped.state_dict())
    values = []
    for loss in (mapped, looped):
        torch.manual_seed(1)
        values.append(loss(make_batch())["loss_qvalue"])
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)


def test_state_dicts_load_into_each_other():
    theirs, ours = both(False, "centralized")
    theirs.load_state_dict(ours.state_dict())
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    bounded, spec = {"min_alpha": 0.01, "max_alpha": 2.0}, action_spec()
    theirs = SACLoss(torchrl_actor(True), torchrl_critic(True, "independent"), action_spec=spec, **bounded)
    theirs.set_keys(action=(GROUP, "action"))
    ours = GroupSACLoss(torchrl_actor(True), torchrl_critic(True, "independent"), action_spec=spec, **bounded)
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name])
