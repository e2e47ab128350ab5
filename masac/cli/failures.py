"""What is said of a run that failed: what happened, what is saved, how to go on."""

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
    """Raise what anybody's code raises in a run as an error of one line; its traceback goes into the run's folder.

    Args:
        run_dir: the run's folder.
    """
    try:
        yield
    except Exception as error:
        line, trace, code = explained(error)
        says_all = code == 2 or (isinstance(error, RunFailedError) and error.says_how_to_go_on)
        if trace is None and says_all:
            raise
        kind = ConfigError if code == 2 else RunFailedError
        if not says_all:
            line = f"{line} {what_is_saved(run_dir)}"
        raise kind(line if trace is None else with_traceback(line, trace, run_dir)) from None


def what_is_saved(run_dir: Path) -> str:
    """What of a run is on the disk, and how to go on with it."""
    checkpoint, command = newest_of(run_dir), f"masac train --resume {shlex.quote(str(run_dir))}"
    if checkpoint is None:
        return f"There is no checkpoint yet. Begin again, by the same command or by {command}."
    return f"Saved: {checkpoint.folder} ({checkpoint.frames:,} frames). Go on with {command}."
