"""Keywords that a scenario or a factory never looks up: a misspelt one is not to be ignored in silence."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from masac.errors import ConfigError


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


def check_used(kwargs: Mapping[str, Any], whose: str, functions: Sequence[Callable[..., Any]]) -> None:
    """Raise :class:`~masac.errors.ConfigError` for keywords that nobody looked up, where nobody can use them otherwise.

    Args:
        kwargs: of :func:`watched`, passed on since.
        whose: what they are for.
        functions: that got them and have returned. Where one does anything with its ``**kwargs`` but look names up in
            them and pass them on to another of these, what they are used for is not known, and nothing is raised.
    """
    unused = _unused(kwargs)
    if unused and all(map(_only_looks_up, functions)):
        raise unused_keywords(kwargs, whose, functions)


def unused_keywords(kwargs: Mapping[str, Any], whose: str, functions: Sequence[Callable[..., Any]]) -> ConfigError:
    """The error for keywords that nobody looked up, with a near name; arguments as of :func:`check_used`."""
    unused = _unused(kwargs)
    return ConfigError(
        f"task.kwargs must be keywords of {whose}; got {', '.join(unused)}, which it never looks at. "
        f"{_hint(unused, functions)}"
    )


def said_of_unused(kwargs: Mapping[str, Any], whose: str, functions: Sequence[Callable[..., Any]]) -> str | None:
    """What to warn of where keywords seem to be used by nobody; None if all are.

    Args:
        kwargs: of :func:`watched`, passed on since.
        whose: what they are for.
        functions: that got them. Names that their modules have in quotes or as attributes count as used: they may be
            looked up later, or in a copy.
    """
    text = "\n".join(_source(inspect.getmodule(function)) for function in functions)
    unused = [name for name in _unused(kwargs) if not re.search(rf"[.'\"]{re.escape(name)}\b", text)]
    if not unused:
        return None
    return f"{whose} seems not to use {', '.join(unused)} of task.kwargs. {_hint(unused, functions)}"


def _unused(kwargs: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in kwargs if isinstance(name, Keyword) and not name.used]


def _only_looks_up(function: Callable[..., Any]) -> bool:
    """Whether a function's source shows that it only looks names up in its ``**kwargs``, or passes them to super."""
    try:
        tree = ast.parse(textwrap.dedent(_source(function)))
    except SyntaxError:  # a lambda, say
        return False
    definition = tree.body[0] if tree.body else None
    if not isinstance(definition, ast.FunctionDef) or definition.decorator_list:
        return False
    if definition.args.kwarg is None:
        return True
    name = definition.args.kwarg.arg

    def harmless(node: ast.AST) -> Iterable[ast.AST]:
        """The parts of a node that may be the dict."""
        if isinstance(node, ast.Subscript):
            return [node.value]
        if isinstance(node, ast.Compare):
            return [
                part for op, part in zip(node.ops, node.comparators, strict=True) if isinstance(op, ast.In | ast.NotIn)
            ]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("get", "pop", "setdefault"):
                return [node.func.value]
            if node.func.attr == function.__name__:
                return [keyword.value for keyword in node.keywords if keyword.arg is None]
            if node.func.attr == "check_kwargs_consumed":  # VMAS's
                return node.args
        return []

    nodes = list(ast.walk(tree))
    known = {id(part) for node in nodes for part in harmless(node)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    if any(node.id in ("locals", "vars", "eval", "exec") for node in names):
        return False
    return all(id(node) in known for node in names if node.id == name)


def _hint(unused: Sequence[str], functions: Sequence[Callable[..., Any]]) -> str:
    names: set[str] = set()
    for function in functions:
        names |= set(re.findall(r"\bkwargs(?:\.\w+\(|\[)\s*['\"](\w+)['\"]", _source(function)))
        with suppress(TypeError, ValueError):  # written in C, say
            names |= set(inspect.signature(function).parameters) - {"self", "kwargs", "batch_dim", "device"}
    close = difflib.get_close_matches(unused[0], sorted(names), n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"It looks at: {', '.join(sorted(names))}." if names else "Correct it, or leave it out."


def _source(part: Any) -> str:
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):  # compiled, or typed in: not to be read
        return ""
