"""The pettingzoo suite. Imports neither PettingZoo nor PyTorch until an environment is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.names import FAMILIES, hint, short_name, short_names
from masac.envs.suites import Suite
from masac.errors import ConfigError, check

DEFAULTS: dict[str, Any] = {
    "task": {"suite": "pettingzoo", "num_envs": 8, "horizon": None},
    "training": {"total_frames": 40_000, "updates_per_frame": 0.25},
    "evaluation": {"episodes": 32, "every_frames": 10_000},
}
"""What an environment without a preset starts from."""


class PettingZooSuite(Suite):
    """PettingZoo's parallel environments, a user's own, and TorchRL environments from a user's factory."""

    slow_hint = (
        "Fewer environments (task.num_envs=...) or keywords for a smaller one (task.kwargs) begin sooner. "
        "Ctrl-C stops it."
    )
    your_own = (
        "your own: task=pettingzoo/custom task.factory=package.module:function",
        "Large images (cooperative_pong, pistonball, atari) are slow: shrink them in a factory of your own.",
    )

    def check(self, task: TaskConfig) -> None:
        """Raise for a key that does not fit."""
        if task.scenario is not None:
            rule = f"be null beside task.scenario={task.scenario}"
            check("task.factory", task.factory, task.factory is None, rule)
        rule = "be true for task.suite=pettingzoo, whose environments are always reset one by one"
        check("task.joint_resets", task.joint_resets, task.joint_resets, rule)
        divides = task.num_workers == 0 or task.num_envs % task.num_workers == 0
        check("task.num_workers", task.num_workers, divides, f"divide task.num_envs={task.num_envs}")

    def check_named(self, task: TaskConfig) -> None:
        """Raise if the task names no environment: ``Trainer(config, env=...)`` names it later."""
        if task.scenario is None and task.factory is None:
            raise ConfigError(
                "one of task.scenario and task.factory must be set; got null and null. Set task.scenario to a module "
                "with a parallel_env function (mpe2.simple_spread_v3), or task.factory to package.module:function."
            )

    def make(self, task: TaskConfig, *, num_envs: int, seed: int, device: str, one_episode: bool, warns: bool) -> Any:
        """Make environments, in this process or in ``task.num_workers`` others."""
        from masac.envs.pettingzoo.make import make_pettingzoo_env

        return make_pettingzoo_env(
            task, num_envs=num_envs, seed=seed, device=device, one_episode=one_episode, warns=warns
        )

    def environments(self) -> dict[str, dict[str, Any]]:
        """All installed environments, by their names without the version."""
        return {
            name: {**DEFAULTS, "task": {**DEFAULTS["task"], "scenario": module}}
            for name, module in short_names().items()
        }

    def aliases(self) -> dict[str, str]:
        """The modules of the environments, ``mpe2.simple_tag_v3`` for ``simple_tag``."""
        return {module: name for name, module in short_names().items()}

    def hint(self, name: str) -> str:
        """Another version, another package, an installation, or a similar name."""
        return hint(name)

    def listing(self) -> Iterator[tuple[str, list[str]]]:
        """A paragraph per package."""
        for family in FAMILIES:
            missing = f": not installed: {', '.join(family.missing)}. {family.install}" if family.missing else ""
            yield f"pettingzoo, {family.package}{missing}", [short_name(module) for module in family.modules]

    def read_spaces(self, task: TaskConfig) -> dict[str, Any]:
        """With the environment's own names and the lowest choices of discrete actions."""
        from masac.envs.pettingzoo.space_meanings import read_pettingzoo_spaces

        return read_pettingzoo_spaces(task)

    def drawn(self, task: TaskConfig) -> TaskConfig:
        """With ``render_mode``, in this process."""
        from masac.envs.pettingzoo.build import with_render_mode

        return with_render_mode(replace(task, num_workers=0))

    def drawer(self, env: Any, task: TaskConfig) -> tuple[Callable[[], Any], Mapping[str, Any]]:
        """A factory may also make VMAS environments."""
        from masac.envs.pettingzoo.drawing import pettingzoo_drawer

        return pettingzoo_drawer(env, task)


SUITE = PettingZooSuite()
