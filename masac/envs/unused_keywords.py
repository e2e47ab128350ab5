"""Finds keywords that a scenario or a factory never looks up, so that a misspelt one is reported."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from masac.errors import ConfigError


class Keyword(str):
    """The name of a keyword; records whether it was looked up (``kwargs.pop(name)``, ``name in kwargs``, a parameter).

    A dict compares the name that is looked up with its own, and Python compares keywords with the names of parameters.
    """

    used = False

    def __eq__(self, other: object) -> bool:
        """Compare as text, and record equality."""
        same = str.__eq__(self, other)
        if same is True:
            self.used = True
        return same

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def watched(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """``kwargs`` with names that record whether they were looked up."""
    return {Keyword(name): value for name, value in kwargs.items()}


def unused_keywords(kwargs: Mapping[str, Any], whose: str, functions: Sequence[Callable[..., Any]]) -> ConfigError:
    """The error for keywords that were not looked up.

    Args:
        kwargs: from :func:`watched`, after they were passed on.
        whose: what they were passed to, in words.
        functions: that received them; similar names in these are suggested.
    """
    unused = _unused(kwargs)
    return ConfigError(
        f"task.kwargs must be keywords of {whose}; got {', '.join(unused)}, which it never looks up. "
        f"{_suggestion(unused, functions)}"
    )


def unused_message(kwargs: Mapping[str, Any], whose: str, functions: Sequence[Callable[..., Any]]) -> str | None:
    """A warning about keywords that seem not to be used; None if all are.

    Names that the modules of the functions contain in quotes or as attributes count as used: they may be looked up
    later, or in a copy.

    Args:
        kwargs: from :func:`watched`, after they were passed on.
        whose: what they were passed to, in words.
        functions: that received them.
    """
    text = "\n".join(_source(inspect.getmodule(function)) for function in functions)
    unused = [name for name in _unused(kwargs) if not re.search(rf"[.'\"]{re.escape(name)}\b", text)]
    if not unused:
        return None
    return f"{whose} seems not to use {', '.join(unused)} of task.kwargs. {_suggestion(unused, functions)}"


def _unused(kwargs: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in kwargs if isinstance(name, Keyword) and not name.used]


def _suggestion(unused: Sequence[str], functions: Sequence[Callable[..., Any]]) -> str:
    names: set[str] = set()
    for function in functions:
        names |= set(re.findall(r"\bkwargs(?:\.\w+\(|\[)\s*['\"](\w+)['\"]", _source(function)))
        with suppress(TypeError, ValueError):  # written in C, for example
            names |= set(inspect.signature(function).parameters) - {"self", "kwargs", "batch_dim", "device"}
    close = difflib.get_close_matches(unused[0], sorted(names), n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"It looks up: {', '.join(sorted(names))}." if names else "Correct it, or leave it out."


def _source(part: Any) -> str:
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):  # compiled, or entered interactively
        return ""
