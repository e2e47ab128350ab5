"""The versions of installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec


@cache
def installed_version(package: str) -> str | None:
    """The version of the package that is imported by a name; None if it is not installed.

    The distribution may have another name: ``torchrl`` also comes from ``torchrl-nightly``.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        names = packages_distributions().get(package, []) if find_spec(package) else []
        return version(names[0]) if names else None
