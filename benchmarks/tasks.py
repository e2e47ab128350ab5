"""The tasks of masac's presets."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

from omegaconf import OmegaConf

from masac.envs.config import TaskConfig


def vmas_task(name: str, **changes: Any) -> TaskConfig:
    """The task of a preset of the vmas suite.

    Args:
        name: navigation, say.
        changes: fields that are to be others.
    """
    preset = OmegaConf.create((files("masac.conf") / "task" / "vmas" / f"{name}.yaml").read_text())
    task = cast(dict[str, Any], OmegaConf.to_container(preset))["task"]
    return TaskConfig(**{**task, **changes})
