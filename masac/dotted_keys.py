"""Configs by dotted keys: ``{"task": {"num_envs": 8}}`` as ``{"task.num_envs": 8}``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def flatten(config: Mapping[str, Any], *, whole: Collection[str] = ()) -> dict[str, Any]:
    """The values of a nested config by their dotted keys.

    Args:
        config: any depth of mappings.
        whole: dotted keys whose mappings stay values.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and name not in whole:
            inner = [key.removeprefix(f"{name}.") for key in whole if key.startswith(f"{name}.")]
            flat |= {f"{name}.{key}": one for key, one in flatten(value, whole=inner).items()}
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested config that :func:`flatten` took apart."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return nested
