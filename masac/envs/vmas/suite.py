"""The vmas suite. Imports neither VMAS nor PyTorch until an environment is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from masac.envs.config import TaskConfig
from masac.envs.suites import Suite
from masac.envs.vmas.names import close_names, vmas_scenarios
from masac.errors import check


class VmasSuite(Suite):
    """VMAS's scenarios and a user's own."""

    slow_hint = (
        "VMAS tries random positions until all agents fit: use fewer agents (task.kwargs.n_agents=...) or a larger "
        "world (task.kwargs.world_spawning_x=... and _y, where the scenario has them). Ctrl-C stops it."
    )
    your_own = ("your own: task=vmas/custom task.scenario=package.module:Class",)
    draws_all = True

    def check(self, task: TaskConfig) -> None:
        """Raise for a key that does not fit."""
        check("task.scenario", task.scenario, bool(task.scenario), "be a VMAS scenario or package.module:Class")
        check("task.horizon", task.horizon, task.horizon is not None, "be a number of steps for task.suite=vmas")
        rule = "be null for task.suite=vmas, whose own scenarios are task.scenario=package.module:Class"
        check("task.factory", task.factory, task.factory is None, rule)
        rule = "be 0 for task.suite=vmas, which steps all environments in one batch"
        check("task.num_workers", task.num_workers, task.num_workers == 0, rule)

    def make(self, task: TaskConfig, *, num_envs: int, seed: int, device: str, one_episode: bool, warns: bool) -> Any:
        """Make environments, which step as one batch and so never rest after one episode."""
        from masac.envs.vmas.make import make_vmas_env

        return make_vmas_env(task, num_envs=num_envs, seed=seed, device=device, warns=warns)

    def environments(self) -> dict[str, dict[str, Any]]:
        """All installed scenarios."""
        return {name: {"task": {"suite": "vmas", "scenario": name}} for name in vmas_scenarios()}

    def hint(self, name: str) -> str:
        """The scenarios with similar names, or all."""
        return close_names(f"vmas/{name}", [f"vmas/{scenario}" for scenario in vmas_scenarios()])

    def listing(self) -> Iterator[tuple[str, list[str]]]:
        """One paragraph."""
        names = vmas_scenarios()
        yield "vmas" if names else "vmas: not installed. pip install vmas", names

    def read_spaces(self, task: TaskConfig) -> dict[str, Any]:
        """With VMAS's controls for discrete actions."""
        from masac.envs.vmas.space_meanings import read_vmas_spaces

        return read_vmas_spaces(task)

    def drawer(self, env: Any, task: TaskConfig) -> tuple[Callable[[], Any], Mapping[str, Any]]:
        """VMAS says nothing about frames per second."""
        from masac.envs.vmas.drawing import vmas_drawer

        return vmas_drawer(env.vmas), {}

    def header(self, env: Any) -> str:
        """How environments are reset."""
        if env.joint_resets:
            return "environments that end are reset jointly (task.joint_resets=true)"
        why = "as the scenario does not allow joint resets" if env.asked_joint_resets else "task.joint_resets=false"
        return f"environments that end are reset one by one ({why})"


SUITE = VmasSuite()
