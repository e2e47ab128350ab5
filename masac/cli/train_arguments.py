"""The arguments of ``masac train``, from the command line to Hydra."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from masac.cli.overrides import check_overrides
from masac.errors import ConfigError

FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd")
MULTIRUN = ("-m", "--multirun")
RESUME = "--resume"
SWEEP_DIR = "hydra.sweep.dir="
DEFAULT_SWEEP_DIR = "runs/sweep-${now:%Y%m%d-%H%M%S}"

# Hydra registers the same, but only after the folder of a sweep was read here.
OmegaConf.register_new_resolver("now", time.strftime, use_cache=True, replace=True)


def split_resume(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder after ``--resume`` (None without it), and the other arguments.

    Raises:
        ConfigError: if no folder follows, or another argument does not go with it.
    """
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith(f"{RESUME}=") else [word])]
    if RESUME not in words:
        return None, words
    at = words.index(RESUME)
    folder = words[at + 1] if at + 1 < len(words) else "-"
    if folder.startswith("-") or ("=" in folder and not Path(folder).is_dir()):
        raise ConfigError("--resume must be followed by the folder of a run: masac train --resume runs/mine")
    rest = words[:at] + words[at + 2 :]
    useless = [word for word in rest if word.startswith(("-", "hydra", "run_dir="))]
    if useless:
        raise ConfigError(
            f"--resume continues one run in its own folder and must not be combined with {' '.join(useless)}. Leave "
            "that out."
        )
    return Path(folder), rest


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``masac train``, checked, in Hydra's form."""
    from masac.training.config import ExperimentConfig

    flags: list[str] = []
    overrides: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("-"):
            flags.append(word)
            if word in FLAGS_WITH_VALUE:
                flags.append(next(words, ""))
        else:
            overrides.append(word)
    checked = check_overrides(overrides, asdict(ExperimentConfig()))
    if any(flag in MULTIRUN for flag in flags):
        # In a sweep run_dir is the folder of all jobs; each job has its own folder inside.
        given = [word for word in checked if word.startswith(("run_dir=", SWEEP_DIR))]
        value = OverridesParser.create().parse_override(given[-1]).value() if given else DEFAULT_SWEEP_DIR
        folder = str(OmegaConf.create({"folder": value})["folder"])
        checked = [word for word in checked if word not in given]
        checked.append(SWEEP_DIR + "'" + folder.replace("\\", "\\\\").replace("'", "\\'") + "'")
    return [*flags, *checked]


def sweep_folder(arguments: Sequence[str]) -> Path | None:
    """The folder of a sweep's jobs, given Hydra's arguments; None if it is not a sweep."""
    given = [word for word in arguments if word.startswith(SWEEP_DIR)]
    return Path(str(OverridesParser.create().parse_override(given[-1]).value())) if given else None
