"""``masac train``: Hydra composes the experiment, the trainer runs it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from masac.checks import ConfigError, RunFailedError
from masac.cli.errors import errors_as_lines, explained
from masac.cli.help import train_help
from masac.cli.overrides import check_overrides
from masac.cli.presets import register_presets

HYDRA_FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd")
MULTIRUN = ("-m", "--multirun")
RESUME = "--resume"
SWEEP_DIR = "hydra.sweep.dir="
DEFAULT_SWEEP_DIR = "runs/sweep-${now:%Y%m%d-%H%M%S}"
ERROR_LOG = "error.log"
"""What a job of a sweep that failed leaves in its folder."""


def train(arguments: Sequence[str]) -> None:
    """Run ``masac train`` with its arguments; exits with 2 for a mistake in them, 1 for a run that failed."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(train_help(), end="")
        return
    sys.path.append(os.getcwd())  # where a user's own scenario is, whichever way masac was started
    with errors_as_lines("masac train"):
        register_presets()
        run_dir, words = split_resume(arguments)
        if run_dir is not None:
            from masac.cli.experiment import resume_experiment  # imported when needed: PyTorch

            resume_experiment(run_dir, words)
            return
        sys.argv = ["masac train", *hydra_arguments(words)]
        sweep, started, stopped = sweep_folder(sys.argv[1:]), time.time(), False
        try:
            _run_job()
        except SweepStopped:
            stopped = True
        if sweep is not None:
            _list_failed_jobs(sweep, started)
            if not stopped:
                print(f"all jobs are done; next: masac plot {shlex.quote(str(sweep))}")


@hydra.main(config_path="pkg://masac.conf", config_name="config", version_base="1.3")
def _run_job(composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from masac.cli.experiment import run_experiment  # imported when needed: PyTorch

    settings = HydraConfig.get()
    run_dir = settings.runtime.output_dir
    if settings.mode is not RunMode.MULTIRUN:
        run_experiment(composed, run_dir)
        return
    Path(run_dir, ERROR_LOG).unlink(missing_ok=True)  # of an earlier sweep into the same folder
    try:
        interrupted = run_experiment(composed, run_dir)
    except Exception as error:  # a job that fails must not stop the others
        message = explained(error)
        Path(run_dir, ERROR_LOG).write_text(message + "\n")
        print(f"masac train: job {settings.job.num} failed: {message.splitlines()[-1]}", file=sys.stderr, flush=True)
        return
    if interrupted:
        print("masac train: the sweep is stopped; jobs after this one are not begun", flush=True)
        raise SweepStopped


class SweepStopped(BaseException):
    """Somebody asked a job of a sweep to stop."""


def split_resume(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder after ``--resume``, if that is there, and the other arguments.

    Raises:
        ConfigError: if no folder follows, or a sweep is asked for at once.
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
            f"--resume goes on with one run, where it is; it cannot be had with {' '.join(useless)}. Leave that out."
        )
    return Path(folder), rest


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``masac train`` as Hydra should get them, checked."""
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
    if any(flag in MULTIRUN for flag in flags):
        # In a sweep run_dir is the folder of all jobs; each gets one of its own inside.
        given = [word for word in checked if word.startswith(("run_dir=", SWEEP_DIR))]
        value = OverridesParser.create().parse_override(given[-1]).value() if given else DEFAULT_SWEEP_DIR
        setup_globals()  # ${now:...}
        folder = str(OmegaConf.create({"folder": value})["folder"])
        checked = [word for word in checked if word not in given]
        checked.append(SWEEP_DIR + "'" + folder.replace("\\", "\\\\").replace("'", "\\'") + "'")
    return [*flags, *checked]


def sweep_folder(arguments: Sequence[str]) -> Path | None:
    """The folder of a sweep's jobs, given Hydra's arguments; None if it is no sweep."""
    given = [word for word in arguments if word.startswith(SWEEP_DIR)]
    return Path(str(OverridesParser.create().parse_override(given[-1]).value())) if given else None


def _list_failed_jobs(sweep: Path, started: float) -> None:
    failed = [log for log in sorted(sweep.glob(f"*/{ERROR_LOG}")) if log.stat().st_mtime >= started - 1]
    if failed:
        lines = [f"  {log}: {log.read_text().splitlines()[-1]}" for log in failed]
        raise RunFailedError("\n".join([f"{len(failed)} of the jobs failed:", *lines]))
