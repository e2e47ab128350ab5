"""The grid: shared/per-agent × independent/centralized/pooled × joint/mixed ends × finite/NaN terminal observations."""

import pytest
import torch

from masac.compat import parameters_in
from tests.losses.common import (
    GRID,
    GROUP,
    SHARE_AND_CRITIC,
    B,
    F,
    N,
    critic_of,
    gradients,
    grid_batch,
    make_batch,
    noisy_actor,
    noisy_loss,
    total,
)

GAMMA = 0.5  # exact in every float type


def reference_targets(loss, batch):
    """The critic target, row by row and agent by agent, as the equations have it."""
    targets = torch.zeros(B, N, 1, dtype=batch["next", GROUP, "reward"].dtype)
    alpha = loss.log_alpha.exp()
    centralized = loss.centralized_critic
    for row in range(B):
        terminated = batch["next", GROUP, "terminated"][row]
        valid = batch["next"][row : row + 1].clone()
        # A valid observation in the place of a terminal one; the noise of those who go on is untouched.
        for name in ("observation", "noise"):
            valid[GROUP, name][0][terminated.squeeze(-1)] = batch[GROUP, name][row][terminated.squeeze(-1)]
        action, log_prob = loss._act(valid)
        seen = valid.clone()
        if centralized:
            seen[GROUP, "observation"][0][terminated.squeeze(-1)] = 0.0
            action = torch.where(terminated, torch.zeros_like(action), action)
        seen[GROUP, "action"] = action
        seen[GROUP, "alive"] = ~terminated.unsqueeze(0)
        values = []
        for params in loss.target_qvalue_network_params.unbind(0):
            with parameters_in(loss.qvalue_network, params):
                values.append(loss.qvalue_network(seen.clone())[GROUP, "state_action_value"][0])
        for agent in range(N):
            target = batch["next", GROUP, "reward"][row, agent]
            if not terminated[agent]:
                smallest = min(value[agent] for value in values)
                target = target + GAMMA * (smallest - alpha * log_prob[0, agent])
            targets[row, agent] = target
    return targets.detach()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", ["fill", "drop"])
@pytest.mark.parametrize(("torchrl", "share", "kind", "ends", "nan"), GRID)
def test_skipping_follows_the_equations(torchrl, share, kind, ends, nan, skip):
    loss = noisy_loss(
        noisy_actor(share, torchrl=torchrl), critic_of(torchrl, share, kind), gamma=GAMMA, skip_done_states=skip
    )
    batch = grid_batch(ends, nan)
    torch.testing.assert_close(loss.target_value(batch), reference_targets(loss, batch), rtol=1e-9, atol=1e-9)
    losses = loss(batch)
    total(losses).backward()
    assert all(value.isfinite().all() for value in losses.values())
    assert batch["td_error"].shape == (B,)
    grads = gradients(loss)
    assert len(grads) == len(list(loss.parameters()))
    assert all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
@pytest.mark.parametrize("ends", ["joint", "mixed"])
def test_skip_modes_agree_where_observations_are_finite(share, kind, ends):
    first = noisy_loss(noisy_actor(share), critic_of(False, share, kind))
    batch = grid_batch(ends, nan=False)
    expected = first(batch.clone())
    for skip in (True, "fill", "drop"):
        other = noisy_loss(noisy_actor(share), critic_of(False, share, kind), skip_done_states=skip)
        other.load_state_dict(first.state_dict())
        losses = other(batch.clone())
        for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
            torch.testing.assert_close(losses[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", [False, "fill", "drop"])
def test_batches_of_time_give_the_flat_batchs_targets(skip):
    loss = noisy_loss(noisy_actor(False), critic_of(False, False, "centralized"), skip_done_states=skip)
    flat = grid_batch("mixed", nan=False)
    targets = loss.target_value(flat)
    timed = loss.target_value(flat.reshape(2, 3))
    assert timed.shape == (2, 3, N, 1)
    torch.testing.assert_close(timed.reshape(B, N, 1), targets, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skip", ["fill", "drop"])
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
def test_a_batch_in_which_everything_ended_is_fine(share, kind, skip):
    loss = noisy_loss(noisy_actor(share), critic_of(False, share, kind), skip_done_states=skip)
    batch = make_batch(terminated=torch.ones(B, N, 1, dtype=torch.bool))
    batch["next", GROUP, "observation"] = torch.full((B, N, F), float("nan"))
    assert torch.equal(loss.target_value(batch), batch["next", GROUP, "reward"])
    losses = loss(batch)
    total(losses).backward()
    assert all(grad.isfinite().all() for grad in gradients(loss).values())
