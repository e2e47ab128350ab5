"""Generates parts of the pages: the config's keys, the commands' help, the API and the examples.

When the site is built, ``docs/hooks.py`` replaces a line ``<!-- generated: NAME -->`` of a page by the result of
``GENERATED[NAME]()``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import masac
from masac.cli.composing import composed_experiment
from masac.cli.main import COMMANDS, HELP
from masac.cli.presets import presets as preset_names
from masac.cli.train_help import RUN_DIR, as_yaml, train_help
from masac.docstrings import argument_texts
from masac.envs.suites import SUITES
from masac.settings import Setting, settings_of
from masac.training.config import config_without_presets

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"^<!-- (generated|file): (\S+) -->$", re.MULTILINE)


def filled(page: str) -> str:
    """The text of a page with its marks replaced."""
    return MARK.sub(lambda mark: GENERATED[mark[2]]() if mark[1] == "generated" else file_text(mark[2]), page)


def file_text(name: str) -> str:
    """A Markdown file of the repository without its title."""
    return re.sub(r"\A# .*\n+", "", (ROOT / name).read_text())


def config_keys() -> str:
    """One table per section of the config: every key with its default, unit and meaning."""
    default_run, bare = composed_experiment([f"run_dir={RUN_DIR}"]), config_without_presets()
    return "\n".join(_section(default_run, bare, settings_of(bare), ""))


def _section(config: Any, bare: Any, declared: dict[str, Setting], prefix: str) -> list[str]:
    texts = argument_texts(type(config).__doc__ or "")
    rows, inner = [], []
    for one in fields(config):
        key, value, otherwise = f"{prefix}{one.name}", getattr(config, one.name), getattr(bare, one.name)
        if is_dataclass(value):
            inner += _section(value, otherwise, declared, f"{key}.")
        else:
            preset = "" if value == otherwise or key == "run_dir" else f" Without a preset: `{as_yaml(otherwise)}`."
            text = f"{_cell(texts[one.name])}{preset}"
            default = f"`{as_yaml(value)}` {declared[key].unit or ''}".strip()
            rows.append(f"| `{key}` | {default} | {text} |")
    title = f"## `{prefix.rstrip('.')}`" if prefix else "## The run"
    about = (type(config).__doc__ or "").partition("Args:")[0]
    head = ["| key | default | meaning |", "| --- | --- | --- |"]
    return [title, "", _prose(about), "", *head, *rows, "", *inner]


def _prose(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("``", "`").strip()


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def presets() -> str:
    """The files of the presets, by their names on the command line."""
    parts = []
    root = ROOT / "masac" / "conf"
    for file in sorted(root.rglob("*/*.yaml")):
        group, _, name = file.relative_to(root).with_suffix("").as_posix().partition("/")
        text = file.read_text().replace("# @package _global_\n", "").strip()
        parts += [f"### `{group}={name}`", "", "```yaml", text, "```", ""]
    return "\n".join(parts)


def commands() -> str:
    """The help of masac and of each of its commands."""
    parts = ["## masac", "", *_text_block(HELP)]
    for command in COMMANDS:
        parts += [f"## masac {command}", "", *_text_block(_help_of(command))]
    return "\n".join(parts)


def _help_of(command: str) -> str:
    if command == "train":
        return train_help().partition("\nKeys, and the values")[0]
    module = import_module(f"masac.cli.{command}")
    if command == "tasks":
        return module.HELP
    parser = module.parser()
    parser.formatter_class = partial(parser.formatter_class, width=100)  # not that of the terminal
    return parser.format_help()


def examples() -> str:
    """The programs in ``examples/``: docstring and code of each."""
    parts = []
    for file in sorted((ROOT / "examples").glob("*.py")):
        docstring = inspect.cleandoc(ast.get_docstring(ast.parse(file.read_text())) or "")
        code = file.read_text().partition('"""\n\n')[2].strip()
        parts += [f"## {file.name}", "", _example_text(docstring), ""]
        parts += [f'??? note "The code of {file.name}"', "", *_indented(["```python", *code.splitlines(), "```"]), ""]
    return "\n".join(parts)


def _example_text(docstring: str) -> str:
    """A docstring as Markdown: names as code, indented lines as blocks."""
    text = docstring.replace("``", "`")
    return re.sub(r"\n\n((?: {4}.*\n?)+)", lambda lines: f"\n\n```text\n{inspect.cleandoc(lines[1])}\n```\n", text)


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}".rstrip() for line in lines]


def budgets() -> str:
    """A table of the presets with the frames and updates of their runs."""
    rows = []
    for suite in SUITES:
        for name in preset_names(suite):
            if name == "custom":
                continue
            training = composed_experiment([f"task={suite}/{name}", f"run_dir={RUN_DIR}"]).training
            updates = int((training.total_frames - training.warmup_frames) * training.updates_per_frame)
            cells = (f"`{suite}/{name}`", f"{training.total_frames:,}", f"{updates:,}", f"{training.batch_size}")
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["| task | frames | updates | rows per update |", "| --- | --- | --- | --- |", *rows])


def _text_block(text: str) -> list[str]:
    return ["```text", text.rstrip(), "```", ""]


def api() -> str:
    """One mkdocstrings entry per public name; classes list only the methods that masac defines."""
    parts = []
    for name in sorted(masac.__all__, key=str.lower):
        parts.append(f"::: masac.{name}")
        if isinstance(cls := getattr(masac, name), type):
            parts += ["    options:", "      inherited_members: true", f"      members: [{', '.join(_methods(cls))}]"]
        parts.append("")
    return "\n".join(parts)


def _methods(cls: type) -> list[str]:
    """The public methods and properties that masac defines and documents."""
    own = [one for one in cls.__mro__ if one.__module__.startswith("masac.")]
    found = {name: value for one in reversed(own) for name, value in vars(one).items() if not name.startswith("_")}
    return sorted(
        name
        for name, value in found.items()
        if name != "default_keys" and (isinstance(value, property) or callable(value)) and value.__doc__
    )


GENERATED: dict[str, Callable[[], str]] = {
    "config": config_keys,
    "presets": presets,
    "commands": commands,
    "api": api,
    "budgets": budgets,
    "examples": examples,
}
