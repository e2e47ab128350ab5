"""``masac train``: Hydra composes the experiment, the trainer runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

import hydra
from omegaconf import DictConfig

from masac.cli.errors import errors_as_lines
from masac.cli.help import train_help
from masac.cli.overrides import check_overrides
from masac.cli.presets import register_presets

HYDRA_FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd")


def train(arguments: Sequence[str]) -> None:
    """Run ``masac train`` with its arguments; exits with 2 for a mistake in them, 1 for a run that failed."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(train_help(), end="")
        return
    sys.path.append(os.getcwd())  # where a user's own scenario is, whichever way masac was started
    with errors_as_lines("masac train"):
        register_presets()
        sys.argv = ["masac train", *hydra_arguments(arguments)]
        _run_job()


@hydra.main(config_path="pkg://masac.conf", config_name="config", version_base="1.3")
def _run_job(composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from masac.cli.experiment import run_experiment  # imported when needed: PyTorch

    run_experiment(composed, HydraConfig.get().runtime.output_dir)


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``masac train`` as Hydra should get them, checked."""
    from masac.training.config import ExperimentConfig

    flags: list[str] = []
    overrides: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("-"):
            flags.append(word)
            if word in HYDRA_FLAGS_WITH_VALUE:
                flags.append(next(words, ""))
        else:
            overrides.append(word)
    checked = check_overrides(overrides, asdict(ExperimentConfig()))
    if "-m" in flags or "--multirun" in flags:
        # In a sweep run_dir is the folder of all jobs; each gets one of its own inside.
        checked = [
            f"hydra.sweep.dir={word.partition('=')[2]}" if word.startswith("run_dir=") else word for word in checked
        ]
    return [*flags, *checked]
