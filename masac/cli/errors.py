"""Errors of a command as one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from masac.checks import ConfigError, RunFailedError
from masac.cli.presets import explain_missing


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
    except ConfigError as error:
        _fail(command, str(error), 2)
    except RunFailedError as error:
        _fail(command, str(error), 1)
    except MissingConfigException as error:
        _fail(command, explain_missing(error), 2)
    except (HydraException, OmegaConfBaseException) as error:
        _fail(command, str(error), 2)
    except KeyboardInterrupt:
        _fail(command, "stopped at once; the run's files are those of the last iteration", 130)


def _fail(command: str, message: str, code: int) -> None:
    print(f"{command}: error: {message}", file=sys.stderr)
    sys.exit(code)
