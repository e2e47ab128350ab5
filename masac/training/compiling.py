"""Whether a run compiles its update: what that costs, and what it saves."""

from __future__ import annotations

import os
import shutil

from masac.checks import ConfigError
from masac.losses.base import GroupLoss
from masac.training.config import TrainingConfig
from masac.training.update import UpdateMode

COMPILING_S = 30.0
"""What compiling takes; less where the compiler's cache on disk has the same update from an earlier run."""

SAVED = 0.25
"""The part of an update's time that compiling saves."""

OVERHEAD_S, FLOPS_A_SECOND = 3e-3, 1e11
"""What an update takes: about this, and its multiplications and additions at about this rate (two CPU cores)."""


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
    saved = SAVED * updates * seconds_of_update(losses, training.batch_size)
    if saved < 2 * COMPILING_S or not compiler:
        return "graph", None
    return "compile", (
        f"compiling the update: an estimated {COMPILING_S:.0f} s once, to save {saved:,.0f} s of {updates:,} updates "
        "(training.compile=false if not)"
    )


def seconds_of_update(losses: list[GroupLoss], batch_size: int) -> float:
    """About what an update takes: its multiplications and additions, as if every weight were shared by all agents."""
    operations = 0
    for loss in losses:
        # The actor acts in two states and is trained in one (a backward pass is twice a forward one); the critics
        # value three actions, are trained on one and passed through for another.
        for params, passes in ((loss.actor_network_params, 4), (loss.qvalue_network_params, 6)):
            weights = sum(parameter.numel() for parameter in params.parameters())
            operations += 2 * passes * weights * batch_size * (loss.n_agents or 1)
    return OVERHEAD_S + operations / FLOPS_A_SECOND


def _has_compiler(device: str) -> bool:
    if device != "cpu":
        return True
    names = ("g++", "gcc", "clang++", "clang", "cl")
    return bool(os.environ.get("CXX")) or any(shutil.which(name) is not None for name in names)
