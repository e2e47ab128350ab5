"""What a user can set about a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from masac.envs.suites import SUITES, suite_named
from masac.errors import check
from masac.settings import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """An environment.

    Args:
        suite: vmas, or pettingzoo (its parallel environments).
        scenario: vmas: a scenario's name, or ``package.module:Class`` for one of your own; pettingzoo: a module with a
            parallel_env function, ``mpe2.simple_spread_v3`` say, null with a factory.
        factory: pettingzoo only: ``package.module:function`` of your own, called with kwargs; it returns a PettingZoo
            ParallelEnv or a TorchRL environment.
        kwargs: keywords of the scenario, of the module's parallel_env, or of the factory.
        num_envs: environments stepped at once.
        num_workers: pettingzoo only: processes that share the environments, 0 to step them in this process.
        horizon: steps until an episode is cut short (truncated: its last state still has a value); pettingzoo: null
            leaves that to the environment (evaluations and videos are then cut after 1,000 steps).
        continuous_actions: vmas only: continuous actions, else discrete ones.
        joint_resets: vmas only: draw initial states for all environments at once and use them as episodes end, if the
            scenario allows it; false resets environments one by one with VMAS's ``reset_at``, which takes longer and
            gives other random numbers.
        success: ``terminated`` if an episode that terminates before the horizon is a success; null if the environment
            does not say what success is.
        success_is: with success, what that means in this task, to be printed.
    """

    suite: str = "vmas"
    scenario: str | None = "navigation"
    factory: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    num_envs: int = setting(64, low=1, unit="environments")
    num_workers: int = setting(0, low=0, unit="processes", may_change=True)
    horizon: int | None = setting(100, low=1, unit="steps", may_change=True)
    continuous_actions: bool = True
    joint_resets: bool = setting(True, may_change=True)
    success: str | None = None
    success_is: str = "the environment ends the episode (terminated)"

    def __post_init__(self) -> None:
        check("task.suite", self.suite, self.suite in SUITES, f"be one of {', '.join(SUITES)}")
        check_settings(self, "task")
        check("task.success", self.success, self.success in (None, "terminated"), "be terminated or null")
        suite_named(self.suite).check(self)

    @property
    def success_means(self) -> str | None:
        """What a success is, in words; None where nothing is."""
        if self.success is None:
            return None
        within = "" if self.horizon is None else f", within {self.horizon} steps"
        return f"{self.success_is}{within}"

    @property
    def name(self) -> str:
        """What to call the task in a file name or a title."""
        return task_name(self.scenario, self.factory)


def task_name(scenario: str | None, factory: str | None) -> str:
    """``simple_tag_v3`` for ``mpe2.simple_tag_v3``; of a user's own scenario or factory the name after the colon."""
    return (factory or scenario or "unnamed").rpartition(":")[2].rpartition(".")[2]
