"""Rows that TorchRL masks: nobody is alive there, in any term, whatever they hold."""

import inspect
import pickle

import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.collectors.utils import split_trajectories
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import InitTracker, StepCounter, TransformedEnv
from torchrl.objectives import SACLoss, ValueEstimators
from torchrl.objectives import common as torchrl_common

from masac import GroupSACLoss, MultiGroupLoss, UpdateStep, make_critic, make_tanh_normal_actor
from masac.losses.padded_rows import AUTO_ROW_MASKS
from tests.losses import two_groups
from tests.losses.common import (
    GROUP,
    MODEL,
    NETWORKS,
    B,
    N,
    critic_of,
    gradients,
    make_batch,
    noisy_actor,
    noisy_loss,
    one_agents_networks,
    our_critic,
    total,
)
from tests.losses.discrete_common import discrete_batch, discrete_loss, our_discrete_actor, our_discrete_critic

MASK = ("collector", "mask")
NAN = float("nan")
LENGTHS = torch.tensor([5, 2, 3, 1])
PADDED = torch.arange(5) < LENGTHS.unsqueeze(1)
"""Four trajectories of five steps at most, bool [4, 5]."""


def spoil(batch, rows, garbage):
    """Writes what may not matter into rows; flags become True, integers (actions) -1."""
    for value in batch.values(True, True):
        value[rows] = garbage if value.is_floating_point() else True if value.dtype is torch.bool else -1
    return batch


def last_rows_masked(batch):
    real = torch.ones(B, dtype=torch.bool)
    real[-2:] = False
    batch[MASK] = real
    return batch


def assert_equal(losses, expected):
    assert set(losses.keys(True, True)) == set(expected.keys(True, True))
    for key in expected.keys(True, True):
        torch.testing.assert_close(
            losses[key], expected[key], rtol=1e-9, atol=1e-9, msg=lambda text, k=key: f"{k} {text}"
        )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", [False, "fill", "drop"])
@pytest.mark.parametrize(("torchrl", "share", "kind"), NETWORKS)
def test_a_batch_with_masked_rows_gives_what_its_other_rows_give(torchrl, share, kind, skip):
    loss = noisy_loss(noisy_actor(share, torchrl=torchrl), critic_of(torchrl, share, kind), skip_done_states=skip)
    alive = torch.rand(4, 5, N, 1) < 0.8
    batch = make_batch(batch=(4, 5), mask=alive, terminated=torch.rand(4, 5, N, 1) < 0.3)
    batch["priority_weight"] = torch.rand(4, 5)
    rows = batch[PADDED]
    expected = loss(rows)
    total(expected).backward()
    expected_gradients = gradients(loss)
    for garbage, shape in ((1e3, (4, 5)), (NAN, (4, 5, 1))):
        loss.zero_grad()
        padded = spoil(batch.clone(), ~PADDED, garbage)
        padded[MASK] = PADDED.reshape(shape)
        losses = loss(padded)
        assert_equal(losses, expected)
        total(losses).backward()
        for name, gradient in gradients(loss).items():
            torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(padded["td_error"][PADDED], rows["td_error"])
        assert (padded["td_error"][~PADDED] == 0).all()
        assert (loss.target_value(padded)[~PADDED] == 0).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", [False, "fill", "drop"])
@pytest.mark.parametrize("encoding", ["categorical", "one-hot", "multi-discrete"])
def test_masked_rows_of_discrete_actions_count_nowhere(encoding, skip):
    width = 5 if encoding == "multi-discrete" else 4
    actor = our_discrete_actor(True, encoding=encoding, masked=True)
    critic = our_discrete_critic(False, "independent", n_actions=width)
    loss = discrete_loss(actor, critic, encoding=encoding, skip_done_states=skip)
    batch = discrete_batch(encoding=encoding, action_mask=True, mask=torch.rand(B, N, 1) < 0.8)
    expected = loss(batch[:-2])
    padded = last_rows_masked(spoil(batch, torch.arange(B) >= B - 2, NAN))
    for where in (GROUP, ("next", GROUP)):
        padded[where]["action_mask"][-2:] = False  # no action is legal there, and that of the data is none there is
    assert_equal(loss(padded), expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["independent", "centralized", "team"])
def test_a_lambda_return_bootstraps_at_the_last_row_that_counts(kind):
    team = {"terminated_reduction": "all", "reward_reduction": "mean"} if kind == "team" else {}
    loss = noisy_loss(noisy_actor(True), our_critic(True, kind), **team)
    loss.make_value_estimator(ValueEstimators.TDLambda, gamma=0.9, lmbda=0.8)
    batch = make_batch(batch=(4, 5))
    alone = [loss.target_value(batch[row : row + 1, :length])[0] for row, length in enumerate(LENGTHS)]
    padded = spoil(batch.clone(), ~PADDED, NAN)
    padded[MASK] = PADDED
    together = loss.target_value(padded)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(together[row, :length], alone[row])
    assert_equal(loss(padded), padded_by_hand(loss, batch, alone))


def padded_by_hand(loss, batch, targets):
    """What the loss gives for the rows that count with targets that are their rewards."""
    rows = batch[PADDED]
    loss.make_value_estimator(ValueEstimators.TD0, gamma=0.0)
    rewards = torch.cat(targets)
    team = rewards.shape[1:] == (1,)
    rows["next", GROUP, "reward"] = rewards.unsqueeze(1).expand(-1, N, 1).clone() if team else rewards
    return loss(rows)


@pytest.mark.parametrize("critic_sees", ["group", "all_groups"])
def test_a_masked_row_is_masked_for_every_group(critic_sees):
    loss = two_groups.both(critic_sees)
    batch = two_groups.make_batch()
    ended = {"wolves": torch.rand(6, 3, 1) < 0.5, "sheep": torch.rand(6, 2, 1) < 0.5}
    results = []
    for garbage in (0.0, NAN):
        batch = last_rows_masked(spoil(two_groups.make_batch(terminated=ended), torch.arange(6) >= 4, garbage))
        torch.manual_seed(1)  # of as many rows, so that the same actions are drawn
        losses = loss(batch)
        loss.zero_grad()
        losses["loss"].backward()
        results.append((losses.detach(), {name: p.grad.clone() for name, p in loss.named_parameters()}))
        assert (batch["td_error"][-2:] == 0).all()
        assert (loss.target_value(batch)["wolves"][-2:] == 0).all()
    assert results[0][0]["loss"].isfinite()
    assert results[0][0]["wolves", "fraction_masked"].item() == 0
    for first, second in zip(*results, strict=True):
        for key in first.keys(True, True) if isinstance(first, TensorDict) else first:
            torch.testing.assert_close(second[key], first[key])


def test_the_row_mask_of_several_groups_is_one():
    loss = two_groups.both()
    assert loss.loss_mask_key == "auto"
    loss.loss_mask_key = "counts"
    assert [one.loss_mask_key for one in loss.group_losses] == ["counts", "counts"]
    assert ("counts",) in loss.in_keys
    with pytest.raises(
        KeyError, match=r"loss_mask_key must name an entry of the data; got 'counts'.*set loss_mask_key"
    ):
        loss(two_groups.make_batch())
    wolves, sheep = two_groups.wolves_loss(), two_groups.sheep_loss()
    sheep.loss_mask_key = None
    with pytest.raises(ValueError, match=r"must have the same loss_mask_key.*got \['auto', None\]"):
        MultiGroupLoss([wolves, sheep])


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_an_update_leaves_masked_rows_out(mode):
    batch = make_batch(terminated=torch.rand(B, N, 1) < 0.3)
    results = []
    for masked in (False, True):
        torch.manual_seed(0)
        loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), skip_done_states="fill")
        update = UpdateStep(loss, torch.optim.SGD(loss.parameters(), lr=0.1), tau=0.1, max_grad_norm=1.0, mode=mode)
        rows = batch[:-2] if not masked else last_rows_masked(spoil(batch.clone(), torch.arange(B) >= B - 2, NAN))
        results.append((update(rows), dict(loss.named_parameters())))
    for expected, got in zip(*results, strict=True):
        for name in expected:
            torch.testing.assert_close(got[name], expected[name])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_is_trained_where_every_row_is_masked(reduction):
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), reduction=reduction)
    batch = spoil(make_batch(), torch.ones(B, dtype=torch.bool), NAN)
    batch[MASK] = torch.zeros(B, 1, dtype=torch.bool)
    losses = loss(batch)
    assert all((losses[name] == 0).all() for name in ("loss_actor", "loss_qvalue", "loss_alpha"))
    total(losses).sum().backward()
    assert all((gradient == 0).all() for gradient in gradients(loss).values())


# -- which entry -------------------------------------------------------------------------------------------------------


def make():
    return noisy_loss(noisy_actor(True), our_critic(True, "independent"))


def masked_by(**masks):
    batch = make_batch()
    batch["next", GROUP, "reward"][:3] = 1e6
    for name, rows in masks.items():
        batch[MASK if name == "collector" else name] = torch.tensor([int(row) > 0 for row in rows])
    return batch


def test_auto_leaves_out_the_rows_that_either_mask_leaves_out():
    loss = make()
    assert loss.loss_mask_key == "auto"
    assert loss(masked_by(collector="011111", shifted_valid="100111"))["loss_qvalue"] < 100
    assert loss(masked_by(collector="011111"))["loss_qvalue"] > 100
    assert loss(masked_by(other="000111"))["loss_qvalue"] > 100


def test_a_named_mask_is_the_only_one():
    loss = make()
    loss.loss_mask_key = ("own", "valid")
    batch = masked_by(collector="000000")
    batch["own", "valid"] = torch.tensor([0, 0, 0, 1, 1, 1])
    losses = loss(batch)
    assert 0 < losses["loss_qvalue"] < 100
    assert loss.in_keys[-1] == ("own", "valid")
    assert MASK not in loss.optional_in_keys
    with pytest.raises(KeyError, match=r"got \('own', 'valid'\), and the data has .*shifted_valid.* 'auto' or None"):
        loss(masked_by(shifted_valid="000111"))
    loss.loss_mask_key = ("auto",)
    assert loss(masked_by(auto="000111"))["loss_qvalue"] < 100


def test_none_counts_every_row():
    loss = make()
    batch = masked_by(collector="000111", shifted_valid="000111")
    loss.loss_mask_key = None
    assert loss(batch)["loss_qvalue"] > 100
    assert not {MASK, ("shifted_valid",)} & set(loss.optional_in_keys)
    loss.loss_mask_key = "auto"
    assert loss(batch)["loss_qvalue"] < 100
    assert loss(batch.select(*loss.in_keys, *loss.optional_in_keys, strict=False))["loss_qvalue"] < 100


def test_the_key_goes_along_with_a_copy():
    loss = make()
    loss.loss_mask_key = "valid"
    assert pickle.loads(pickle.dumps(loss)).loss_mask_key == "valid"


@pytest.mark.parametrize("value", [3, (), ("a", 1), ["mask"]])
def test_what_is_no_key_is_refused(value):
    with pytest.raises(ValueError, match="loss_mask_key must be 'auto', None or the key of an entry"):
        make().loss_mask_key = value


@pytest.mark.parametrize("shape", [(B, N), (B, N, 1)])
def test_a_mask_of_agents_is_no_row_mask(shape):
    batch = make_batch()
    batch[MASK] = torch.ones(shape, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"row mask at \('collector', 'mask'\) must have shape \[6\] or \[6, 1\]"):
        make()(batch)


# -- TorchRL -----------------------------------------------------------------------------------------------------------


def test_the_keys_are_torchrls():
    theirs = getattr(torchrl_common, "AUTO_LOSS_MASK_KEYS", None)
    if theirs is None:
        pytest.skip("this TorchRL masks no rows")
    assert [key if isinstance(key, tuple) else (key,) for key in theirs] == list(AUTO_ROW_MASKS)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_of_one_agent_are_torchrls_with_padding(reduction, shape):
    if not hasattr(SACLoss, "loss_mask_key"):
        pytest.skip("this TorchRL masks no rows")
    settings = {"target_entropy": -2.0, "reduction": reduction}
    theirs = SACLoss(*one_agents_networks(None), **settings)
    ours = GroupSACLoss(*one_agents_networks(GROUP), **settings)
    ours.load_state_dict(theirs.state_dict())
    batch = make_batch(batch=(4, 5), n_agents=1)
    batch["next", GROUP, "reward"][~PADDED] = 1e3
    batch[MASK] = PADDED.reshape(shape)
    agent = batch.exclude(GROUP, ("next", GROUP))
    for source, target in ((batch[GROUP], agent), (batch["next", GROUP], agent["next"])):
        target.update({name: value.squeeze(2) for name, value in source.items()})
    torch.manual_seed(1)
    expected = theirs(agent)
    torch.manual_seed(1)
    losses = ours(batch)
    for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
        torch.testing.assert_close(losses[name], expected[name])
    assert losses["loss_qvalue"] < 100


def trajectories():
    """Four trajectories of 5, 2, 3 and 1 steps, one after the other, and their ids."""
    steps = make_batch(batch=(int(LENGTHS.sum()),))
    steps["episode"] = torch.repeat_interleave(torch.arange(4), LENGTHS)
    done = torch.zeros(len(steps), 1, dtype=torch.bool)
    done[LENGTHS.cumsum(0) - 1] = True
    steps["next", "done"] = done
    return steps


@pytest.mark.parametrize(
    "settings", [{"pad_output": True}, {"output_layout": "batch_time"}], ids=["flat", "batch_time"]
)
def test_slices_that_a_sampler_padded(settings):
    if not set(settings) <= set(inspect.signature(SliceSampler.__init__).parameters):
        pytest.skip("this TorchRL does not pad slices")
    sampler = SliceSampler(num_slices=8, traj_key="episode", strict_length=False, **settings)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(20), sampler=sampler, batch_size=32)
    buffer.extend(trajectories())
    batch = buffer.sample()
    real = batch[MASK].reshape(-1)
    assert real.any()
    assert not real.all()
    loss = make()
    assert_close_and_finite(loss, batch, real)
    loss.make_value_estimator(ValueEstimators.TDLambda, gamma=0.9, lmbda=0.8)
    slices = batch.reshape(8, 4)
    targets = loss.target_value(slices)
    for index, length in enumerate(slices[MASK].reshape(8, 4).sum(1)):
        alone = slices[index : index + 1, :length].exclude("collector")
        torch.testing.assert_close(targets[index, :length], loss.target_value(alone)[0])


def test_trajectories_that_were_split():
    batch = split_trajectories(trajectories().rename_key_("episode", ("collector", "traj_ids")))
    assert batch.shape == (4, 5)
    real = batch[MASK]
    assert torch.equal(real.reshape(4, 5), PADDED)
    batch["next", GROUP, "reward"][~PADDED] = NAN
    assert_close_and_finite(make(), batch, real.reshape(-1))


def assert_close_and_finite(loss, batch, real):
    """What the loss gives for a padded batch is what it gives for the rows that are none of the padding."""
    losses, expected = loss(batch), loss(batch.reshape(-1)[real].exclude("collector"))
    for name, value in expected.items():
        assert value.isfinite()
        torch.testing.assert_close(losses[name], value)


def test_trajectories_of_a_collector_that_were_split():
    pytest.importorskip("vmas")
    from torchrl.envs import VmasEnv

    env = TransformedEnv(VmasEnv("navigation", num_envs=2, seed=0), StepCounter(3)).append_transform(InitTracker())
    spec = env.full_action_spec_unbatched["agents", "action"]
    sizes = {"group": GROUP, "n_agents": spec.shape[0], "observation_dim": 18, "share_params": True, "model": MODEL}
    actor = make_tanh_normal_actor(action_spec=spec, **sizes)
    loss = GroupSACLoss(actor, make_critic("centralized", action_dim=2, **sizes))
    collector = Collector(env, actor, frames_per_batch=8, total_frames=8)
    batch = split_trajectories(*collector)
    collector.shutdown()
    real = batch[MASK].reshape(4, 3)  # of two environments: steps 1 to 3, and 4 alone
    assert real.sum() == 8
    assert (loss.target_value(batch)[~real] == 0).all()
    spoilt = batch.clone()
    spoilt["next", GROUP, "reward"][~real] = NAN
    torch.manual_seed(1)
    expected = loss(batch)
    torch.manual_seed(1)
    assert_equal(loss(spoilt), expected)
