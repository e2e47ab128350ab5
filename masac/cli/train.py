"""``masac train``: Hydra composes the experiment, the trainer runs it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from masac.checks import ConfigError, RunFailedError
from masac.cli.arguments import MULTIRUN, hydra_arguments, split_resume, sweep_folder
from masac.cli.errors import errors_as_lines, explained
from masac.cli.help import train_help
from masac.cli.presets import register_presets
from masac.cli.several import are_several

ERROR_LOG = "error.log"
"""What a job of a sweep that failed leaves in its folder."""


def train(arguments: Sequence[str]) -> None:
    """Run ``masac train`` with its arguments; exits with 2 for a mistake in them, 1 for a run that failed."""
    sys.path.append(os.getcwd())  # where a user's own scenario is, whichever way masac was started
    with errors_as_lines("masac train"):
        if any(argument in ("-h", "--help") for argument in arguments):
            print(train_help([word for word in arguments if not word.startswith("-")]), end="")
            return
        if are_several() and any(argument in MULTIRUN for argument in arguments):
            raise ConfigError("a sweep (-m) must be begun without torchrun; got several ranks. Start torchrun a job")
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


def _list_failed_jobs(sweep: Path, started: float) -> None:
    failed = [log for log in sorted(sweep.glob(f"*/{ERROR_LOG}")) if log.stat().st_mtime >= started - 1]
    if failed:
        lines = [f"  {log}: {log.read_text().splitlines()[-1]}" for log in failed]
        raise RunFailedError("\n".join([f"{len(failed)} of the jobs failed:", *lines]))
