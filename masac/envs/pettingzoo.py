"""PettingZoo's parallel environments as TorchRL ones."""

from __future__ import annotations

import os
import warnings
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torchrl.envs import DoubleToFloat, EnvBase, FlattenObservation, ParallelEnv, SerialEnv, StepCounter, TransformedEnv
from torchrl.envs.libs.pettingzoo import PettingZooWrapper

from masac.envs.config import TaskConfig

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")


def make_pettingzoo_env(task: TaskConfig, *, num_envs: int, seed: int, device: str = "cpu") -> EnvBase:
    """Environments of PettingZoo side by side, in this process or in ``task.num_workers`` ones."""
    one = partial(_make_one, task)
    if task.num_workers == 0:
        env: EnvBase = SerialEnv(num_envs, one, device=device)
    else:
        some = partial(SerialEnv, num_envs // task.num_workers, one)
        env = ParallelEnv(task.num_workers, some, device=device, num_threads=torch.get_num_threads(), daemon=True)
    if task.horizon is not None:
        env = TransformedEnv(env, StepCounter(max_steps=task.horizon))
    env.set_seed(seed)
    return env


def _make_one(task: TaskConfig) -> EnvBase:
    env = _wrap(_make_raw(task))
    for key in [key for key in env.observation_keys if isinstance(key, tuple) and key[-1] == "observation"]:
        spec = env.observation_spec[key]
        if spec.ndim > 2:
            env = TransformedEnv(env, FlattenObservation(first_dim=1 - spec.ndim, last_dim=-1, in_keys=[key]))
        if spec.dtype == torch.float64:
            env = TransformedEnv(env, DoubleToFloat(in_keys=[key]))
    return env


def _make_raw(task: TaskConfig) -> Any:
    if task.factory is not None:
        module, _, function = task.factory.partition(":")
        return getattr(import_module(module), function)(**task.kwargs)
    return import_module(str(task.scenario)).parallel_env(**task.kwargs)


def _wrap(raw: Any) -> EnvBase:
    if isinstance(raw, EnvBase):
        return raw
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PettingZoo in TorchRL is tested using version == 1.24.3")
        return PettingZooWrapper(raw, use_mask=True, done_on_any=False, categorical_actions=True)
