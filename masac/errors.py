"""Errors that a user can fix: they state what must hold, the actual value, and what to change."""

from __future__ import annotations

from types import NoneType
from typing import Any, Literal, get_args, get_origin


class ConfigError(ValueError):
    """An invalid config value. The message names the override to change.

    Args:
        message: one line.
        traceback: of an error in other code, for a file.
    """

    def __init__(self, message: str = "", *, traceback: str | None = None) -> None:
        super().__init__(message)
        self.traceback = traceback


class RunFailedError(RuntimeError):
    """A run that cannot continue. The message gives the reason, and what was saved.

    Args:
        message: one line.
        traceback: of the error, in any process, for a file.
        names_resume_command: whether the message ends with what was saved and the command that resumes the run.
    """

    def __init__(self, message: str = "", *, traceback: str | None = None, names_resume_command: bool = False) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.names_resume_command = names_resume_command


def check(name: str, value: object, holds: bool, rule: str) -> None:
    """Raise :class:`ConfigError` unless ``holds``.

    Args:
        name: the override that sets the value, such as ``training.batch_size``.
        value: the actual value.
        holds: whether it is valid.
        rule: the rest of "<name> must ...".
    """
    if not holds:
        raise ConfigError(f"{name} must {rule}; got {value!r}. Change it with {name}=...")


def choices(kind: Any) -> tuple[Any, ...]:
    """The values of a ``Literal``, or of a union of some and None."""
    if kind is NoneType:
        return (None,)
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(value for part in get_args(kind) for value in choices(part))


def check_choice(name: str, value: object, kind: Any) -> None:
    """Raise ValueError unless a value is one of the :func:`choices` of a kind."""
    *others, last = map(repr, choices(kind))
    if value not in choices(kind):
        raise ValueError(f"{name} must be {', '.join(others)} or {last}; got {value!r}.")


class EnvironmentWarning(UserWarning):
    """An environment works, but probably not as its author intended."""
