"""One update of a loss: losses, gradients, optimizer, target critics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchrl.objectives import SoftUpdate

from masac.faults import checks_put_off
from masac.graphs import Graph, Results
from masac.groups import group_name
from masac.keys import as_path
from masac.losses.base import GroupLoss
from masac.losses.multi_group import MultiGroupLoss

UpdateMode = Literal["eager", "graph", "compile"]


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


class UpdateStep:
    """An update of the networks of a loss: losses, gradients, clipping, optimizer, target critics.

    The target critics begin as copies of the critics.

    Args:
        loss: of one group, or of several.
        optimizer: of the loss's parameters.
        tau: part of the way the target critics move at every update.
        max_grad_norm: clip the gradient norms of every group's actor and critics to this.
        mode: ``"graph"``, losses and gradients are traced once for every kind of batch and replayed as the tensor
            operations they are; ``"compile"``, ``torch.compile`` makes a program of them, which takes it tens of
            seconds, and is the fastest; ``"eager"``, Python every time, for what cannot be traced
            (``skip_done_states="drop"``) and for a debugger. All give the same numbers, up to rounding.

    What is no tensor (keys, reductions, flags of the loss) must not change after the first update, unless it is eager.

    Examples:
        >>> update = UpdateStep(loss, torch.optim.Adam(loss.parameters(), lr=3e-4, fused=True), tau=0.005)
        >>> losses = update(replay_buffer.sample())
    """

    def __init__(
        self,
        loss: GroupLoss | MultiGroupLoss,
        optimizer: Optimizer,
        *,
        tau: float,
        max_grad_norm: float | None = None,
        mode: UpdateMode = "graph",
    ) -> None:
        if mode not in ("eager", "graph", "compile"):
            raise ValueError(f"mode must be 'eager', 'graph' or 'compile'; got {mode!r}.")
        self.loss = loss
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.mode: UpdateMode = mode
        self.parameters: list[Tensor] = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        self._results = self._evaluate if mode == "eager" else Graph(self._evaluate, compile=mode == "compile")
        if isinstance(loss, MultiGroupLoss):
            self._groups = {f"{group_name(one.group)}/": one for one in loss.group_losses}
            self._terms = ["loss"]
        else:
            self._groups = {"": loss}
            self._terms = ["loss_actor", "loss_qvalue", "loss_alpha"]
        self._target_update = get_ema_multi_avg_fn(1 - tau)
        SoftUpdate(loss, tau=tau)  # begins with targets equal to the critics, and stops the loss's reminder of it
        self._critics = _tensors(self._groups.values(), "qvalue_network_params")
        self._targets = _tensors(self._groups.values(), "target_qvalue_network_params")

    def __call__(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Take one step on a batch of batch size ``*B``, and write its priorities into it, as the loss does.

        Returns:
            Scalars: what the losses say of themselves (``loss_qvalue``, ``alpha``, ...) and the gradient norms before
            clipping (``grad_norm_actor``, ``grad_norm_qvalue``); of several groups ``group/loss_qvalue`` and so on.

        Raises:
            NonFiniteError: if a loss or gradient is not finite; then nothing is applied.
            GraphError: if the loss cannot be traced.
        """
        results = self._results(batch)
        batch.set(self.loss.tensor_keys.priority, results.pop("priority"))
        gradients = [results.pop(("gradient", index), None) for index in range(len(self.parameters))]
        if not bool(results.pop("sound")):  # one look, as it waits for the device
            self.loss(batch.copy())  # raises the error of a check that was put off
            terms = [name for name, value in results.items() if not bool(value.isfinite())]
            raise NonFiniteError(terms or ["loss"], batch.exclude(self.loss.tensor_keys.priority))
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self._target_update(self._targets, self._critics, 0)
        return results

    def _evaluate(self, batch: TensorDictBase) -> Results:
        """Everything up to the optimizer: what is logged, the priority, the gradients, and whether all is in order."""
        batch = batch.copy()
        with checks_put_off() as faults:
            losses = self.loss(batch)
        results: Results = {}
        for prefix in self._groups:
            said = losses[prefix.removesuffix("/")] if prefix else losses
            results |= {f"{prefix}{name}": value.detach().mean() for name, value in said.items()}
        # An actor's loss holds the critics fixed and a critic's the actors, so one backward pass serves all terms.
        total = torch.stack([losses[key] for key in self._terms]).sum()
        computed = torch.autograd.grad(total, self.parameters, allow_unused=True)
        gradients: dict[Tensor, Tensor] = {
            parameter: gradient
            for parameter, gradient in zip(self.parameters, computed, strict=True)
            if gradient is not None
        }
        norms = self._clip(gradients)
        sound = torch.stack([total.detach(), *norms.values()]).isfinite().all()
        for fault in faults:
            sound = sound & ~fault
        results |= {name: norm for name, norm in norms.items() if not name.endswith("alpha")}
        results |= {"sound": sound, "priority": batch.get(as_path(self.loss.tensor_keys.priority))}
        for index, parameter in enumerate(self.parameters):
            if parameter in gradients:
                results["gradient", index] = gradients[parameter]
        return results

    def _clip(self, gradients: dict[Tensor, Tensor]) -> dict[str, Tensor]:
        """The norms of the gradients of every group's actor, critics and temperature; the first two are clipped."""
        norms = {}
        for prefix, loss in self._groups.items():
            for kind, params in (("actor", loss.actor_network_params), ("qvalue", loss.qvalue_network_params)):
                mine = [parameter for parameter in params.parameters() if parameter in gradients]
                norm = torch.nn.utils.get_total_norm([gradients[parameter] for parameter in mine])
                norms[f"{prefix}grad_norm_{kind}"] = norm
                if self.max_grad_norm is not None:
                    factor = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
                    gradients.update({parameter: gradients[parameter] * factor for parameter in mine})
            if loss.log_alpha in gradients:
                norms[f"{prefix}grad_norm_alpha"] = gradients[loss.log_alpha].norm()
        return norms


def _tensors(losses: Iterable[GroupLoss], name: str) -> list[Tensor]:
    return [value.data for loss in losses for value in getattr(loss, name).values(True, True)]
