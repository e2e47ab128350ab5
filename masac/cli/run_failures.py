"""What a failed run prints: what happened, what is saved, how to resume."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masac.cli.errors import explained, with_traceback
from masac.errors import ConfigError, RunFailedError
from masac.training.checkpointing.checkpoints import newest_of


@contextmanager
def failures_explained(run_dir: Path) -> Iterator[None]:
    """Turn any exception of a run into an error of one line; its traceback goes into the run's folder.

    Args:
        run_dir: the run's folder.
    """
    try:
        yield
    except Exception as error:
        line, trace, code = explained(error)
        says_all = code == 2 or (isinstance(error, RunFailedError) and error.names_resume_command)
        if trace is None and says_all:
            raise
        kind = ConfigError if code == 2 else RunFailedError
        if not says_all:
            line = f"{line.removesuffix('.')}. {what_is_saved(run_dir)}"
        raise kind(line if trace is None else with_traceback(line, trace, run_dir)) from None


def what_is_saved(run_dir: Path) -> str:
    """The newest checkpoint of a run, and the command that resumes it."""
    checkpoint, command = newest_of(run_dir), f"masac train --resume {shlex.quote(str(run_dir))}"
    if checkpoint is None:
        return f"There is no checkpoint yet. Start again with the same command or with {command}."
    return f"Saved: {checkpoint.folder} ({checkpoint.frames:,} frames). Resume with {command}."
