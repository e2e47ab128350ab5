"""``masac train``: Hydra composes the experiment, the trainer runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from masac.checks import ConfigError, RunFailedError
from masac.cli.help import train_help
from masac.cli.overrides import check_overrides
from masac.envs.scenarios import close_names, vmas_scenarios

HYDRA_FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd")


def train(arguments: Sequence[str]) -> None:
    """Run ``masac train`` with its arguments; exits with 2 for a mistake in them, 1 for a run that failed."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(train_help(), end="")
        return
    sys.path.append(os.getcwd())  # where a user's own scenario is, whichever way masac was started
    try:
        _register_presets()
        sys.argv = ["masac train", *_hydra_arguments(arguments)]
        # Otherwise Hydra prints a shortened trace and exits by itself.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        _run_job()
    except ConfigError as error:
        _fail(str(error), 2)
    except RunFailedError as error:
        _fail(str(error), 1)
    except MissingConfigException as error:
        _fail(_explain_missing(error), 2)
    except (HydraException, OmegaConfBaseException) as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped at once; the run's files are those of the last iteration", 130)


@hydra.main(config_path="pkg://masac.conf", config_name="config", version_base="1.3")
def _run_job(composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from masac.cli.experiment import run_experiment  # imported when needed: PyTorch

    run_experiment(composed, HydraConfig.get().runtime.output_dir)


def _register_presets() -> None:
    """Make the dataclasses' defaults, and every scenario without a preset of its own, known to Hydra."""
    from masac.training.config import ExperimentConfig

    store = ConfigStore.instance()
    defaults: dict[str, Any] = asdict(ExperimentConfig())
    store.store(name="experiment_schema", node=defaults)
    presets = {resource.name.removesuffix(".yaml") for resource in (files("masac.conf") / "task" / "vmas").iterdir()}
    for scenario in vmas_scenarios():
        if scenario in presets:
            continue
        node = {"task": {"suite": "vmas", "scenario": scenario}}
        store.store(group="task/vmas", name=scenario, node=node, package="_global_")


def _hydra_arguments(arguments: Sequence[str]) -> list[str]:
    from masac.training.config import ExperimentConfig

    flags: list[str] = []
    overrides: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("-"):
            flags.append(word)
            if word in HYDRA_FLAGS_WITH_VALUE:
                flags.append(next(words, ""))
        else:
            overrides.append(word)
    checked = check_overrides(overrides, asdict(ExperimentConfig()))
    if "-m" in flags or "--multirun" in flags:
        # In a sweep run_dir is the folder of all jobs; each gets one of its own inside.
        checked = [
            f"hydra.sweep.dir={word.partition('=')[2]}" if word.startswith("run_dir=") else word for word in checked
        ]
    return [*flags, *checked]


def _explain_missing(error: MissingConfigException) -> str:
    missing = str(error.missing_cfg_file or "")
    if missing.startswith("task/"):
        name = missing.removeprefix("task/").removeprefix("vmas/")
        return f"task must be a preset or a scenario; got {missing.removeprefix('task/')!r}. " + close_names(
            f"vmas/{name}", [f"vmas/{scenario}" for scenario in vmas_scenarios()]
        )
    return str(error).strip().replace("\n", " ")


def _fail(message: str, code: int) -> None:
    print(f"masac train: error: {message}", file=sys.stderr)
    sys.exit(code)
