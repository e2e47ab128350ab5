"""Whose value an agent's policy follows."""

import pytest
import torch
from tensordict.nn import TensorDictModule

from tests.losses.common import (
    GROUP,
    N,
    gradients,
    make_batch,
    noisy_actor,
    noisy_loss,
    our_critic,
    torchrl_critic,
)


class DrivenByTeammate(torch.nn.Module):
    """Q_0 = w a_1 (the teammate's action), all other values 0: only actor 1 could move it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(100.0))

    def forward(self, action):
        values = torch.zeros_like(action[..., :1])
        driven = self.weight * action[..., 1, :1]
        return torch.cat([driven.unsqueeze(-2), values[..., 1:, :]], dim=-2)


def actor_gradients(critic, actor_gradient):
    torch.manual_seed(0)
    loss = noisy_loss(noisy_actor(False), critic, actor_gradient=actor_gradient, alpha_init=1e-6)
    for parameter in loss.qvalue_network_params.values(True, True):
        if parameter.ndim == 1:
            parameter.data.fill_(100.0)  # TorchRL's expansion resampled it
    loss.actor_loss(make_batch())[0].backward()
    return gradients(loss)


def driven_critic():
    return TensorDictModule(DrivenByTeammate(), in_keys=[(GROUP, "action")], out_keys=[(GROUP, "state_action_value")])


@pytest.mark.usefixtures("float64")
def test_a_value_gives_no_gradient_to_teammates_actors():
    own, joint = actor_gradients(driven_critic(), "own"), actor_gradients(driven_critic(), "joint")
    for name, grad in own.items():
        assert grad.shape[0] == N  # weights per agent
        assert grad[1].abs().max() < 1e-4, name  # the entropy term alone, times α = 1e-6
    assert any(grad[1].abs().max() > 0.1 for grad in joint.values())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["centralized", "pooled"])
@pytest.mark.parametrize("share", [True, False])
def test_own_gradient_equals_one_backward_pass_per_agent(share, kind):
    # The same critic, once as ours (teammates detached in the input), once as a foreign module (N backward passes).
    critic = our_critic(share, kind)
    foreign = TensorDictModule(critic.module, in_keys=critic.in_keys, out_keys=critic.out_keys)
    losses = [noisy_loss(noisy_actor(False), one, target_entropy=-2.0) for one in (critic, foreign)]
    losses[1].load_state_dict(losses[0].state_dict())
    results = []
    for loss in losses:
        value, _ = loss.actor_loss(make_batch())
        value.backward()
        results.append((value, gradients(loss)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    assert results[0][1].keys() == results[1][1].keys()
    for name, grad in results[0][1].items():
        torch.testing.assert_close(grad, results[1][1][name], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("torchrl", [False, True], ids=["masac-critic", "torchrl-critic"])
def test_own_is_not_joint_for_a_centralized_critic(torchrl):
    critic = torchrl_critic(False, "centralized") if torchrl else our_critic(False, "centralized")
    own, joint = actor_gradients(critic, "own"), actor_gradients(critic, "joint")
    assert any((own[name] - joint[name]).abs().max() > 1e-6 for name in own)


def test_the_actor_loss_leaves_the_critics_without_gradient():
    loss = noisy_loss(noisy_actor(True), torchrl_critic(False, "centralized"))
    loss.actor_loss(make_batch())[0].backward()
    assert not any("qvalue" in name for name in gradients(loss))
