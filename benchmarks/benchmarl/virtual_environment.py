"""A virtual environment with BenchMARL, which needs an older TorchRL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def wanted_versions() -> dict[str, str]:
    """The packages of the environment; PyTorch and VMAS have the versions of this process."""
    return {
        "benchmarl": "1.5.2",
        "torchrl": "0.11.1",  # BenchMARL 1.5.2 needs >=0.10,<0.12
        "tensordict": "0.11.0",
        "torch": version("torch").partition("+")[0],
        "vmas": version("vmas"),
    }


def default_folder() -> Path:
    """The default folder of the environment."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "masac" / f"benchmarl-{wanted_versions()['benchmarl']}"


def find_or_make(folder: Path) -> Path:
    """The Python of the environment in ``folder``, which is created with pip if needed.

    Raises:
        RuntimeError: if ``folder`` has other content.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.is_file() and _has_all(python):
        return python
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise RuntimeError(f"--venv must be a new folder or a virtual environment; got {folder}. Name another one.")
    print(f"creating a virtual environment with BenchMARL in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    requirements = [f"{name}=={number}" for name, number in wanted_versions().items()]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
    if not _has_all(python):
        raise RuntimeError(f"the environment in {folder} must have {', '.join(requirements)}; it does not. Remove it.")
    return python


def _has_all(python: Path) -> bool:
    """Whether the packages are installed, with any build of PyTorch."""
    wanted = wanted_versions()
    code = "import json, sys; from importlib.metadata import version; " + (
        "print(json.dumps({name: version(name).partition('+')[0] for name in sys.argv[1:]}))"
    )
    done = subprocess.run([str(python), "-I", "-c", code, *wanted], capture_output=True, text=True, check=False)
    return done.returncode == 0 and json.loads(done.stdout) == wanted
