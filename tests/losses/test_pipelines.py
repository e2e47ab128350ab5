"""The loss where TorchRL's users put it: prioritized buffers, trainers, copies, compilers, networks of all kinds."""

import warnings

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import LazyTensorStorage, PrioritizedSampler, TensorDictReplayBuffer
from torchrl.objectives import SACLoss, SoftUpdate

from masac import GroupSACLoss
from tests.losses.common import (
    GROUP,
    A,
    B,
    F,
    make_batch,
    one_agents_networks,
    our_actor,
    our_critic,
    torchrl_actor,
    torchrl_critic,
    total,
)


def make(**kwargs):
    return GroupSACLoss(our_actor(True), our_critic(True, "centralized"), **kwargs)


# -- prioritized replay ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_importance_weights_act_as_torchrls_do_for_one_agent(reduction):
    settings = {"target_entropy": -2.0, "reduction": reduction}
    theirs = SACLoss(*one_agents_networks(None), **settings)
    ours = GroupSACLoss(*one_agents_networks(GROUP), **settings)
    ours.load_state_dict(theirs.state_dict())
    batch = make_batch(n_agents=1)
    batch["priority_weight"] = torch.rand(B)
    agent = TensorDict(
        {
            "observation": batch[GROUP, "observation"].squeeze(1),
            "action": batch[GROUP, "action"].squeeze(1),
            "priority_weight": batch["priority_weight"],
            "next": {
                name: batch["next", GROUP, name].squeeze(1) for name in ("observation", "reward", "terminated", "done")
            },
        },
        [B],
    )
    torch.manual_seed(1)
    expected = theirs(agent)
    torch.manual_seed(1)
    losses = ours(batch)
    for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
        torch.testing.assert_close(losses[name], expected[name])
    torch.testing.assert_close(batch["td_error"], agent["td_error"])
    unweighted = ours(batch.exclude("priority_weight"))
    assert not torch.isclose(unweighted["loss_qvalue"], losses["loss_qvalue"])


def prioritized_buffer():
    try:
        sampler = PrioritizedSampler(max_capacity=50, alpha=1.0, beta=1.0)
    except RuntimeError as error:
        pytest.skip(f"TorchRL's C++ extension does not load: {error}")
    return TensorDictReplayBuffer(
        storage=LazyTensorStorage(50), sampler=sampler, batch_size=200, priority_key="td_error"
    )


def test_a_prioritized_buffer_draws_rows_of_large_error():
    buffer = prioritized_buffer()
    rows = make_batch(batch=(50,))
    rows["next", GROUP, "reward"][7] = 1000.0  # far from any value
    buffer.extend(rows)
    loss = make()
    every_row = buffer[:]  # so that no row is left with the priority of a new one
    loss(every_row)
    buffer.update_priority(torch.arange(50), every_row["td_error"])
    for _ in range(3):
        batch = buffer.sample()
        assert batch["priority_weight"].shape == (200,)
        total(loss(batch)).backward()
        assert batch["td_error"].shape == (200,)
        buffer.update_tensordict_priority(batch)
    drawn = (buffer.sample()["index"] == 7).float().mean().item()
    assert drawn > 0.5  # 1 of 50 rows


# -- a LossModule ------------------------------------------------------------------------------------------------------


def test_nothing_but_the_priority_is_written_into_the_input():
    batch = make_batch()
    before = batch.clone()
    make()(batch)
    assert set(batch.keys(True, True)) - set(before.keys(True, True)) == {"td_error"}
    assert bool((batch.exclude("td_error") == before).all())


def test_in_keys_are_all_that_forward_needs_and_each_is_needed():
    loss, batch = make(), make_batch()
    loss(batch.select(*loss.in_keys))
    for key in loss.in_keys:
        with pytest.raises(KeyError, match=key[-1]):
            loss(batch.select(*loss.in_keys).exclude(key))


@pytest.mark.parametrize("selected", [("loss_actor", "loss_qvalue"), ("td_error",)])
def test_out_keys_can_be_selected_as_in_torchrl(selected):
    loss, batch = make().select_out_keys(*selected), make_batch()
    torch.manual_seed(1)
    losses = loss(batch)
    assert set(losses.keys()) == set(selected)
    torch.manual_seed(1)
    tensors = loss(**{"_".join(key): batch[key] for key in loss.in_keys})
    for name, value in zip(selected, tensors if len(selected) > 1 else [tensors], strict=True):
        torch.testing.assert_close(value, losses[name])


def test_without_a_target_updater_it_warns_as_torchrl_does():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()(make_batch())
    assert any("No target network updater has been associated" in str(warning.message) for warning in caught)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss = make()
        SoftUpdate(loss, tau=0.1)
        loss(make_batch())
    assert not any("No target network updater" in str(warning.message) for warning in caught)


def test_the_networks_that_were_passed_learn():
    actor, critic = torchrl_actor(True), torchrl_critic(True, "centralized")
    loss = GroupSACLoss(actor, critic, target_entropy=-2.0)
    batch = make_batch()
    loc, value = actor(batch.clone())[GROUP, "loc"], [p.clone() for p in loss.qvalue_network_params.parameters()]
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    total(loss(batch)).backward()
    optimizer.step()
    assert not torch.allclose(actor(batch.clone())[GROUP, "loc"], loc)  # the same parameters, not copies
    assert all(
        not torch.equal(new, old) for new, old in zip(loss.qvalue_network_params.parameters(), value, strict=True)
    )


def test_each_loss_trains_its_own_parameter_group():
    loss = make()
    groups = {
        "loss_actor": list(loss.actor_network_params.parameters()),
        "loss_qvalue": list(loss.qvalue_network_params.parameters()),
        "loss_alpha": [loss.log_alpha],
    }
    assert {id(p) for group in groups.values() for p in group} == {id(p) for p in loss.parameters()}
    for name, own in groups.items():
        loss.zero_grad()
        loss(make_batch())[name].backward()
        others = [p for other, group in groups.items() if other != name for p in group]
        assert all(p.grad is not None for p in own)
        assert all(p.grad is None for p in others)


@pytest.mark.parametrize("skip", [False, "fill", "drop"])
def test_dropout_in_networks_draws_anew_for_every_critic(skip):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(F + A, 16), nn.Dropout(0.5), nn.Linear(16, 1))

        def forward(self, observation, action):
            return self.net(torch.cat([observation, action], -1))

    critic = TensorDictModule(
        Dropped(), in_keys=[(GROUP, "observation"), (GROUP, "action")], out_keys=[(GROUP, "state_action_value")]
    )
    loss = GroupSACLoss(our_actor(True), critic, skip_done_states=skip)
    batch = make_batch()
    first, second = (loss(batch.clone())["loss_qvalue"] for _ in range(2))
    assert not torch.equal(first, second)
    total(loss(batch)).backward()
    loss.eval()
    torch.manual_seed(0)
    first = loss.qvalue_loss(batch)[0]
    torch.manual_seed(0)
    assert torch.equal(first, loss.qvalue_loss(batch)[0])


def test_it_moves_to_another_dtype_whole():
    loss = make(alpha_per_agent=True, min_alpha=0.1, max_alpha=2.0).to(torch.float64)
    floating = [value for value in loss.state_dict().values() if torch.is_tensor(value) and value.is_floating_point()]
    assert floating
    assert all(value.dtype == torch.float64 for value in floating)


@pytest.mark.slow
def test_torch_compile_of_the_loss_gives_the_same():
    loss = make(skip_done_states="fill")
    batch = make_batch(terminated=torch.rand(B, 3, 1) < 0.3)
    torch.manual_seed(1)
    expected = loss(batch.clone())
    total(expected).backward()
    gradients = [p.grad.clone() for p in loss.parameters()]
    loss.zero_grad()
    compiled = torch.compile(loss, options={"fallback_random": True})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own
        torch.manual_seed(1)
        losses = compiled(batch.clone())
        total(losses).backward()
    for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-5, atol=1e-6)
    for parameter, gradient in zip(loss.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:The '(optimizer|post_loss)' hook stage:FutureWarning"
)  # what replaces it is not in 0.11
def test_torchrls_trainer_runs_it_with_its_hooks():
    pytest.importorskip("vmas")
    from torchrl.collectors import Collector
    from torchrl.data import ReplayBuffer
    from torchrl.envs import InitTracker, TransformedEnv, VmasEnv
    from torchrl.trainers import ReplayBufferTrainer, Trainer
    from torchrl.trainers.trainers import TargetNetUpdaterHook

    from masac import ModelConfig, make_critic, make_tanh_normal_actor

    env = TransformedEnv(VmasEnv("navigation", num_envs=4, seed=0), InitTracker())
    spec = env.full_action_spec_unbatched["agents", "action"]
    sizes = {
        "group": "agents",
        "n_agents": spec.shape[0],
        "observation_dim": env.observation_spec["agents", "observation"].shape[-1],
        "share_params": True,
        "model": ModelConfig(hidden=(16,)),
    }
    actor = make_tanh_normal_actor(action_spec=spec, **sizes)
    loss = GroupSACLoss(actor, make_critic("centralized", action_dim=2, **sizes), target_entropy=-2.0)
    updater = SoftUpdate(loss, tau=0.5)
    watched = (loss.qvalue_network_params, loss.target_qvalue_network_params, loss.actor_network_params)
    before = [[p.detach().clone() for p in params.values(True, True)] for params in watched]
    trainer = Trainer(
        collector=Collector(env, actor, frames_per_batch=16, total_frames=64),
        total_frames=64,
        frame_skip=1,
        optim_steps_per_batch=2,
        loss_module=loss,
        optimizer=torch.optim.Adam(loss.parameters(), lr=1e-2),
        progress_bar=False,
    )
    buffer = ReplayBufferTrainer(ReplayBuffer(storage=LazyTensorStorage(100), batch_size=8), flatten_tensordicts=True)
    buffer.register(trainer)
    trainer.register_op("post_optim", TargetNetUpdaterHook(updater))
    trainer.train()
    for old, params in zip(before, watched, strict=True):
        now = list(params.values(True, True))
        assert all(not torch.equal(one, other) for one, other in zip(old, now, strict=True))
