"""Errors of configs: what must hold, what was got, which override to change."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config value that cannot be meant. The message names the override to change."""


def check(name: str, value: object, holds: bool, rule: str) -> None:
    """Raise :class:`ConfigError` unless ``holds``.

    Args:
        name: the override that sets the value, ``training.batch_size`` say.
        value: what was got.
        holds: whether it is right.
        rule: what must hold, to complete "<name> must ...".
    """
    if not holds:
        raise ConfigError(f"{name} must {rule}; got {value!r}. Change it with {name}=...")
