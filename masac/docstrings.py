"""Arguments explained once: read from a docstring, and passed on to classes that take the same ones."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

Class = TypeVar("Class", bound=type)


def argument_texts(docstring: str) -> dict[str, str]:
    """The explanation of each argument in the Args (or Attributes) section of a docstring, on one line each."""
    section = inspect.cleandoc(docstring).replace("Attributes:", "Args:", 1).partition("Args:")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}


def explained_by(*sources: type, as_yaml: bool = False, **texts: str) -> Callable[[Class], Class]:
    """Explain the fields of a dataclass that its own docstring leaves out, in the words of other classes.

    Args:
        sources: classes with arguments of the same names. Their defaults are left out.
        as_yaml: write values as a config file does: ``fill`` for ``"fill"``, ``null`` for None.
        texts: explanations of further fields.
    """
    explained: dict[str, str] = {}
    for source in reversed(sources):
        explained |= argument_texts(source.__doc__ or "")
    explained = {name: text.partition(" Default:")[0] for name, text in explained.items()} | texts
    if as_yaml:
        explained = {name: _yaml(text) for name, text in explained.items()}

    def explain(made: Class) -> Class:
        if made.__doc__ is None:  # python -OO
            return made
        own = explained | argument_texts(made.__doc__)
        entries = [f"    {one.name}: {own[one.name]}" for one in fields(made)]
        head = inspect.cleandoc(made.__doc__).partition("Args:")[0].rstrip()
        made.__doc__ = "\n".join([head, "", "Args:", *entries])
        return made

    return explain


def _yaml(text: str) -> str:
    spelled = re.sub(r'"([a-z0-9_]+)"', r"\1", text)
    for python, yaml in (("None", "null"), ("True", "true"), ("False", "false")):
        spelled = re.sub(rf"\b{python}\b", yaml, spelled)
    return spelled
