"""The error messages of the package, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ANYTHING = "…"
"""What stands for a value that is known only when the error is raised."""

Message = tuple[str, str]
"""The name of the exception, and what it says."""


def collect_messages(package: Path) -> dict[str, list[Message]]:
    """The messages of all errors that the modules of a package raise, by module.

    Found are calls of exceptions (names that end in Error) with a text, calls of ``masac.errors.check``, and functions
    that return such a text.

    Args:
        package: the folder.
    """
    found = {}
    for file in sorted(package.rglob("*.py")):
        if file == package / "errors.py":
            continue  # the frame of messages that are found where it is called
        tree = ast.parse(file.read_text())
        messages = list(dict.fromkeys(_messages(tree)))
        if messages:
            parts = file.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = messages
    return found


def _messages(tree: ast.AST, scope: tuple[ast.AST, ...] = ()) -> Iterator[Message]:
    for node in ast.iter_child_nodes(tree):
        inside = (*scope, node) if isinstance(node, ast.FunctionDef) else scope
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "check" and len(node.args) == 4:
                name, rule = _text(node.args[0], inside), _text(node.args[3], inside)
                yield "ConfigError", f"{name} must {rule}; got {ANYTHING}. Change it with {name}=..."
            elif node.func.id.endswith("Error") and node.args and (text := _text(node.args[0], inside)).strip(ANYTHING):
                yield node.func.id, text
        elif isinstance(node, ast.Return) and node.value and " must " in (text := _text(node.value, inside)):
            yield "Error", text
        yield from _messages(node, inside)


def _text(node: ast.expr, scope: tuple[ast.AST, ...]) -> str:
    """What an expression says, with ``ANYTHING`` for what is not written there."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ANYTHING
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, scope) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, scope) + _text(node.right, scope)
    if isinstance(node, ast.Name) and (value := _assigned(node, scope)) is not None:
        return _text(value, scope)
    return ANYTHING


def _assigned(name: ast.Name, scope: tuple[ast.AST, ...]) -> ast.expr | None:
    """The text last assigned to a name above its use, in the function around it."""
    if not scope:
        return None
    found = [
        node
        for node in ast.walk(scope[-1])
        if isinstance(node, ast.Assign)
        and node.lineno < name.lineno
        and any(isinstance(target, ast.Name) and target.id == name.id for target in node.targets)
    ]
    value = max(found, key=lambda node: node.lineno).value if found else None
    return value if isinstance(value, ast.Constant | ast.JoinedStr) else None
