"""Drawing environments of the pettingzoo suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from pettingzoo import ParallelEnv
from torchrl.envs import EnvBase
from torchrl.envs.libs.vmas import VmasEnv

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.fixes import metadata_of
from masac.envs.vector_env import VectorEnv
from masac.errors import ConfigError, RunFailedError

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def pettingzoo_drawer(env: EnvBase, task: TaskConfig) -> tuple[Callable[[], Picture], Mapping[str, Any]]:
    """A function that draws an environment, and its metadata.

    Args:
        env: without transforms, made with ``render_mode="rgb_array"``; TorchRL's ``VmasEnv`` from a factory will do.
        task: what it was made from.

    Raises:
        ConfigError: for an environment that cannot be drawn.
    """
    raw = env.raw if isinstance(env, VectorEnv) else env
    if isinstance(raw, VmasEnv):
        from masac.envs.vmas.drawing import vmas_drawer

        return vmas_drawer(cast(Any, raw)._env), {}
    name = f"task.scenario={task.scenario}" if task.factory is None else f"task.factory={task.factory}"
    if not isinstance(raw, ParallelEnv):
        raise ConfigError(
            f"{name} must make a PettingZoo environment or TorchRL's VmasEnv to be drawn; it made a "
            f"{type(raw).__name__}. Draw its episodes yourself; masac.load_policy loads the policy."
        )
    if getattr(raw, "render_mode", None) != "rgb_array":  # a user's environment need not have the attribute
        raise ConfigError(
            f"{name} must make an environment with render_mode='rgb_array' to be drawn; got "
            f"{getattr(raw, 'render_mode', None)!r}. Give the function a parameter render_mode, and the environment an "
            "attribute of that name and a render method that returns a picture [H, W, 3] of bytes."
        )
    return lambda: _checked(raw.render(), name), metadata_of(raw)


def _checked(picture: Any, name: str) -> Picture:
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (3, 4):
        raise RunFailedError(
            f"{name} must render a picture [H, W, 3] of bytes; got {type(picture).__name__} of shape "
            f"{list(array.shape)} and dtype {array.dtype}. Correct the render method of the environment."
        )
    return np.ascontiguousarray(array[..., :3])
