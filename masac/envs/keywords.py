"""Keywords that a scenario or a factory never looks at: a misspelt one is not to be ignored in silence."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from masac.checks import ConfigError


class Keyword(str):
    """A keyword's name that knows whether anybody looked it up: ``kwargs.pop(name)``, ``name in kwargs``, a parameter.

    A dict compares the name it is asked for with the one it holds, and Python that of a keyword with those of the
    parameters; where they are equal it was looked up.
    """

    used = False

    def __eq__(self, other: object) -> bool:
        """As of any text; notes that it is equal to something."""
        same = str.__eq__(self, other)
        if same is True:
            self.used = True
        return same

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def watched(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """``kwargs`` with names that know whether they were looked up."""
    return {Keyword(name): value for name, value in kwargs.items()}


def check_used(kwargs: Mapping[str, Any], whose: str, code: Iterable[Any]) -> None:
    """Raise :class:`~masac.checks.ConfigError` for keywords that nobody looked at.

    Args:
        kwargs: of :func:`watched`, passed on since.
        whose: what they are for.
        code: functions, classes or modules that may look at them later, or by iterating over them: where one names a
            keyword as an attribute or in quotes, it counts as used.
    """
    unused = [str(name) for name in kwargs if isinstance(name, Keyword) and not name.used]
    if not unused:
        return
    text = "\n".join(_source(part) for part in code)
    unknown = [name for name in unused if not re.search(rf"[.'\"]{re.escape(name)}\b", text)]
    if not unknown:
        return
    known = sorted({name for name in _names_of_keywords(text, code) if name not in unknown})
    close = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.6)
    hint = f"Did you mean {close[0]}?" if close else f"It looks at: {', '.join(known) or 'none'}."
    raise ConfigError(
        f"task.kwargs must be keywords of {whose}; got {', '.join(unknown)}, which it never looks at. {hint}"
    )


def _names_of_keywords(text: str, code: Iterable[Any]) -> set[str]:
    """The names that code takes from its ``**kwargs``, and those of its parameters."""
    names = set(re.findall(r"\bkwargs(?:\.\w+\(|\[)\s*['\"](\w+)['\"]", text))
    for part in code:
        if isinstance(part, Callable) and not inspect.isclass(part):
            names |= {name for name in inspect.signature(part).parameters if name not in ("self", "kwargs")}
    return names - {"batch_dim", "device"}


def _source(part: Any) -> str:
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):  # compiled, or typed in: not to be read
        return ""
