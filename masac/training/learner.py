"""The optimizer of a run, its learning rates, and its state in checkpoints; an update is update.py's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.compat import load_state_tensors, state_tensors
from masac.losses.multi_group import MultiGroupLoss
from masac.training.config import TrainingConfig
from masac.training.distributed.ranks import ALONE, Rank
from masac.training.distributed.replica_check import check_same
from masac.training.traced_function import Results
from masac.training.update import UpdateMode, UpdateStep


class Learner:
    """Applies updates to the networks of all groups.

    Args:
        loss: the loss of the groups.
        training: learning rates and clipping.
        tau: the fraction by which the target critics move towards the critics at each update.
        mode: see :class:`UpdateStep`.
        rank: see :class:`UpdateStep`.
        warn: see :class:`UpdateStep`.
        tell: see :class:`UpdateStep`.

    Attributes:
        updates: applied so far.
    """

    def __init__(
        self,
        loss: MultiGroupLoss,
        training: TrainingConfig,
        *,
        tau: float,
        mode: UpdateMode,
        rank: Rank = ALONE,
        warn: Callable[[str], None] | None = None,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.loss = loss
        self.rank = rank
        self.sync_check_every = training.sync_check_every
        losses = loss.group_losses
        groups = [
            {"params": [p for one in losses for p in one.actor_parameters], "lr": training.actor_lr},
            {"params": [p for one in losses for p in one.critic_parameters], "lr": training.critic_lr},
        ]
        temperatures = [log_alpha for one in losses for log_alpha in one.log_alphas if log_alpha.requires_grad]
        if temperatures:
            groups.append({"params": temperatures, "lr": training.alpha_lr})
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.step = UpdateStep(
            loss,
            self.optimizer,
            tau=tau,
            max_grad_norm=training.max_grad_norm,
            mode=mode,
            rank=rank,
            warn=warn,
            tell=tell,
        )
        self.initial_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.training = training
        self.updates = 0

    def set_progress(self, done: float) -> None:
        """Set the learning rates for the completed fraction of the training, in [0, 1]."""
        factor = self.training.lr_factor(done)
        for group, lr in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = lr * factor

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Take one step on a batch of batch size ``*B``.

        Returns:
            Scalars to log, ``group/name``: the losses and their diagnostics, and the gradient norms before clipping.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; then the update is not applied.
            RunFailedError: if the ranks no longer have the same networks.
        """
        return self.apply(batch, self.step.compute(batch))

    def apply(self, batch: TensorDictBase, results: Results) -> dict[str, Tensor]:
        """Take the step that ``step.compute`` computed for a batch; returns and raises as :meth:`update`."""
        logged = self.step.apply(batch, results)
        self.updates += 1
        if self.rank.world_size > 1 and self.updates % self.sync_check_every == 0:
            check_same(self.state(), self.rank, when=f"after update {self.updates}")
        return {log_name(name): value for name, value in logged.items()}

    def state(self) -> dict[str, Tensor]:
        """Networks, targets, temperatures and the state of the optimizer, by name."""
        state = {f"loss/{name}": value.detach() for name, value in state_tensors(self.loss).items()}
        for index, memory in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer/{index}/{name}": value for name, value in memory.items()}
        return state

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state`.

        Raises:
            RuntimeError: if the state is that of other networks.
        """
        load_state_tensors(self.loss, {name[5:]: value for name, value in state.items() if name.startswith("loss/")})
        memory: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            if name.startswith("optimizer/"):
                _, index, what = name.split("/")
                memory.setdefault(int(index), {})[what] = value.clone()
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": memory})


def log_name(name: str) -> str:
    """``group/loss_actor`` as ``group/loss/actor``, which loggers show in a separate panel."""
    return name.replace("loss_", "loss/").replace("grad_norm_", "grad_norm/")
