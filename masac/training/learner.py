"""One update: losses, gradients, optimizer, target critics."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import SoftUpdate

from masac.losses.sac import GroupSACLoss
from masac.training.config import TrainingConfig


class Learner:
    """Applies updates to the networks of a loss.

    Args:
        loss: the loss of the group.
        training: learning rates and clipping.
        tau: part of the way the target critics move at every update.
    """

    def __init__(self, loss: GroupSACLoss, training: TrainingConfig, *, tau: float) -> None:
        self.loss = loss
        self.max_grad_norm = training.max_grad_norm
        self.actor_params = list(loss.actor_network_params.parameters())
        self.critic_params = list(loss.qvalue_network_params.parameters())
        groups = [
            {"params": self.actor_params, "lr": training.actor_lr},
            {"params": self.critic_params, "lr": training.critic_lr},
        ]
        if loss.log_alpha.requires_grad:
            groups.append({"params": [loss.log_alpha], "lr": training.alpha_lr})
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
            Scalars to log: the losses, alpha, entropy and gradient norms (where clipped).
        """
        losses = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        # The actor's loss holds the critics fixed and the critics' the actor, so one backward pass serves all three.
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        logged = {str(name).replace("loss_", "loss/"): value.detach() for name, value in losses.items()}
        if self.max_grad_norm is not None:
            logged["grad_norm/actor"] = torch.nn.utils.clip_grad_norm_(self.actor_params, self.max_grad_norm)
            logged["grad_norm/qvalue"] = torch.nn.utils.clip_grad_norm_(self.critic_params, self.max_grad_norm)
        self.optimizer.step()
        self.target_updater.step()
        self.updates += 1
        return logged
