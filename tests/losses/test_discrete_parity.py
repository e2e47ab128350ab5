"""Where nobody is done and nothing is masked, GroupDiscreteSACLoss is TorchRL's DiscreteSACLoss."""

import pytest
import torch
from torchrl.objectives import DiscreteSACLoss, ValueEstimators

from masac import GroupDiscreteSACLoss
from tests.losses.common import GROUP, TORCHRL_SHARE_AND_CRITIC, assert_equal_losses_and_gradients
from tests.losses.discrete_common import D, discrete_batch, torchrl_discrete_actor, torchrl_discrete_critic


def both(share, kind, **kwargs):
    actor, critic = torchrl_discrete_actor(share), torchrl_discrete_critic(share, kind)
    theirs = DiscreteSACLoss(actor, critic, action_space="one-hot", num_actions=D, **kwargs)
    theirs.set_keys(**{name: (GROUP, name) for name in ("action", "action_value", "reward", "done", "terminated")})
    theirs.make_value_estimator(ValueEstimators.TD0, gamma=0.97)
    ours = GroupDiscreteSACLoss(actor, critic, action_space="one-hot", num_actions=D, **kwargs)
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
    assert_equal_losses_and_gradients(theirs, ours, discrete_batch(encoding="one-hot"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("share", "kind"), TORCHRL_SHARE_AND_CRITIC)
def test_losses_and_gradients_equal_torchrls_in_float32(share, kind):
    theirs, ours = both(share, kind)
    assert_equal_losses_and_gradients(theirs, ours, discrete_batch(encoding="one-hot"), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("share", "kind"), TORCHRL_SHARE_AND_CRITIC)
def test_truncated_data_equals_torchrls_too(share, kind):
    theirs, ours = both(share, kind)
    batch = discrete_batch(encoding="one-hot", truncated=torch.rand(6, 3, 1) < 0.5)
    assert_equal_losses_and_gradients(theirs, ours, batch, rtol=1e-9, atol=1e-9)


def test_state_dicts_load_into_each_other():
    theirs, ours = both(False, "centralized")
    theirs.load_state_dict(ours.state_dict())
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name])
