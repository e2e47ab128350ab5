"""Resuming a run: its config, the changes that are allowed, and its state from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from masac.dotted_keys import flatten
from masac.errors import ConfigError
from masac.files.integrity import DamagedError
from masac.settings import settings_of
from masac.training.checkpointing.checkpoints import Checkpoint, Checkpoints, found_in, read_checkpoint
from masac.training.checkpointing.run_files import installed_versions
from masac.training.config import ExperimentConfig, read_config


def read_run_config(run_dir: Path) -> ExperimentConfig:
    """The config of a run.

    Args:
        run_dir: the run's folder.

    Raises:
        ConfigError: if there is none, or it is damaged.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise ConfigError(
            f"a run must be a folder with a config.yaml that masac train wrote; {str(run_dir)!r} has none."
        )
    try:
        return read_config(OmegaConf.load(path))  # pyright: ignore[reportArgumentType]
    except ConfigError as error:
        raise ConfigError(f"{str(path)!r} must be a config of this version of masac: {error}") from None
    except (OmegaConfBaseException, YAMLError, OSError, AssertionError) as error:
        raise ConfigError(f"{str(path)!r} must be a config that masac wrote; got {error}") from None


def contradictions(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys that differ between a run's config and the one to resume it with, but must not.

    Args:
        new: the config to resume with, by dotted keys.
        old: the config of the run.

    Returns:
        The new and the old value by key.
    """
    may_change = {key for key, setting in settings_of(ExperimentConfig()).items() if setting.may_change}
    below = tuple(f"{key}." for key in may_change)  # the entries of a dict
    return {
        key: (new.get(key), old.get(key))
        for key in {**old, **new}
        if new.get(key) != old.get(key) and key not in may_change and not key.startswith(below)
    }


def load_newest(
    checkpoints: Checkpoints,
    config: ExperimentConfig,
    load: Callable[[Checkpoint], None],
    *,
    warn: Callable[[str], None],
) -> Checkpoint | None:
    """Load the newest complete checkpoint of a run; None if there is no checkpoint.

    If no checkpoint is complete, it is the newest one of which only the replay buffer is damaged, without the buffer.

    Args:
        checkpoints: of the run.
        config: to resume with.
        load: loads a checkpoint; raises :class:`DamagedError` if it is damaged.
        warn: prints a warning about a checkpoint that cannot be used.

    Raises:
        ConfigError: if all checkpoints are damaged.
    """
    folders = found_in(checkpoints.folder)
    # All checkpoints may share a damaged file of the replay buffer: then a run goes on without it.
    for folder, with_buffer in [*((folder, True) for folder in folders), *((folder, False) for folder in folders)]:
        try:
            checkpoint = read_checkpoint(folder)
            foreign = contradictions(by_key(config), by_key(_read(checkpoint.config)))
            if foreign:
                raise DamagedError(f"it belongs to another run: {', '.join(foreign)} differ")
            load(checkpoint if with_buffer else replace(checkpoint, segments=None))
        except DamagedError as error:
            if with_buffer:
                warn(f"the checkpoint {folder} cannot be used: {error}")
            continue
        if not with_buffer:
            warn(f"the checkpoint {folder} is used without its replay buffer")
        checkpoints.resume_from(checkpoint)
        now = installed_versions()
        for name in sorted({*now, *checkpoint.versions}):
            before, here = checkpoint.versions.get(name), now.get(name)
            if before != here:
                warn(f"the checkpoint was written with {name} {before}, this is {name} {here}: numbers may differ")
        return checkpoint
    if folders:
        raise ConfigError(
            f"a run must have a complete checkpoint to be resumed; all in {str(checkpoints.folder)!r} are damaged."
        )
    return None


def _read(config: Mapping[str, Any]) -> ExperimentConfig:
    try:
        return read_config(config)
    except ConfigError as error:
        raise DamagedError(f"its config cannot be read: {error}") from None


def by_key(config: ExperimentConfig) -> dict[str, Any]:
    """The values of a config by their dotted keys, as JSON has them (lists for tuples)."""
    return flatten(json.loads(json.dumps(asdict(config))))
