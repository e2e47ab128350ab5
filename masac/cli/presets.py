"""The values of ``task=``: the presets, and every installed environment without one."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib.resources import files
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from masac.cli.multi_process import among_ranks
from masac.envs.config import task_name
from masac.envs.pettingzoo_names import hint, short_names
from masac.envs.vmas_names import close_names, vmas_scenarios

# On import, as the jobs of a sweep may run in processes that only import this module.
OmegaConf.register_new_resolver("masac.task_name", task_name, replace=True)
# With Hydra's ${now:...} each rank would have its own folder.
OmegaConf.register_new_resolver(
    "masac.now", lambda form: among_ranks(time.strftime(form)), use_cache=True, replace=True
)

PETTINGZOO_DEFAULTS: dict[str, Any] = {
    "task": {"suite": "pettingzoo", "num_envs": 8, "horizon": None},
    "training": {"total_frames": 40_000, "updates_per_frame": 0.25},
    "evaluation": {"episodes": 32, "every_frames": 10_000},
}
"""The defaults of a PettingZoo environment without a preset."""


def presets(suite: str) -> list[str]:
    """The names of a suite's presets, ``custom`` among them."""
    folder = files("masac.conf") / "task" / suite
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def register_presets() -> None:
    """Register the defaults of the dataclasses, every VMAS scenario and every PettingZoo environment with Hydra.

    A PettingZoo environment has two names, ``simple_tag`` and ``mpe2.simple_tag_v3``.
    """
    from masac.training.config import ExperimentConfig

    store = ConfigStore.instance()
    defaults: dict[str, Any] = asdict(ExperimentConfig())
    store.store(name="experiment_schema", node=defaults)
    tuned = presets("vmas")
    for scenario in vmas_scenarios():
        if scenario not in tuned:
            node = {"task": {"suite": "vmas", "scenario": scenario}}
            store.store(group="task/vmas", name=scenario, node=node, package="_global_")
    tuned = presets("pettingzoo")
    for name, module in short_names().items():
        node = _read_preset(name) if name in tuned else _untuned(module)
        store.store(group="task/pettingzoo", name=module, node=node, package="_global_")
        if name not in tuned:
            store.store(group="task/pettingzoo", name=name, node=node, package="_global_")


def explain_missing(error: MissingConfigException) -> str:
    """The message for a preset that does not exist."""
    missing = str(error.missing_cfg_file or "")
    if not missing.startswith("task/"):
        return str(error).strip().replace("\n", " ")
    name = missing.removeprefix("task/")
    if name.startswith("pettingzoo/"):
        suggestion = hint(name.removeprefix("pettingzoo/"))
    else:
        known = [f"vmas/{scenario}" for scenario in vmas_scenarios()]
        suggestion = close_names(f"vmas/{name.removeprefix('vmas/')}", known)
    message = f"task must be a preset or an installed environment (masac tasks lists them); got {name!r}. {suggestion}"
    return message.strip()


def _read_preset(name: str) -> dict[str, Any]:
    text = (files("masac.conf") / "task" / "pettingzoo" / f"{name}.yaml").read_text()
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(text)))


def _untuned(module: str) -> dict[str, Any]:
    return {**PETTINGZOO_DEFAULTS, "task": {**PETTINGZOO_DEFAULTS["task"], "scenario": module}}
