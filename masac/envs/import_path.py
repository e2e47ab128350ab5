"""Where modules of a user's own are looked for. Imports nothing heavy: the command line uses it, too."""

from __future__ import annotations

import os
import sys


def look_in_working_directory() -> None:
    """Let modules of the working directory be imported: that is where a user's own environment is."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
