"""The suites of environments. To add one, write a module with a ``SUITE`` and name it in ``SUITES``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

SUITES = {"vmas": "masac.envs.vmas.suite", "pettingzoo": "masac.envs.pettingzoo.suite"}
"""The module of each suite. It imports what it needs when it needs it, as either suite may be missing."""


class Suite(ABC):
    """A suite of environments, for the commands and the config. Its methods take a ``TaskConfig``.

    Attributes:
        slow_hint: what to change about a task whose environments take long to begin.
        your_own: lines of ``masac tasks``: how to train on an environment of your own.
        draws_all: whether all of its environments can be drawn.
    """

    slow_hint: str
    your_own: tuple[str, ...]
    draws_all = False

    @abstractmethod
    def check(self, task: Any) -> None:
        """Raise :class:`~masac.errors.ConfigError` for a key that does not fit the suite."""

    def check_named(self, task: Any) -> None:  # noqa: B027  most tasks always name one
        """Raise :class:`~masac.errors.ConfigError` if the task names no environment yet."""

    @abstractmethod
    def make(self, task: Any, *, num_envs: int, seed: int, device: str, one_episode: bool, warns: bool) -> Any:
        """Make vectorised environments; arguments as of :func:`~masac.envs.registry.make_env`."""

    @abstractmethod
    def environments(self) -> dict[str, dict[str, Any]]:
        """The config that each installed environment starts from if it has no preset, by name."""

    def aliases(self) -> dict[str, str]:
        """Other names of installed environments, with the names that they stand for."""
        return {}

    @abstractmethod
    def hint(self, name: str) -> str:
        """What to do about a name that is no installed environment."""

    @abstractmethod
    def listing(self) -> Iterator[tuple[str, list[str]]]:
        """The paragraphs of ``masac tasks``: a title, which says what is not installed, and names."""

    @abstractmethod
    def read_spaces(self, task: Any) -> dict[str, Any]:
        """The :class:`~masac.envs.space_meanings.GroupSpaces` of a task, by group."""

    def drawn(self, task: Any) -> Any:
        """The task whose environments can be drawn."""
        return task

    @abstractmethod
    def drawer(self, env: Any, task: Any) -> tuple[Callable[[], Any], Mapping[str, Any]]:
        """A function that draws an environment as it is now, and the environment's metadata.

        Raises:
            ConfigError: for an environment that cannot be drawn.
        """

    def header(self, env: Any) -> str | None:
        """A line about the environments for the header of a run."""
        return None


def suite_named(name: str) -> Suite:
    """The suite of a name in ``SUITES``."""
    return cast(Suite, import_module(SUITES[name]).SUITE)
