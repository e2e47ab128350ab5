"""Environments that can be drawn, without a screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torchrl.envs import EnvBase, TransformedEnv

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.envs.suites import suite_named

Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""``[H, W, 3]``, red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class DrawnEnv:
    """An environment and a function that draws it.

    Args:
        env: batch size ``[1]``.
        draw: returns a picture of the current state.
        fps: its intended number of steps per second; None if it has none.
    """

    env: EnvBase
    draw: Callable[[], Picture]
    fps: float | None


def make_drawn_env(task: TaskConfig, *, seed: int) -> DrawnEnv:
    """Make one environment of a task to be drawn.

    Args:
        task: the config; PettingZoo environments are made with ``render_mode="rgb_array"``.
        seed: of everything random in it.

    Raises:
        ConfigError: for an environment that cannot be drawn.
        RunFailedError: if the libraries that VMAS draws with are missing.
    """
    suite = suite_named(task.suite)
    task = suite.drawn(task)
    env = inner = make_env(task, num_envs=1, seed=seed)
    while isinstance(inner, TransformedEnv):
        inner = inner.base_env
    try:
        draw, metadata = suite.drawer(inner, task)
    except BaseException:
        env.close(raise_if_closed=False)
        raise
    fps = metadata.get("render_fps")
    return DrawnEnv(env=env, draw=draw, fps=None if fps is None else float(fps))


def can_draw(task: TaskConfig) -> bool:
    """Whether a task's environment can be drawn, by making one if its suite does not say.

    Args:
        task: the config.
    """
    if suite_named(task.suite).draws_all:
        return True
    try:
        make_drawn_env(task, seed=0).env.close(raise_if_closed=False)
    except Exception:  # a user's environment, which has only been made without pictures so far
        return False
    return True
