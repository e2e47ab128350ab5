"""Resuming a run: its config, the changes that are allowed, and its state from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from masac.dotted_keys import flatten
from masac.errors import ConfigError
from masac.files.integrity import DamagedError
from masac.settings import settings_of
from masac.training.checkpointing.checkpoints import Checkpoint, Checkpoints, found_in, read_checkpoint
from masac.training.checkpointing.random_state import random_state, set_random_state
from masac.training.checkpointing.run_files import installed_versions
from masac.training.config import ExperimentConfig, read_config
from masac.training.distributed.ranks import Rank
from masac.training.episodes import EpisodeTracker
from masac.training.learner import Learner
from masac.training.policies.policy import Policy
from masac.training.reward_scaling import RewardScaling


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
    return {
        key: (new.get(key), old.get(key))
        for key in {**old, **new}
        if new.get(key) != old.get(key) and key not in may_change
    }


def load_newest(
    checkpoints: Checkpoints,
    config: ExperimentConfig,
    load: Callable[[Checkpoint], None],
    *,
    warn: Callable[[str], None],
) -> Checkpoint | None:
    """Load the newest complete checkpoint of a run; None if there is no checkpoint.

    Args:
        checkpoints: of the run.
        config: to resume with.
        load: loads a checkpoint; raises :class:`DamagedError` if it is damaged.
        warn: prints a warning about a checkpoint that cannot be used.

    Raises:
        ConfigError: if all checkpoints are damaged.
    """
    folders = found_in(checkpoints.folder)
    for folder in folders:
        try:
            checkpoint = read_checkpoint(folder)
            foreign = contradictions(by_key(config), by_key(_read(checkpoint.config)))
            if foreign:
                raise DamagedError(f"it belongs to another run: {', '.join(foreign)} differ")
            load(checkpoint)
        except DamagedError as error:
            warn(f"the checkpoint {folder} cannot be used: {error}")
            continue
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


def state_of(learner: Learner, policy: Policy, rewards: RewardScaling, episodes: EpisodeTracker) -> dict[str, Tensor]:
    """The state that learning depends on besides the replay buffer, as tensors by name."""
    parts = {
        "learner": learner.state(),
        "normalizers": dict(policy.normalizers.state_dict()),
        "rewards": rewards.state(),
        "episodes": episodes.state(),
        _random_of(learner.rank.index): random_state(),
    }
    return {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def set_state(
    state: Mapping[str, Tensor], learner: Learner, policy: Policy, rewards: RewardScaling, episodes: EpisodeTracker
) -> None:
    """Restore :func:`state_of`, except for the random state, which :func:`set_random_state_from` restores last.

    Raises:
        DamagedError: if the state is that of other networks.
    """
    try:
        learner.set_state(_part(state, "learner"))
        policy.normalizers.load_state_dict(_part(state, "normalizers"))
        rewards.set_state(_part(state, "rewards"))
        episodes.set_state(_part(state, "episodes"))
    except (RuntimeError, KeyError, ValueError) as error:
        raise DamagedError(f"its state does not fit this run ({str(error).splitlines()[-1].strip()})") from None


def random_states(rank: Rank) -> dict[str, Tensor]:
    """The random states of all other ranks, as tensors by name, for the checkpoint that rank 0 writes."""
    states = rank.all_gather(random_state())
    return {
        f"{_random_of(index)}/{name}": value
        for index, state in enumerate(states)
        if index != rank.index
        for name, value in state.items()
    }


def set_random_state_from(state: Mapping[str, Tensor], rank: Rank) -> bool:
    """Restore the random state of a rank; returns whether the checkpoint has one."""
    mine = _part(state, _random_of(rank.index))
    if mine:
        set_random_state(mine)
    return bool(mine)


def _random_of(index: int) -> str:
    return f"random{index}" if index else "random"


def _read(config: Mapping[str, Any]) -> ExperimentConfig:
    try:
        return read_config(config)
    except ConfigError as error:
        raise DamagedError(f"its config cannot be read: {error}") from None


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in state.items() if name.startswith(f"{part}/")}


def by_key(config: ExperimentConfig) -> dict[str, Any]:
    """The values of a config by their dotted keys, as JSON has them (lists for tuples)."""
    return flatten(json.loads(json.dumps(asdict(config))))
