"""The environment of a trained run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torchrl.envs import EnvBase, TransformedEnv

from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.process.working_directory import look_in_working_directory
from masac.training.checkpointing.resume import read_run_config
from masac.training.config import ExperimentConfig
from masac.training.policies.saved_policy import find_policy, load_policy, read_saved_config


def load_env(
    run_dir: str | Path, *, num_envs: int | None = None, seed: int = 0, device: str | torch.device = "cpu"
) -> EnvBase:
    """The environment of a run: its task with its keyword arguments and horizon, in this process.

    Your own environment is also searched for in the working directory.

    Args:
        run_dir: the run's folder.
        num_envs: number of vectorised environments; None for that of the run (``task.num_envs``).
        seed: of all random numbers in them.
        device: of the data; VMAS also computes there.

    Returns:
        A TorchRL environment with batch size ``[num_envs]``. ``env.rollout(steps, policy)`` stops when the first
        environment ends; with ``break_when_any_done=False`` an environment that ends begins a new episode. With
        ``model.memory`` it carries the memories of the run's policy from state to state.

    Raises:
        ConfigError: if the folder holds no run, or its environment cannot be built here.
    """
    look_in_working_directory()
    config = _config_of(Path(run_dir))
    task = config.task
    if num_envs is not None and num_envs < 1:
        raise ConfigError(f"num_envs must be at least 1; got {num_envs}. Pass how many environments step at once.")
    env = make_env(replace(task, num_workers=0), num_envs=num_envs or task.num_envs, seed=seed, device=str(device))
    if config.model.memory == "none" and not config.training.opponents:
        return env
    policy = load_policy(run_dir)
    remembers = any(True for _ in policy.memory_entries())  # opponents may, where the run's own agents do not
    return TransformedEnv(env, policy.make_tensordict_primer()) if remembers else env


def _config_of(run_dir: Path) -> ExperimentConfig:
    """The config of a run, from its file or else from its policy."""
    if (run_dir / "config.yaml").is_file():
        return read_run_config(run_dir)
    return read_saved_config(find_policy(run_dir))
