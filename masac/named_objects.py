"""Users' own functions and classes by name: ``package.module:name`` in a config, or passed to ``Trainer`` in Python."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from operator import attrgetter
from typing import Any

from masac.errors import ConfigError

IN_PYTHON = "python"
"""In place of a module: the object was passed in Python and cannot be imported, such as one of a notebook."""

_PASSED: dict[str, Callable[..., Any]] = {}
_SHARED: set[str] = set()
"""Names that different objects of this process have had."""


def name_of(thing: Callable[..., Any], role: str) -> str:
    """The name under which :func:`find_object` finds a function, a class or another callable again.

    What cannot be imported (a lambda, a function of ``__main__`` or of another function) is remembered in this process;
    the newest object of a name and a role counts.

    Args:
        thing: the callable.
        role: what it makes, such as ``env``: two objects of one process may have the same name.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", type(thing).__name__)
    if module in sys.modules and module != "__main__" and "<" not in name:
        try:
            if attrgetter(name)(sys.modules[module]) is thing:
                return f"{module}:{name}"
        except AttributeError:
            pass
    passed = f"{IN_PYTHON}:{role}:{name.rpartition('.')[2]}"
    if passed in _PASSED and not _alike(thing, _PASSED[passed]):
        _SHARED.add(passed)
    _PASSED[passed] = thing
    return passed


def warn_if_shared(names: Iterable[str | None], what: str) -> None:
    """Warn where a name on disk may stand for another object than the newest one, which :func:`find_object` finds.

    Args:
        names: from the config of a run.
        what: has these names.
    """
    for name in sorted(_SHARED.intersection(names)):
        warnings.warn(
            f"{what} has {name!r}, a name of several objects that were passed to Trainer; the newest is used. Give "
            "each a name of its own, or put them into a module",
            RuntimeWarning,
            stacklevel=2,
        )


def _alike(one: object, other: object) -> bool:
    """Whether two functions are the same, as after a notebook's cell was run again."""
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    return one is other or (codes[0] is not None and codes[0] == codes[1] and not codes[0].co_freevars)


def find_object(name: str, key: str, what: str = "function") -> Any:
    """The object of a name.

    Args:
        name: ``package.module:name``, or what :func:`name_of` returned.
        key: the config key that holds the name.
        what: the kind of object, in a word.

    Raises:
        ConfigError: if there is none.
    """
    if name in _PASSED:
        return _PASSED[name]
    module_name, _, attribute = name.partition(":")
    attribute = attribute.rpartition(":")[2]
    if module_name == IN_PYTHON:
        raise ConfigError(
            f"{key} must be importable in every process; got {attribute!r}, which was passed to Trainer and cannot be "
            f"imported. Put it into a module and pass it from there, or use {key}=package.module:{attribute}."
        )
    try:
        return attrgetter(attribute)(import_module(module_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key} must be package.module:{what}, importable from here; got {name!r}: {error}. "
            "Install the package, or add its folder to PYTHONPATH."
        ) from error
