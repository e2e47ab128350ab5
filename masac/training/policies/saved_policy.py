"""Trained policies on disk, as tensors and JSON, which load without running code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from masac.algorithm import make_actor
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.files.atomic_write import write_atomically
from masac.groups import GroupSpec, read_groups
from masac.process.working_directory import look_in_working_directory
from masac.training.checkpointing.checkpoints import FOLDER, best_of, newest_of
from masac.training.config import ExperimentConfig, read_config
from masac.training.policies.misfit import misfit
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.policy import Policy


@dataclass(frozen=True, kw_only=True)
class SavedPolicy:
    """A policy from disk.

    Args:
        policy: in evaluation mode, on the CPU.
        config: of the run that trained it.
        frames: environment frames that it was trained with.
        file: that it was read from.
    """

    policy: Policy
    config: ExperimentConfig
    frames: int
    file: Path

    @property
    def groups(self) -> tuple[GroupSpec, ...]:
        """All groups of its environment."""
        return self.policy.groups


def load_policy(run_dir: str | Path, *, checkpoint: str | Path = "last") -> Policy:
    """The policy of a run, ready for ``env.rollout(steps, policy, break_when_any_done=False)``.

    It acts without noise, except under ``torchrl.envs.utils.set_exploration_type(ExplorationType.RANDOM)``. Its
    parameters do not require gradients, so rollouts have none; ``policy.requires_grad_()`` enables them. Your own
    environment is also searched for in the working directory.

    Args:
        run_dir: the run's folder.
        checkpoint: ``"last"``, ``"best"`` (by evaluation return), the name of one of the run's checkpoints, or the
            path of a policy file or checkpoint folder.

    Returns:
        A TensorDictModule that writes ``(group, "action")`` for every group, in evaluation mode, on the CPU.

    Raises:
        ConfigError: if there is no such policy, or it is damaged.
    """
    look_in_working_directory()
    return read_policy(find_policy(run_dir, checkpoint=checkpoint)).policy.requires_grad_(False)


def split_run(text: str) -> tuple[Path, str]:
    """The folder and the checkpoint of ``RUN_DIR[@checkpoint]``; ``"last"`` if it names none."""
    folder, at, checkpoint = text.rpartition("@")
    if not at or Path(text).is_dir():
        return Path(text), "last"
    return Path(folder), checkpoint


def find_policy(run_dir: str | Path, *, checkpoint: str | Path = "last") -> Path:
    """The file of a run's policy; see :func:`load_policy`."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ConfigError(f"a run must be a folder that masac train wrote; {str(run_dir)!r} is not a folder.")
    if checkpoint not in ("last", "best"):
        path = next(
            (one for one in (Path(checkpoint), run_dir / FOLDER / checkpoint) if one.exists()), Path(checkpoint)
        )
        path = path / "policy.pt" if path.is_dir() else path
        if not path.is_file():
            raise ConfigError(f"checkpoint must be last, best or a path; there is no file {str(path)!r}.")
        return path
    found = best_of(run_dir) if checkpoint == "best" else newest_of(run_dir)
    path = run_dir / "policy.pt" if found is None else found.folder / "policy.pt"
    if not path.is_file() or (checkpoint == "best" and found is None):
        rule = "a checkpoint with an evaluation" if checkpoint == "best" else "a policy.pt or a checkpoint"
        raise ConfigError(f"a run must have {rule} for its {checkpoint} policy; {str(run_dir)!r} has none.")
    return path


def save_policy(path: Path, policy: Policy, config: ExperimentConfig, *, frames: int) -> None:
    """Write a policy, loadable with ``torch.load(weights_only=True)``."""
    tensors = {name: value.detach().cpu() for name, value in policy.state_dict().items()}
    groups = [
        {
            "name": group.name,
            "n_agents": group.n_agents,
            "learned": group.name in policy.actors,
            "actions": group.actions,
        }
        for group in policy.groups
    ]
    about = json.dumps({"groups": groups, "config": asdict(config), "frames": frames})
    write_atomically(path, lambda file: torch.save({"policy": tensors, "about": about}, file))


def read_policy(path: Path, *, task: TaskConfig | None = None) -> SavedPolicy:
    """The policy in a file that :func:`save_policy` wrote.

    Args:
        path: of the file.
        task: that it acts in, if not the one it was trained in: its groups must have the same observations and actions,
            and as many agents if the weights or the observations depend on them.

    Raises:
        ConfigError: if the file is damaged or not a policy, or does not fit the environment.
    """
    tensors, about = read_saved(path)
    config = _config_of(about, path)
    config = config if task is None else replace(config, task=task)
    env = make_env(config.task, num_envs=1, seed=0)
    try:
        groups = read_groups(env)
    finally:
        env.close(raise_if_closed=False)
    learned = {saved["name"]: saved for saved in about["groups"] if saved["learned"]}
    policy = make_policy(groups, [group for group in groups if group.name in learned], config)
    wrong = misfit(groups, learned, dict(policy.state_dict()), tensors)
    if wrong is not None:
        raise ConfigError(
            f"the policy in {str(path)!r} must fit the environment {config.task.suite}/{config.task.name}"
            f"{' as it is installed here' if task is None else ''}; {wrong}"
        )
    policy.load_state_dict(dict(tensors))
    return SavedPolicy(policy=policy.eval(), config=config, frames=int(about["frames"]), file=path)


def read_saved_config(path: Path) -> ExperimentConfig:
    """The config of the run that trained the policy in a file.

    Raises:
        ConfigError: if the file is damaged, not a policy, or from another version of masac.
    """
    return _config_of(read_saved(path)[1], path)


def make_policy(groups: list[GroupSpec], learning: list[GroupSpec], config: ExperimentConfig) -> Policy:
    """A new policy, with actors and (if enabled) normalizers for the learning groups."""
    actors = {group.name: make_actor(group, config.algorithm, config.model) for group in learning}
    normalized = learning if config.training.normalize_observations else []
    return Policy(groups, actors, {group.name: RunningNormalizer(group.observation_dim) for group in normalized})


def _config_of(about: Mapping[str, Any], path: Path) -> ExperimentConfig:
    try:
        return read_config(about["config"])
    except ConfigError as error:
        raise ConfigError(f"the policy {str(path)!r} must be of this version of masac: {error}") from None


def read_saved(path: Path) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    """The tensors in a file that :func:`save_policy` wrote, and what it says about them.

    Raises:
        ConfigError: if the file is damaged or not a policy.
    """
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        return saved["policy"], json.loads(saved["about"])
    except OSError as error:
        raise ConfigError(f"the policy {str(path)!r} must be readable: {error}") from None
    except Exception as error:  # PyTorch does not specify what it raises for a damaged file
        raise ConfigError(
            f"{str(path)!r} must be a policy that masac wrote; it is damaged or something else "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from None
