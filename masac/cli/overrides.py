"""Hydra overrides, checked before Hydra sees them, so that a wrong key gets a near one suggested."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from masac.checks import ConfigError

GROUPS = ("task", "algorithm", "collector")
"""The keys that choose a preset."""

OPEN = ("task.kwargs",)
"""The keys below which anything may be set."""


def check_overrides(overrides: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    """Overrides as Hydra should get them.

    A key under ``task.kwargs`` is added if it is not there yet, without the ``++`` that Hydra would ask for.

    Args:
        overrides: ``key=value`` words from the command line.
        defaults: the default experiment.

    Raises:
        ConfigError: for an unknown key, or a word that is no override.
    """
    known = [*flat_keys(defaults), *GROUPS, *sections(defaults)]
    return [_check(word, known) for word in overrides]


def flat_keys(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of all values, those of an open mapping as one."""
    keys: list[str] = []
    for name, value in config.items():
        key = f"{prefix}{name}"
        keys += flat_keys(value, f"{key}.") if isinstance(value, Mapping) and key not in OPEN else [key]
    return keys


def sections(config: Mapping[str, Any]) -> list[str]:
    """The names of the parts of a config."""
    return [name for name, value in config.items() if isinstance(value, Mapping)]


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint at the known names nearest to ``name``."""
    known = list(known)
    last = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    close += [last[part] for part in difflib.get_close_matches(name.rpartition(".")[2], last, n=2, cutoff=0.6)]
    unique = list(dict.fromkeys(close))[:3]
    return f"Did you mean {' or '.join(unique)}?" if unique else "masac train --help lists all keys."


def _check(word: str, known: list[str]) -> str:
    try:
        override: Override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(
            f"an argument must be key=value; got {word!r} ({str(error).splitlines()[0]}). "
            "Quote values with spaces, commas or brackets: 'key=value'."
        ) from None
    key = override.key_or_group
    if key.startswith("hydra") or override.is_delete() or key in known:
        return word
    if any(key.startswith(f"{open_key}.") for open_key in OPEN):
        return word if override.is_add() or override.is_force_add() else f"++{word}"
    raise ConfigError(f"{key} is no key of the config. {suggest(key, known)}")
