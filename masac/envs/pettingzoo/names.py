"""The names of PettingZoo's parallel environments, found without importing them (or PyTorch)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PETTINGZOO_EXTRA = 'pip install "masac[pettingzoo]"'
"""Installs the environments of the presets."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Environments that are installed together.

    Args:
        package: the package of their modules.
        needs: modules that they import.
        install: the command that installs what they need.
    """

    package: str
    needs: tuple[str, ...]
    install: str

    @property
    def missing(self) -> list[str]:
        """The modules that they need and that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]

    @property
    def modules(self) -> list[str]:
        """The modules with a parallel environment, if the package is installed."""
        top, *folders = self.package.split(".")
        spec = find_spec(top)
        if spec is None or spec.origin is None:
            return []
        files = Path(spec.origin).parent.joinpath(*folders).glob("*_v*.py")
        parallel = (file.stem for file in sorted(files) if "parallel_env" in file.read_text())
        return [f"{self.package}.{name}" for name in parallel]


FAMILIES = (
    Family(package="mpe2", needs=("mpe2", "pygame", "scipy"), install=PETTINGZOO_EXTRA),
    Family(package="pettingzoo.butterfly", needs=("pygame", "pymunk"), install=PETTINGZOO_EXTRA),
    Family(package="pettingzoo.sisl", needs=("pygame", "pymunk", "scipy", "Box2D"), install=PETTINGZOO_EXTRA),
    Family(package="pettingzoo.classic", needs=("pygame",), install='pip install "pettingzoo[classic]"'),
    Family(
        package="pettingzoo.atari",
        needs=("multi_agent_ale_py", "pygame"),
        install='pip install "pettingzoo[atari]", then AutoROM',
    ),
)


def installed_modules() -> list[str]:
    """The modules of all families that can be imported."""
    return [module for family in FAMILIES if not family.missing for module in family.modules]


def short_name(module: str) -> str:
    """``simple_push`` for ``mpe2.simple_push_v3``."""
    return re.sub(r"_v\d+$", "", module.rpartition(".")[2])


def short_names() -> dict[str, str]:
    """The installed modules by their short names."""
    names: dict[str, str] = {}
    for module in installed_modules():
        names.setdefault(short_name(module), module)
    return names


def hint(name: str) -> str:
    """What to do about an unknown name: another version, another package, or an installation."""
    if name.startswith(("mpe.", "pettingzoo.mpe.")):
        module = short_names().get(short_name(name), f"mpe2.{name.rpartition('.')[2]}")
        return f"MPE moved to the package mpe2: {module}. {_installation('mpe2')}".strip()
    if short_name(name) in short_names():
        return f"There is {short_names()[short_name(name)]}."
    for family in FAMILIES:
        theirs = name.startswith(f"{family.package}.") or short_name(name) in map(short_name, family.modules)
        if theirs and family.missing:
            return f"Not installed: {', '.join(family.missing)}. {family.install}"
    close = difflib.get_close_matches(name, [*short_names(), *installed_modules()], n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    unknown = [family for family in FAMILIES if family.missing and not family.modules]
    return "".join(f"If it is one of {family.package}, which is not installed: {family.install}" for family in unknown)


def install_hint(missing: str) -> str:
    """How to install a module that an environment needs."""
    return _installation(missing) or "Install it, or add its folder to PYTHONPATH."


def _installation(missing: str) -> str:
    for family in FAMILIES:
        if missing in family.missing:
            return f"Not installed here. {family.install}"
    return ""
