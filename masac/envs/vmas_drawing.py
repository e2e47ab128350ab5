"""Drawing VMAS environments without a screen.

VMAS draws through pyglet and OpenGL, which only this module imports: training needs neither.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref
from typing import Any, cast

import numpy as np

from masac.errors import RunFailedError

Picture = np.ndarray[Any, np.dtype[np.uint8]]

GL_LIBRARIES = ("EGL", "GL", "GLU")
"""The libraries that pyglet loads to draw without a screen."""

GL_PACKAGES = "libegl1 libgl1 libglu1-mesa libgl1-mesa-dri libfontconfig1"
"""The Debian packages with those, with a driver that needs no graphics card, and with what draws text."""


def vmas_drawer(raw: Any) -> Callable[[], Picture]:
    """A function that draws the first environment of a VMAS ``Environment``.

    Raises:
        RunFailedError: if the libraries that VMAS draws with are missing.
    """
    _check_libraries()
    return lambda: _draw_vmas(raw)


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
