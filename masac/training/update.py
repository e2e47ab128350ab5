"""One update of a loss: losses, gradients, optimizer, target critics."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchrl.objectives import SoftUpdate

from masac.compat import parameter_places
from masac.groups import group_name
from masac.keys import as_path
from masac.losses.base import GroupLoss
from masac.losses.multi_group import MultiGroupLoss
from masac.training.distributed.gradient_sum import Gradients, GradientSum
from masac.training.distributed.ranks import ALONE, Rank
from masac.training.traced_function import CompileError, GraphError, Results, TracedFunction

UpdateMode = Literal["eager", "graph", "compile"]

_PACKAGE = Path(__file__).parents[1]


class NonFiniteError(Exception):
    """A loss or gradient is not finite; nothing was applied.

    Args:
        terms: the losses and norms that are not finite, such as ``group/loss_qvalue`` or ``group/grad_norm_actor``.
        batch: the batch of the update.
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
        optimizer: of the parameters of the loss.
        tau: the fraction by which the target critics move towards the critics in every update.
        max_grad_norm: clip the gradient norms of each actor and of the critics of each group to this.
        mode: ``"graph"``: losses and gradients are traced once for every kind of batch (shapes, strides, dtypes,
            device) and replayed as a flat list of tensor operations. ``"compile"``: the trace is compiled with
            PyTorch's Inductor, which takes seconds to a minute, and is fastest. ``"eager"``: Python every time, for a
            debugger and for losses that cannot be traced (``skip_done_states="drop"``). All give the same numbers, up
            to rounding. If compiling fails, the trace is replayed, and if tracing fails, the update is eager, with a
            warning that gives the reason.
        rank: this process among several that take the step together, each on its own rows; all of them apply the
            gradients of the rows of all processes.
        warn: called with the reason if the mode must change; None for a Python warning.
        tell: called when compiling begins, and with its duration.

    Attributes:
        mode: how updates are computed.

    Raises:
        ValueError: for an optimizer that lacks parameters that the loss trains, or has others.

    Non-tensor settings (keys, reductions, flags of the loss) are frozen after the first update, unless it is eager. The
    values of discrete actions and action masks are checked in the first batch of every kind; an eager update checks
    every batch.

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
        rank: Rank = ALONE,
        warn: Callable[[str], None] | None = None,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        if mode not in ("eager", "graph", "compile"):
            raise ValueError(f"mode must be 'eager', 'graph' or 'compile'; got {mode!r}.")
        _check_optimizer(optimizer, loss)
        self.loss = loss
        self._places = [(of, name, p, p.requires_grad) for of, name, p in parameter_places(loss)]
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.rank = rank
        self._warn, self._tell = warn or _python_warning, tell
        self.parameters: list[Tensor] = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        if isinstance(loss, MultiGroupLoss):
            self._groups = {f"{group_name(one.group)}/": one for one in loss.group_losses}
            self._terms = ["loss"]
        else:
            self._groups = {"": loss}
            self._terms = ["loss_actor", "loss_qvalue", "loss_alpha"]
        if rank.world_size > 1 and any(one.reduction != "mean" for one in self._groups.values()):
            raise ValueError("losses whose batches several ranks share must have reduction='mean'; got another.")
        self._gradient_sum = GradientSum(rank.world_size, self._terms_of_parameters()) if rank.world_size > 1 else None
        self.mode: UpdateMode = mode
        self._results = self._function_of(mode)
        if mode != "eager" and any(one.skip_mode == "drop" for one in self._groups.values()):
            self._change_mode("eager", "with skip_done_states='drop' the shapes of tensors depend on their values.")
        # Not compiled, since it is a few sums and products, and must give the same numbers in all processes.
        self._unpacked = (
            self._unpack_reduced if mode == "eager" else TracedFunction(self._unpack_reduced, compile=False)
        )
        self._target_update = get_ema_multi_avg_fn(1 - tau)
        for one in self._groups.values():
            SoftUpdate(one, tau=tau)  # copies the critics into the targets, and stops the loss's warning about updaters
        # The tensors themselves, not aliases (``.data``), which would not move to another device with them.
        pairs = [one.critics_and_targets for one in self._groups.values()]
        self._critics, self._targets = ([value for pair in pairs for value in pair[of]] for of in (0, 1))

    def __call__(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Take one step on a batch of batch size ``*B``, and write its priorities into it, as the loss does.

        Returns:
            Scalars: the outputs of the losses (``loss_qvalue``, ``alpha``, ...) and the gradient norms before clipping
            (``grad_norm_actor``, ``grad_norm_qvalue``); with several groups, ``group/loss_qvalue`` and so on.

        Raises:
            NonFiniteError: if a loss or gradient is not finite, on any rank; then nothing is applied.
            ValueError: if parameters were replaced, frozen or unfrozen since the step was made, or if the batch was
                checked and has invalid actions.
        """
        return self.apply(batch, self.compute(batch))

    def compute(self, batch: TensorDictBase) -> Results:
        """Losses and gradients of a batch, to be applied; traced and compiled at the first call.

        Raises:
            ValueError: if parameters were replaced, frozen or unfrozen since the step was made.
        """
        self._check_parameters()
        return self._computed(batch)

    def apply(self, batch: TensorDictBase, results: Results) -> dict[str, Tensor]:
        """Take the step that :meth:`compute` computed for a batch; returns and raises as the call does."""
        batch.set(self.loss.tensor_keys.priority, results.pop("priority"))
        if self._gradient_sum is not None:
            share = results["packed"]
            self.rank.all_reduce(share)
            results = self._unpacked(TensorDict({"packed": share}))
        gradients = [results.pop(("gradient", index), None) for index in range(len(self.parameters))]
        if not bool(results.pop("all_finite")):  # one read only, since it waits for the device
            terms = [name for name, value in results.items() if not bool(value.isfinite())]
            raise NonFiniteError(terms or ["loss"], batch.exclude(self.loss.tensor_keys.priority))
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self._target_update(self._targets, self._critics, 0)
        return results

    def _check_parameters(self) -> None:
        for of, name, parameter, trained in self._places:
            if of.get(name) is not parameter or parameter.requires_grad is not trained:
                raise ValueError(
                    "the parameters that the loss trains must be those it trained when the UpdateStep was made; "
                    f"{name!r} was replaced (load_state_dict(assign=True)?), frozen or unfrozen since. Make a new "
                    "optimizer and UpdateStep."
                )

    def _computed(self, batch: TensorDictBase) -> Results:
        try:
            return self._results(batch)
        except CompileError as error:
            self._change_mode("graph", error)
        except GraphError as error:
            self._change_mode("eager", error)
        return self._computed(batch)

    def _change_mode(self, mode: UpdateMode, cause: object) -> None:
        what = "replayed instead of compiled" if mode == "graph" else "computed by Python every time"
        self._warn(f"updates are {what} (mode={mode!r}), which is slower: {cause}")
        self.mode, self._results = mode, self._function_of(mode)

    def _function_of(self, mode: UpdateMode) -> Callable[[TensorDictBase], Results]:
        evaluate = self._evaluate if self._gradient_sum is None else self._evaluate_packed
        if mode == "eager":
            return evaluate
        return TracedFunction(
            evaluate,
            compile=mode == "compile",
            around_compiling=self._tell_of_compiling,
            while_tracing=lambda: unchecked(self._groups.values()),
        )

    @contextmanager
    def _tell_of_compiling(self) -> Iterator[None]:
        self._tell("compiling the update ...")
        began = time.perf_counter()
        yield
        self._tell(f"compiled the update in {time.perf_counter() - began:.0f} s")

    def _evaluate(self, batch: TensorDictBase) -> Results:
        """Everything before the optimizer: logged values, priority, gradients, and whether all are finite."""
        batch = batch.copy()
        found = self._compute_gradients(batch)
        return {**self._clip_and_check(found), "priority": batch.get(as_path(self.loss.tensor_keys.priority))}

    def _evaluate_packed(self, batch: TensorDictBase) -> Results:
        """The gradients and logged values of this process's rows as a flat tensor, and their priority."""
        assert self._gradient_sum is not None
        batch = batch.copy()
        recorded: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in self._groups}
        for prefix, loss in self._groups.items():
            loss.denominators = recorded[prefix]
        try:
            found = self._compute_gradients(batch)
        finally:
            for loss in self._groups.values():
                loss.denominators = None
        denominators = {f"{prefix}{name}": n for prefix, means in recorded.items() for name, n in means.items()}
        share = self._gradient_sum.pack(found, denominators)
        return {"packed": share, "priority": batch.get(as_path(self.loss.tensor_keys.priority))}

    def _unpack_reduced(self, packed: TensorDictBase) -> Results:
        """The results of :meth:`_evaluate`, without priorities, from the sum of the tensors of all processes."""
        assert self._gradient_sum is not None
        return self._clip_and_check(self._gradient_sum.unpack(packed.get("packed")))

    def _compute_gradients(self, batch: TensorDictBase) -> Gradients:
        """Losses and gradients; writes the priority into the batch."""
        losses = self.loss(batch)
        logged: dict[str, Tensor] = {}
        for prefix in self._groups:
            of_group = losses[prefix.removesuffix("/")] if prefix else losses
            logged |= {f"{prefix}{name}": value.detach().mean() for name, value in of_group.items()}
        # The actor loss holds the critics fixed, and the critic loss the actors: one backward pass serves all terms.
        total = torch.stack([losses[key] for key in self._terms]).sum()
        computed = torch.autograd.grad(total, self.parameters, allow_unused=True)
        gradients: dict[Tensor, Tensor] = {
            parameter: gradient
            for parameter, gradient in zip(self.parameters, computed, strict=True)
            if gradient is not None
        }
        return Gradients(logged=logged, total=total.detach(), gradients=gradients)

    def _clip_and_check(self, found: Gradients) -> Results:
        """Logged values, clipped gradients, and whether all are finite."""
        gradients = dict(found.gradients)
        norms = self._clip(gradients)
        results: Results = {**found.logged}
        results |= {name: norm for name, norm in norms.items() if not name.endswith("alpha")}
        results["all_finite"] = torch.stack([found.total, *norms.values()]).isfinite().all()
        for index, parameter in enumerate(self.parameters):
            if parameter in gradients:
                results["gradient", index] = gradients[parameter]
        return results

    def _terms_of_parameters(self) -> dict[Tensor, str]:
        return {
            parameter: f"{prefix}{term}"
            for prefix, loss in self._groups.items()
            for term, parameters in (
                ("loss_actor", loss.actor_parameters),
                ("loss_qvalue", loss.critic_parameters),
                ("loss_alpha", loss.log_alphas),
            )
            for parameter in parameters
        }

    def _clip(self, gradients: dict[Tensor, Tensor]) -> dict[str, Tensor]:
        """The gradient norms of each group's actor, critics and temperature; the first two gradients are clipped."""
        norms = {}
        for prefix, loss in self._groups.items():
            for kind, trained in (("actor", loss.actor_parameters), ("qvalue", loss.critic_parameters)):
                mine = [parameter for parameter in trained if parameter in gradients]
                norm = torch.nn.utils.get_total_norm([gradients[parameter] for parameter in mine])
                norms[f"{prefix}grad_norm_{kind}"] = norm
                if self.max_grad_norm is not None:
                    factor = (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
                    gradients.update({parameter: gradients[parameter] * factor for parameter in mine})
            for index, log_alpha in enumerate(loss.log_alphas):
                if log_alpha in gradients:
                    norms[f"{prefix}grad_norm_{index}_alpha"] = gradients[log_alpha].norm()
        return norms


@contextmanager
def unchecked(losses: Iterable[GroupLoss]) -> Iterator[None]:
    """Context in which the losses do not check the values of actions, which a graph cannot read."""
    before = [(loss, loss.validate_actions) for loss in losses]
    try:
        for loss, _ in before:
            loss.validate_actions = False
        yield
    finally:
        for loss, checked in before:
            loss.validate_actions = checked


def _python_warning(message: str) -> None:
    """Warn at the line that called masac."""
    level, frame = 1, sys._getframe()
    while frame is not None and Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)


def _check_optimizer(optimizer: Optimizer, loss: GroupLoss | MultiGroupLoss) -> None:
    """Raise ValueError unless the optimizer has all parameters that the loss trains, and no others."""
    names = {parameter: name for name, parameter in loss.named_parameters()}
    there = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for parameter, name in names.items() if parameter.requires_grad and parameter not in there]
    others = len(there - names.keys())
    if not missing and not others:
        return
    trained = sum(parameter.requires_grad for parameter in names)
    got = [f"{len(missing)} of {trained} that the loss trains missing ({', '.join(missing[:3])}...)"] if missing else []
    got += [f"{others} that are not the loss's (of networks that it copied, or of a loss before it was moved)"] * (
        others > 0
    )
    raise ValueError(
        f"the optimizer must have the parameters of the loss; got {' and '.join(got)}. Create it from "
        "loss.parameters() after the loss is on its device, and freeze parameters with requires_grad_(False)."
    )
