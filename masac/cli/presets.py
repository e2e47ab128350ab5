"""The values of ``task=``: the presets, and every installed environment without one."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from importlib.resources import files
from itertools import takewhile
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from masac.cli.ranks import among_ranks
from masac.envs.config import task_name
from masac.envs.suites import SUITES, suite_named

# On import, as the jobs of a sweep may run in processes that only import this module.
OmegaConf.register_new_resolver("masac.task_name", task_name, replace=True)
# With Hydra's ${now:...} each rank would have its own folder.
OmegaConf.register_new_resolver(
    "masac.now", lambda form: among_ranks(time.strftime(form)), use_cache=True, replace=True
)


def _where_it_sees_others(critic: str, sees: str) -> str:
    """What the critics of a preset see: ``sees``, but their group with a kind of critic that sees one agent."""
    from masac.networks.critics import CRITICS  # imported when needed: PyTorch

    return sees if critic not in CRITICS or CRITICS[critic].sees_others else "group"


OmegaConf.register_new_resolver("masac.where_it_sees_others", _where_it_sees_others, replace=True)
# The steps of a preset's critic targets: with a memory, which sees every step, they are 1.
OmegaConf.register_new_resolver(
    "masac.without_memory", lambda memory, n_step: n_step if memory == "none" else 1, replace=True
)


def presets(suite: str) -> list[str]:
    """The names of a suite's presets, ``custom`` among them."""
    folder = files("masac.conf") / "task" / suite
    names = (file.name for file in folder.iterdir()) if folder.is_dir() else ()
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def about_preset(suite: str, name: str) -> str | None:
    """What the comment at the top of a preset says about its task; None for a task without a preset."""
    if name not in presets(suite):
        return None
    lines = takewhile(lambda line: line.startswith("#"), _text(suite, name).splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines if "@package" not in line)


def minutes_of_preset(suite: str, name: str) -> int | None:
    """How many minutes a run of a preset takes on two CPU cores, as its comment says; None if it says none."""
    found = re.search(r"About (\d+) minutes? on two CPU cores", about_preset(suite, name) or "")
    return int(found[1]) if found else None


def register_presets() -> None:
    """Register the defaults of the dataclasses and every installed environment, by each of its names, with Hydra."""
    from masac.training.config import config_without_presets

    store = ConfigStore.instance()
    defaults: dict[str, Any] = asdict(config_without_presets())
    store.store(name="experiment_schema", node=defaults)
    for suite in SUITES:
        tuned, nodes = presets(suite), suite_named(suite).environments()
        for name, node in nodes.items():
            if name not in tuned:
                store.store(group=f"task/{suite}", name=name, node=node, package="_global_")
        for alias, name in suite_named(suite).aliases().items():
            node = _read_preset(suite, name) if name in tuned else nodes[name]
            store.store(group=f"task/{suite}", name=alias, node=node, package="_global_")


def explain_missing(error: MissingConfigException) -> str:
    """The message for a preset that does not exist."""
    missing = str(error.missing_cfg_file or "")
    if not missing.startswith("task/"):
        return str(error).strip().replace("\n", " ")
    name = missing.removeprefix("task/")
    suite, _, rest = name.partition("/")
    hint = suite_named(suite).hint(rest) if suite in SUITES else suite_named("vmas").hint(name)
    return f"task must be a preset or an installed environment (masac tasks lists them); got {name!r}. {hint}".strip()


def _read_preset(suite: str, name: str) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(_text(suite, name))))


def _text(suite: str, name: str) -> str:
    return (files("masac.conf") / "task" / suite / f"{name}.yaml").read_text()
