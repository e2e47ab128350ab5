"""The config of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from masac.envs.suites import SUITES, suite_named
from masac.errors import check
from masac.settings import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The environments of a run.

    Args:
        suite: vmas, or pettingzoo (parallel environments).
        scenario: vmas: a scenario's name, or ``package.module:Class`` for one of your own; pettingzoo: a module with a
            parallel_env function, such as ``mpe2.simple_spread_v3``; null with a factory.
        factory: pettingzoo only: your own ``package.module:function``, called with kwargs; it returns a PettingZoo
            ParallelEnv or a TorchRL environment.
        kwargs: keywords of the scenario, of the module's parallel_env, or of the factory.
        num_envs: environments stepped at once.
        num_workers: pettingzoo only: processes that share the environments; 0 steps them in this process.
        horizon: steps after which an episode is truncated, so that its last state keeps its value; pettingzoo: null
            leaves that to the environment (evaluations and videos then end after 1,000 steps).
        continuous_actions: vmas only: continuous actions; false for discrete ones.
        joint_resets: vmas only: draw initial states for all environments at once and use them as episodes end, if the
            scenario allows it; false resets environments one by one with VMAS's ``reset_at``, which takes longer and
            gives other random numbers.
        success: ``terminated`` if an episode that terminates before the horizon is a success; null if success is not
            defined.
        success_is: a description of success in this task, to be printed.
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
        """A description of success; None if it is not defined."""
        if self.success is None:
            return None
        within = "" if self.horizon is None else f", within {self.horizon} steps"
        return f"{self.success_is}{within}"

    @property
    def name(self) -> str:
        """The name of the task in titles and file names."""
        return task_name(self.scenario, self.factory)


def task_name(scenario: str | None, factory: str | None) -> str:
    """``simple_tag_v3`` for ``mpe2.simple_tag_v3``; for ``package.module:name`` the name after the colon."""
    name = (factory or scenario or "unnamed").rpartition(":")[2].rpartition(".")[2]
    return name.strip("<>")  # of "<lambda>", for folders
