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
"""The Debian packages with these libraries, a driver that needs no graphics card, and fonts."""


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
    except ImportError as error:  # fonts are loaded with the first text
        raise _cannot_draw(str(error)) from error


@contextmanager
def _get_cmap() -> Iterator[None]:
    """Give Matplotlib the function that VMAS 1.5.2 draws densities with (sampling); Matplotlib 3.9 removed it."""
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
    """Open a small invisible window as VMAS does: if this fails, the scenario is not the reason."""
    import pyglet

    missing = [name for name in GL_LIBRARIES if not _loads(name)] if sys.platform.startswith("linux") else []
    devices = 0 if missing else _count_egl_devices()
    pyglet.options["headless"] = devices > 0  # before a module that opens windows is imported
    if devices and not 0 <= pyglet.options["headless_device"] < devices:
        pyglet.options["headless_device"] = 0  # VMAS sets it from CUDA_VISIBLE_DEVICES, which numbers other devices
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
    except ImportError:  # macOS and Windows draw without EGL
        return 0
    return int(count.value)


def _cannot_draw(reason: str) -> RunFailedError:
    return RunFailedError(
        f"OpenGL and EGL must be installed to draw VMAS environments; {reason}. On Debian and Ubuntu: apt-get install "
        f"{GL_PACKAGES}. Training does not need them."
    )
