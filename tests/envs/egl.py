"""Whether VMAS can draw here."""

from ctypes.util import find_library

import pytest

needs_egl = pytest.mark.skipif(
    any(find_library(name) is None for name in ("EGL", "GL", "GLU")),
    reason="VMAS draws with libEGL, libGL and libGLU, which are not installed",
)
