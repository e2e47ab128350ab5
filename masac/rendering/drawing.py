"""Environments with pictures of what goes on in them, drawn without a screen.

VMAS draws through pyglet and OpenGL, which are imported here only: training needs neither.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torchrl.envs import EnvBase, SerialEnv, TransformedEnv
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.libs.vmas import VmasEnv

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.envs.vmas_env import VmasVectorEnv
from masac.errors import ConfigError, RunFailedError

Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""``[H, W, 3]``, red, green and blue."""

GL_LIBRARIES = ("EGL", "GL", "GLU")
"""The libraries that pyglet loads to draw without a screen."""

GL_PACKAGES = "libegl1 libgl1 libglu1-mesa libgl1-mesa-dri libfontconfig1"
"""The Debian packages with those, with a driver that needs no graphics card, and with what draws text."""


@dataclass(frozen=True, kw_only=True)
class DrawnEnv:
    """An environment and its pictures.

    Args:
        env: batch size ``[1]``.
        draw: a picture of it as it is now.
        fps: steps a second that it is meant to be watched at; None where it does not say.
    """

    env: EnvBase
    draw: Callable[[], Picture]
    fps: float | None


def make_drawn_env(task: TaskConfig, *, seed: int) -> DrawnEnv:
    """One environment of a task, to be watched.

    Args:
        task: which environment; PettingZoo's are made with ``render_mode="rgb_array"``.
        seed: of everything random in it.

    Raises:
        ConfigError: for an environment that cannot be drawn.
        RunFailedError: where the libraries that VMAS draws with are missing.
    """
    if task.suite == "pettingzoo":
        from masac.envs.pettingzoo_build import (
            with_render_mode,  # imported where it is used: either suite may be missing
        )

        task = with_render_mode(replace(task, num_workers=0))
    env = make_env(task, num_envs=1, seed=seed)
    try:
        draw, metadata = _drawer(_innermost(env), task)
    except BaseException:
        env.close(raise_if_closed=False)
        raise
    fps = metadata.get("render_fps")
    return DrawnEnv(env=env, draw=draw, fps=None if fps is None else float(fps))


def can_draw(task: TaskConfig) -> bool:
    """Whether a task's environment has pictures, by making one; VMAS's has, once its libraries are installed.

    Args:
        task: which environment.
    """
    if task.suite == "vmas":
        return True
    try:
        make_drawn_env(task, seed=0).env.close(raise_if_closed=False)
    except Exception:  # of anybody's environment, which was made without pictures until now
        return False
    return True


def _innermost(env: EnvBase) -> EnvBase:
    while isinstance(env, TransformedEnv | SerialEnv):
        env = env.base_env if isinstance(env, TransformedEnv) else cast(Any, env)._envs[0]
    return env


def _drawer(env: EnvBase, task: TaskConfig) -> tuple[Callable[[], Picture], Mapping[str, Any]]:
    name = f"task.scenario={task.scenario}" if task.factory is None else f"task.factory={task.factory}"
    if isinstance(env, VmasVectorEnv):
        raw = env.vmas
    else:
        raw = cast(Any, env)._env if isinstance(env, VmasEnv | PettingZooWrapper) else None
    if isinstance(env, VmasVectorEnv | VmasEnv):
        _check_libraries()
        return lambda: _draw_vmas(raw), {}
    if raw is None:
        raise ConfigError(
            f"{name} must make a PettingZoo environment or TorchRL's VmasEnv to be drawn; it made a "
            f"{type(env).__name__}. Draw episodes of it yourself: masac.load_policy has the policy."
        )
    if getattr(raw, "render_mode", None) != "rgb_array":  # user's environments need not have the attribute
        raise ConfigError(
            f"{name} must make an environment with render_mode='rgb_array' to be drawn; got "
            f"{getattr(raw, 'render_mode', None)!r}. Give the function a parameter render_mode, and the environment an "
            "attribute of that name and a render method that returns a picture [H, W, 3] of bytes."
        )
    return lambda: _checked(raw.render(), name), raw.metadata


def _checked(picture: Any, name: str) -> Picture:
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (3, 4):
        raise RunFailedError(
            f"{name} must render a picture [H, W, 3] of bytes; got {type(picture).__name__} of shape "
            f"{list(array.shape)} and dtype {array.dtype}. Mend the render method of the environment."
        )
    return np.ascontiguousarray(array[..., :3])


def _draw_vmas(raw: Any) -> Picture:
    try:
        with _get_cmap():
            return np.ascontiguousarray(raw.render(mode="rgb_array"))
    except ImportError as error:  # what draws text is loaded with the first text
        raise _cannot_draw(str(error)) from error


@contextmanager
def _get_cmap() -> Iterator[None]:
    """Meanwhile Matplotlib has what VMAS 1.5.2 draws densities with (sampling), and Matplotlib 3.9 has no more."""
    from matplotlib import cm, colormaps

    if "get_cmap" in vars(cm):
        yield
        return
    cast(Any, cm).get_cmap = lambda name, colors: colormaps[name].resampled(colors)
    try:
        yield
    finally:
        del cast(Any, cm).get_cmap


def _check_libraries() -> None:
    """Open a small window nobody sees, in the way VMAS does: whatever fails here is not the scenario's fault."""
    import pyglet

    missing = [name for name in GL_LIBRARIES if not _loads(name)] if sys.platform.startswith("linux") else []
    devices = 0 if missing else _count_egl_devices()
    pyglet.options["headless"] = devices > 0  # before anything that opens windows is imported
    if devices and not 0 <= pyglet.options["headless_device"] < devices:
        pyglet.options["headless_device"] = 0  # VMAS takes it from CUDA_VISIBLE_DEVICES, which counts other devices
    try:
        from vmas.simulator.rendering import Viewer

        Viewer(8, 8, visible=False).close()
    except Exception as error:  # of pyglet, of X11 or of a driver
        reason = f"{type(error).__name__}: {error}"
        raise _cannot_draw(
            f"not found: {', '.join(f'lib{name}' for name in missing)}" if missing else reason
        ) from error


def _loads(library: str) -> bool:
    import pyglet

    try:
        pyglet.lib.load_library(library)
    except ImportError:
        return False
    return True


def _count_egl_devices() -> int:
    try:
        from pyglet.libs.egl import egl, eglext

        count = cast(Any, egl).EGLint()
        cast(Any, eglext).eglQueryDevicesEXT(0, None, byref(count))
    except ImportError:  # no EGL: macOS and Windows have windows of their own
        return 0
    return int(count.value)


def _cannot_draw(reason: str) -> RunFailedError:
    return RunFailedError(
        f"VMAS must have OpenGL and EGL to draw; {reason}. Install them, on Debian and Ubuntu with: apt-get install "
        f"{GL_PACKAGES}. Training needs none of this."
    )
