"""The config of the experiment that overrides describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masac.training.config import ExperimentConfig


def composed_experiment(overrides: Sequence[str] = ()) -> ExperimentConfig:
    """What ``masac train`` with these overrides would run.

    Raises:
        ConfigError: for an invalid override, or a value out of its range.
    """
    from hydra import compose, initialize_config_module  # imported when needed: PyTorch

    from masac.cli.presets import register_presets
    from masac.cli.train_arguments import hydra_arguments
    from masac.training.config import read_config

    register_presets()
    with initialize_config_module("masac.conf", version_base="1.3"):
        return read_config(compose("config", overrides=hydra_arguments(overrides)))
