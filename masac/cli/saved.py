"""The saved policy that a command works on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from masac.cli.overrides import check_overrides

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
    from masac.training.config import ExperimentConfig  # imported when needed: PyTorch
    from masac.training.other_tasks import changed_task, task_changes

    changes = task_changes(check_overrides(words, asdict(ExperimentConfig())))
    return composed_experiment(words).task if "task" in changes else changed_task(config, changes)


def say(line: str) -> None:
    """Print a line on standard error: ``--json`` prints the result on standard output."""
    print(line, file=sys.stderr, flush=True)
