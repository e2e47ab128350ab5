"""Updates, learning rates and clipping."""

import pytest
import torch

from masac.training.config import TrainingConfig
from masac.training.learner import Learner
from masac.training.logging import metrics
from tests.losses.common import make_batch
from tests.training.common import small_loss


def test_an_update_moves_all_parameters_and_lowers_the_loss():
    loss = small_loss()
    learner = Learner(loss, TrainingConfig(max_grad_norm=1.0), tau=0.01, mode="graph")
    batch = make_batch(batch=(64,))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    logged = [learner.update(batch.clone()) for _ in range(30)]
    still = [name for name, value in loss.state_dict().items() if name in before and torch.equal(value, before[name])]
    constant = ("alpha_init", "_target_entropy", "__batch_size", "__device")
    assert [name for name in still if not any(part in name for part in constant)] == []
    assert logged[-1]["agents/loss/qvalue"] < logged[0]["agents/loss/qvalue"]
    assert set(logged[0]) == {f"agents/{name}" for name in metrics.LOGGED} - {"agents/fraction_skipped"}


def test_learning_rates_fall_over_the_last_part_of_a_run():
    loss = small_loss()
    training = TrainingConfig(actor_lr=1.0, lr_decay_fraction=0.5, final_lr_factor=0.2)
    learner = Learner(loss, training, tau=0.01, mode="graph")
    seen = []
    for done in (0.0, 0.5, 0.75, 1.0):
        learner.set_progress(done)
        seen.append(learner.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1.0, 1.0, 0.6, 0.2])
    assert TrainingConfig(lr_decay_fraction=0.0).lr_factor(1.0) == 1.0


def test_clipping_bounds_the_gradient():
    loss = small_loss()
    learner = Learner(loss, TrainingConfig(max_grad_norm=1e-3), tau=0.01, mode="graph")
    learner.update(make_batch(batch=(64,)))
    for params in (loss.group_losses[0].actor_network_params, loss.group_losses[0].qvalue_network_params):
        norm = torch.stack([p.grad.norm() for p in params.parameters() if p.grad is not None]).norm()
        assert norm <= 1.01e-3
