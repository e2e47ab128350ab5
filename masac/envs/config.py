"""What a user can set about a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from masac.checks import check


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """An environment.

    Args:
        suite: vmas.
        scenario: a scenario's name, or ``package.module:Class`` for one of your own.
        kwargs: keywords of the scenario.
        num_envs: environments stepped at once.
        horizon: steps until an episode is cut short (truncated: its last state still has a value).
        continuous_actions: continuous actions, else discrete ones.
        success: ``terminated`` if an episode that terminates before the horizon is a success; null if the scenario does
            not say what success is.
    """

    suite: str = "vmas"
    scenario: str = "navigation"
    kwargs: dict[str, Any] = field(default_factory=dict)
    num_envs: int = 64
    horizon: int = 100
    continuous_actions: bool = True
    success: str | None = None

    def __post_init__(self) -> None:
        check("task.suite", self.suite, self.suite == "vmas", "be vmas")
        check("task.num_envs", self.num_envs, self.num_envs >= 1, "be at least 1")
        check("task.horizon", self.horizon, self.horizon >= 1, "be at least 1")
        check("task.success", self.success, self.success in (None, "terminated"), "be terminated or null")

    @property
    def name(self) -> str:
        """What to call the task in a file name or a title."""
        return self.scenario.rpartition(":")[2]
