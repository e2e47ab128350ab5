"""One update: losses, gradients, optimizer, target critics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import SoftUpdate

from masac.keys import as_path
from masac.losses.base import GroupLoss
from masac.losses.multi_group import MultiGroupLoss
from masac.training.config import TrainingConfig


class NonFiniteError(Exception):
    """A loss or gradient is not finite; nothing was applied.

    Args:
        terms: what is not finite, ``group/loss/qvalue`` or ``group/grad_norm/actor``.
        batch: what it was computed from.
    """

    def __init__(self, terms: list[str], batch: TensorDictBase) -> None:
        super().__init__(f"not finite: {', '.join(terms)}")
        self.terms = terms
        self.batch = batch


class Learner:
    """Applies updates to the networks of all groups.

    Args:
        loss: the loss of the groups.
        training: learning rates and clipping.
        tau: part of the way the target critics move at every update.

    Attributes:
        updates: applied so far.
    """

    def __init__(self, loss: MultiGroupLoss, training: TrainingConfig, *, tau: float) -> None:
        self.loss = loss
        self.max_grad_norm = training.max_grad_norm
        losses: dict[str, GroupLoss] = dict(loss.losses.items())  # pyright: ignore[reportAssignmentType]
        self.actor_params = {name: list(one.actor_network_params.parameters()) for name, one in losses.items()}
        self.critic_params = {name: list(one.qvalue_network_params.parameters()) for name, one in losses.items()}
        self.temperatures = {name: one.log_alpha for name, one in losses.items() if one.log_alpha.requires_grad}
        groups = [
            {"params": [p for params in self.actor_params.values() for p in params], "lr": training.actor_lr},
            {"params": [p for params in self.critic_params.values() for p in params], "lr": training.critic_lr},
        ]
        if self.temperatures:
            groups.append({"params": list(self.temperatures.values()), "lr": training.alpha_lr})
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
            Scalars to log, ``group/name``: what the losses say of themselves, and the gradient norms before clipping.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; then nothing is applied.
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
        logged.update(self._gradient_norms())
        self._check_finite(logged, losses["loss"].detach(), batch)
        self.optimizer.step()
        self.target_updater.step()
        self.updates += 1
        return logged

    def state(self) -> dict[str, Tensor]:
        """Networks, targets, temperatures and what the optimizer remembers, by name."""
        state = {f"loss/{name}": value.detach() for name, value in self.loss.state_dict().items()}
        for index, memory in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer/{index}/{name}": value for name, value in memory.items()}
        return state

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state`.

        Raises:
            RuntimeError: if it is of other networks.
        """
        self.loss.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("loss/")})
        memory: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            if name.startswith("optimizer/"):
                _, index, what = name.split("/")
                memory.setdefault(int(index), {})[what] = value.clone()
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": memory})

    def _gradient_norms(self) -> dict[str, Tensor]:
        """The norms of actors and of critics, which are clipped if that is switched on."""
        norms = {}
        for kind, parameters in (("actor", self.actor_params), ("qvalue", self.critic_params)):
            for group, params in parameters.items():
                norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
                if self.max_grad_norm is not None:
                    torch.nn.utils.clip_grads_with_norm_(params, self.max_grad_norm, norm)
                norms[f"{group}/grad_norm/{kind}"] = norm
        return norms

    def _check_finite(self, logged: Mapping[str, Tensor], loss: Tensor, batch: TensorDictBase) -> None:
        norms = {name: value for name, value in logged.items() if "/grad_norm/" in name}
        for name, log_alpha in self.temperatures.items():
            if log_alpha.grad is not None:
                norms[f"{name}/grad_norm/alpha"] = log_alpha.grad.norm()
        if bool(torch.stack([loss, *norms.values()]).isfinite().all()):  # one look, as it waits for the device
            return
        terms = [name for name, value in {**logged, **norms}.items() if not bool(value.isfinite())]
        # Without the priority, which the loss wrote into it.
        raise NonFiniteError(terms or ["loss"], batch.exclude(self.loss.tensor_keys.priority))


def explain(error: NonFiniteError, *, where: str, file: Path, run_dir: Path) -> str:
    """What to say of an update that was not applied, where it ends a run.

    Args:
        error: what happened.
        where: which update.
        file: where its batch is.
        run_dir: where everything before is.
    """
    keys = [as_path(key) for key, value in error.batch.items(True, True) if not bool(value.isfinite().all())]
    entries = ", ".join("/".join(key) for key in keys) or "no entries"
    return (
        f"losses and gradients must be finite; got others in {', '.join(error.terms)}, at {where}, which was not "
        f"applied. In its batch, {file}, {entries} are not finite. Everything before is saved in {run_dir}. Check the "
        "environment's rewards and observations, lower training.critic_lr and training.actor_lr, set "
        "training.max_grad_norm=10, or skip such updates with training.on_nonfinite=skip (up to "
        "training.nonfinite_limit)"
    )
