"""``masac train``: Hydra composes the experiment, the trainer runs it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from masac.cli.errors import ERROR_LOG, errors_as_lines, explained
from masac.cli.presets import register_presets
from masac.cli.ranks import are_several
from masac.cli.train_arguments import MULTIRUN, hydra_arguments, split_resume, sweep_folder
from masac.cli.train_help import train_help
from masac.errors import ConfigError, RunFailedError


def train(arguments: Sequence[str]) -> None:
    """Run ``masac train`` with its arguments; exits with 2 for a mistake in them, 1 for a run that failed."""
    with errors_as_lines("masac train"):
        if any(argument in ("-h", "--help") for argument in arguments):
            print(train_help([word for word in arguments if not word.startswith("-")]), end="")
            return
        if are_several() and any(argument in MULTIRUN for argument in arguments):
            raise ConfigError(
                "a sweep (-m) must be started without torchrun; got several ranks. Start torchrun once per job"
            )
        register_presets()
        run_dir, words = split_resume(arguments)
        if run_dir is not None:
            from masac.cli.experiment import resume_experiment  # imported when needed: PyTorch

            stopped_by = resume_experiment(run_dir, words)
        else:
            stopped_by = _train(words)
    if stopped_by is not None and not are_several():  # torchrun would report a failure with a traceback
        sys.exit(128 + stopped_by)


def _train(words: Sequence[str]) -> int | None:
    """Run one job, or the jobs of a sweep; returns the number of the signal that stopped it."""
    sys.argv = ["masac train", *hydra_arguments(words)]
    sweep, started, stopped_by = sweep_folder(sys.argv[1:]), time.time(), None
    try:
        _run_job()
    except JobEnded as ended:
        if ended.error is not None:
            raise ended.error from None
        stopped_by = ended.number
    if sweep is not None:
        _list_failed_jobs(sweep, started)
        if stopped_by is None:
            print(f"all jobs are done; next: masac plot {shlex.quote(str(sweep))}")
    return stopped_by


class JobEnded(BaseException):
    """A job failed, or a signal stopped it. Not an ``Exception``, for which Hydra would print the overrides.

    Args:
        error: why it failed.
        number: of the signal.
    """

    def __init__(self, error: Exception | None, number: int | None) -> None:
        super().__init__(error, number)
        self.error = error
        self.number = number


@hydra.main(config_path="pkg://masac.conf", config_name="config", version_base="1.3")
def _run_job(composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from masac.cli.experiment import run_experiment  # imported when needed: PyTorch

    settings = HydraConfig.get()
    run_dir = settings.runtime.output_dir
    sweeps = settings.mode is RunMode.MULTIRUN
    if sweeps:
        Path(run_dir, ERROR_LOG).unlink(missing_ok=True)  # of an earlier sweep into the same folder
    try:
        stopped_by = run_experiment(composed, run_dir)
    except Exception as error:
        if not sweeps:
            raise JobEnded(error, None) from None
        _note_failure(error, Path(run_dir), settings.job.num)  # a job that fails must not stop the others
        return
    if stopped_by is not None:
        if sweeps:
            print("masac train: the sweep is stopped; the remaining jobs are not started", flush=True)
        raise JobEnded(None, stopped_by)


def _note_failure(error: Exception, run_dir: Path, job: int) -> None:
    """Print that a job failed; its log ends with the reason."""
    line, trace, _ = explained(error)
    with (run_dir / ERROR_LOG).open("a", encoding="utf-8") as log:
        log.write(f"{trace.rstrip()}\n\n{line}\n" if trace is not None else f"{line}\n")
    print(f"masac train: job {job} failed: {line}", file=sys.stderr, flush=True)


def _list_failed_jobs(sweep: Path, started: float) -> None:
    failed = [log for log in sorted(sweep.glob(f"*/{ERROR_LOG}")) if log.stat().st_mtime >= started - 1]
    if failed:
        lines = [f"  {log}: {log.read_text().splitlines()[-1]}" for log in failed]
        raise RunFailedError("\n".join([f"{len(failed)} of the jobs failed:", *lines]))
