"""One update: losses, gradients, optimizer, target critics."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import SoftUpdate

from masac.losses.base import GroupLoss
from masac.losses.multi_group import MultiGroupLoss
from masac.training.config import TrainingConfig


class Learner:
    """Applies updates to the networks of all groups.

    Args:
        loss: the loss of the groups.
        training: learning rates and clipping.
        tau: part of the way the target critics move at every update.
    """

    def __init__(self, loss: MultiGroupLoss, training: TrainingConfig, *, tau: float) -> None:
        self.loss = loss
        self.max_grad_norm = training.max_grad_norm
        losses: dict[str, GroupLoss] = dict(loss.losses.items())  # pyright: ignore[reportAssignmentType]
        self.actor_params = {name: list(one.actor_network_params.parameters()) for name, one in losses.items()}
        self.critic_params = {name: list(one.qvalue_network_params.parameters()) for name, one in losses.items()}
        temperatures = [one.log_alpha for one in losses.values() if one.log_alpha.requires_grad]
        groups = [
            {"params": [p for params in self.actor_params.values() for p in params], "lr": training.actor_lr},
            {"params": [p for params in self.critic_params.values() for p in params], "lr": training.critic_lr},
        ]
        if temperatures:
            groups.append({"params": temperatures, "lr": training.alpha_lr})
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.target_updater = SoftUpdate(loss, tau=tau)
        self.initial_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.final_lr_factor = training.final_lr_factor
        self.updates = 0

    def set_progress(self, done: float) -> None:
        """Set the learning rates for the part of the training that is done, in [0, 1]."""
        factor = 1 - (1 - self.final_lr_factor) * done
        for group, lr in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = lr * factor

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Take one step on a batch of batch size ``*B``.

        Returns:
            Scalars to log, ``group/name``: the losses, alpha, entropy and gradient norms (where clipped).
        """
        losses = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        # An actor's loss holds the critics fixed and a critic's the actors, so one backward pass serves all terms.
        losses["loss"].backward()
        logged = {
            f"{group}/{str(name).replace('loss_', 'loss/')}": value.detach().mean()
            for group in self.actor_params
            for name, value in losses[group].items()
        }
        if self.max_grad_norm is not None:
            for kind, parameters in (("actor", self.actor_params), ("qvalue", self.critic_params)):
                for group, params in parameters.items():
                    norm = torch.nn.utils.clip_grad_norm_(params, self.max_grad_norm)
                    logged[f"{group}/grad_norm/{kind}"] = norm
        self.optimizer.step()
        self.target_updater.step()
        self.updates += 1
        return logged
