"""The config of the experiment that overrides describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from masac.errors import ConfigError

if TYPE_CHECKING:
    from masac.training.config import ExperimentConfig


def load_config(name: str | Path = "vmas/navigation", overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The config of a preset, of any installed environment, or of a run, for :class:`Trainer`.

    ``load_config("vmas/balance", ["algorithm=masac", "seed=1"])`` is what
    ``masac train task=vmas/balance algorithm=masac seed=1`` runs.

    Args:
        name: the value of ``task=``, such as ``vmas/balance`` or ``pettingzoo/simple_tag``; or the folder of a run,
            which ``Trainer(load_config(run_dir), resumes=True).run()`` resumes.
        overrides: ``key=value`` words as ``masac train`` takes them; of a run's config only what may change.

    Raises:
        ConfigError: for an unknown preset or key, a value out of its range, or a key of a run that must not change.
    """
    from hydra.errors import HydraException, MissingConfigException

    from masac.cli.presets import explain_missing

    if not isinstance(name, str | Path):
        raise ConfigError(
            f"the name of a config must be a string or Path; got {name!r}. Write load_config(overrides=['seed=1'])"
        )
    flags = [word for word in overrides if str(word).startswith("-")]
    if isinstance(overrides, str) or flags:
        got = repr(overrides) if isinstance(overrides, str) else flags[0]
        raise ConfigError(
            f"overrides must be a list of key=value words; got {got}. Write ['seed=1', 'algorithm=masac']"
        )
    if (Path(name) / "config.yaml").is_file():
        from masac.cli.experiment import changed
        from masac.training.checkpointing.resume import read_run_config

        config = replace(read_run_config(Path(name)), run_dir=str(name))
        return changed(config, overrides) if overrides else config
    try:
        config = composed_experiment([f"task={name}", *overrides])
    except MissingConfigException as error:
        raise ConfigError(explain_missing(error)) from None
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from None
    if any(word.lstrip("+").startswith("run_dir=") for word in overrides):
        return config
    return replace(config, run_dir=None)  # each run of it has a new folder


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
