"""Errors a user can do something about: they say what must hold, what was got, and what to change."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config value that cannot be meant. The message names the override to change.

    Args:
        message: one line.
        traceback: of what somebody else's code raised, for a file.
    """

    def __init__(self, message: str = "", *, traceback: str | None = None) -> None:
        super().__init__(message)
        self.traceback = traceback


class RunFailedError(RuntimeError):
    """A run that cannot go on. The message says why, and what was saved.

    Args:
        message: one line.
        traceback: of what was raised, in whatever process, for a file.
        says_how_to_go_on: whether the message ends with what is saved and the command to go on with.
    """

    def __init__(self, message: str = "", *, traceback: str | None = None, says_how_to_go_on: bool = False) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.says_how_to_go_on = says_how_to_go_on


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


class EnvironmentWarning(UserWarning):
    """An environment works, but hardly as its author means it."""
