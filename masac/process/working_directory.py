"""Where a user's own modules are found. Imports nothing slow, as the command line uses it."""

from __future__ import annotations

import os
import sys


def look_in_working_directory() -> None:
    """Make modules in the working directory importable, such as a user's own environment."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
