"""The names of VMAS's scenarios, found without importing VMAS (or PyTorch)."""

from __future__ import annotations

import difflib
from importlib.util import find_spec
from pathlib import Path


def vmas_scenarios() -> list[str]:
    """The names of the scenarios of the installed VMAS, including those of MPE and for debugging."""
    spec = find_spec("vmas")
    if spec is None or spec.origin is None:
        return []
    files = (Path(spec.origin).parent / "scenarios").rglob("*.py")
    return sorted(file.stem for file in files if file.stem != "__init__")


def close_names(name: str, names: list[str]) -> str:
    """A hint with the names closest to ``name``, or with all names."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(names)}."
