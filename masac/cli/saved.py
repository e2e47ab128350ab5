"""The saved policy that a command works on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser

from masac.cli.overrides import check_overrides
from masac.dotted_keys import nest
from masac.errors import ConfigError

if TYPE_CHECKING:
    from masac.envs.config import TaskConfig
    from masac.training.config import ExperimentConfig
    from masac.training.policies.saved_policy import SavedPolicy


def saved_policy(run_dir: Path, checkpoint: str, overrides: Sequence[str] = ()) -> SavedPolicy:
    """The policy of a run.

    Args:
        run_dir: the run's folder.
        checkpoint: which of its policies.
        overrides: of the task that it acts in.

    Raises:
        ConfigError: if there is no such policy, it is damaged, or it does not fit the task.
    """
    # Imported when needed: PyTorch.
    from masac.training.policies.saved_policy import find_policy, read_policy, read_saved_config

    path = find_policy(run_dir, checkpoint=checkpoint)
    return read_policy(path, task=overridden_task(read_saved_config(path), overrides) if overrides else None)


def overridden_task(config: ExperimentConfig, words: Sequence[str]) -> TaskConfig:
    """The task of a run with overrides: of its keys, or another preset (``task=...``) and its keys.

    Args:
        config: of the run.
        words: such as ``task.kwargs.n_agents=5``.

    Raises:
        ConfigError: for an invalid override, or one of a key that is not the task's.
    """
    from masac.cli.composing import composed_experiment
    from masac.training.checkpointing.resume import by_key  # imported when needed: PyTorch
    from masac.training.config import ExperimentConfig, read_config

    parser = OverridesParser.create()
    overrides = [parser.parse_override(word) for word in check_overrides(words, asdict(ExperimentConfig()))]
    keys = [override.key_or_group for override in overrides]
    for word, key, override in zip(words, keys, overrides, strict=True):
        if key.partition(".")[0] != "task":
            raise ConfigError(f"only the task can be changed here, with task=... or task.KEY=...; got {word!r}.")
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"an override must set a key to one value here; got {word!r}.")
    if "task" in keys:
        return composed_experiment(words).task
    changes = {key: override.value() for key, override in zip(keys, overrides, strict=True)}
    return read_config(nest({**by_key(config), **changes})).task


def say(line: str) -> None:
    """Print a line on standard error: ``--json`` prints the result on standard output."""
    print(line, file=sys.stderr, flush=True)
