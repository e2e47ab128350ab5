"""Whether a run compiles its update: what that costs, and what it saves."""

from __future__ import annotations

import os
import shutil

from masac.errors import ConfigError
from masac.losses.base import GroupLoss
from masac.training.config import TrainingConfig
from masac.training.update import UpdateMode

COMPILING_S = 8.0
"""About what compiling takes; twice that the very first time on a machine, and a third where the compiler's cache on
disk has the same update from an earlier run."""

SAVED_S, SAVED, FLOPS_A_SECOND = 2e-3, 0.15, 1e11
"""What compiling saves an update: about this for every group's overhead, and this part of its multiplications and
additions, which take place at about this rate (two CPU cores)."""


def choose_mode(
    training: TrainingConfig, losses: list[GroupLoss], *, updates: int, device: str
) -> tuple[UpdateMode, str | None]:
    """How the updates of a run are computed, and what to say of it.

    A run must choose the same when it is resumed, to go on with the same numbers, so nothing is measured here.

    Args:
        training: ``compile`` and ``batch_size``.
        losses: of all groups that learn.
        updates: that the run takes in all.
        device: where they are computed.

    Raises:
        ConfigError: for ``compile=true`` where that cannot be.
    """
    untraceable = any(loss.skip_mode == "drop" for loss in losses)
    compiler = _has_compiler(device)
    if training.compile == "true":
        if untraceable:
            raise ConfigError(
                "training.compile must be auto or false with algorithm.skip_done_states=drop, whose shapes depend on "
                "the data; got true. Change it with algorithm.skip_done_states=fill"
            )
        if not compiler:
            raise ConfigError(
                "training.compile must be auto or false where there is no C++ compiler; got true. Install g++, name "
                "one in the environment variable CXX, or change it with training.compile=auto"
            )
        return "compile", None
    if untraceable:
        return "eager", None
    if training.compile == "false":
        return "graph", None
    saved = updates * seconds_saved(losses, training.batch_size)
    if saved < COMPILING_S or not compiler:
        return "graph", None
    return "compile", (
        f"compiling the update: an estimated {COMPILING_S:.0f} s once, to save {saved:,.0f} s of {updates:,} updates "
        "(training.compile=false if not)"
    )


def seconds_saved(losses: list[GroupLoss], batch_size: int) -> float:
    """About what compiling saves an update."""
    return SAVED_S * len(losses) + SAVED * update_operations(losses, batch_size) / FLOPS_A_SECOND


def update_operations(losses: list[GroupLoss], batch_size: int) -> int:
    """Multiplications and additions of an update, counted as if every weight were shared by all agents."""
    operations = 0
    for loss in losses:
        # The actor acts in two states and is trained in one (a backward pass is twice a forward one); the critics
        # value three actions, are trained on one and passed through for another.
        for params, passes in ((loss.actor_network_params, 4), (loss.qvalue_network_params, 6)):
            weights = sum(parameter.numel() for parameter in params.parameters())
            operations += 2 * passes * weights * batch_size * (loss.n_agents or 1)
    return operations


def _has_compiler(device: str) -> bool:
    if device != "cpu":
        return True
    names = ("g++", "gcc", "clang++", "clang", "cl")
    return bool(os.environ.get("CXX")) or any(shutil.which(name) is not None for name in names)
