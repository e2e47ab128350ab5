"""Whether a run compiles its update."""

from __future__ import annotations

import os
import shutil

from masac.errors import ConfigError
from masac.losses.base import GroupLoss
from masac.training.config import TrainingConfig
from masac.training.update import UpdateMode

MIN_GROUP_UPDATES = 4_000
"""Compile from this number of updates times groups: compiling takes some seconds once and saves about 2 ms for each."""


def choose_mode(
    training: TrainingConfig, losses: list[GroupLoss], *, updates: int, device: str
) -> tuple[UpdateMode, str | None]:
    """How the updates of a run are computed, and what to print about it.

    A resumed run must choose the same, to compute the same numbers, so nothing is measured here.

    Args:
        training: its ``compile``.
        losses: of all groups that learn.
        updates: of the whole run.
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
    if updates * len(losses) < MIN_GROUP_UPDATES or not compiler:
        return "graph", None
    return (
        "compile",
        f"compiling the update, as the run has {updates:,} of them (training.compile=false only traces it)",
    )


def _has_compiler(device: str) -> bool:
    if device != "cpu":
        return True
    names = ("g++", "gcc", "clang++", "clang", "cl")
    return bool(os.environ.get("CXX")) or any(shutil.which(name) is not None for name in names)
