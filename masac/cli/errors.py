"""Errors of a command as one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from masac.checks import ConfigError, RunFailedError
from masac.cli.presets import explain_missing
from masac.cli.several import signed
from masac.training.atomic import disk_is_full


@contextmanager
def errors_as_lines(command: str) -> Iterator[None]:
    """Exit with 2 for a mistake in the command line, 1 for a run that failed, 130 after Ctrl-C.

    Args:
        command: to begin the line with.
    """
    # Otherwise Hydra prints a shortened trace and exits by itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        _fail(command, explained(error), 2)
    except RunFailedError as error:
        _fail(command, explained(error), 1)
    except OSError as error:
        if not disk_is_full(error):
            raise
        _fail(command, f"the disk must have room for what is written; {error}. Make room, then try again", 1)
    except KeyboardInterrupt:
        _fail(command, "stopped at once; the run's files are those of the last iteration", 130)


def explained(error: Exception) -> str:
    """What to say of an error: its message if it is one of ours or of the config, else where it came from too."""
    if isinstance(error, MissingConfigException):
        return explain_missing(error)
    if isinstance(error, ConfigError | RunFailedError | HydraException | OmegaConfBaseException):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()


def _fail(command: str, message: str, code: int) -> None:
    said = signed(message)
    if said is not None:
        print(f"{command}: error: {said}", file=sys.stderr, flush=True)
    sys.exit(code)
