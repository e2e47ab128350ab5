"""Errors of a command as one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from masac.cli.presets import explain_missing
from masac.cli.ranks import rank_of, signed
from masac.errors import ConfigError, RunFailedError
from masac.files.atomic_write import disk_is_full
from masac.process.stop_signals import StoppedBySignal, stop_on_signals
from masac.process.tracebacks import first_line, report_of, write_traceback

ERROR_LOG = "error.log"
"""The file that a failed run leaves in its folder: the traceback of an exception, and the line that was printed."""

NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST)


@contextmanager
def errors_as_lines(command: str, folder: Path | None = None) -> Iterator[None]:
    """Exit with 2 for a mistake in the command line, 1 for a failure, 128 plus its number for a signal.

    Args:
        command: the start of the line.
        folder: of a run, for tracebacks; None for temporary files.
    """
    # Otherwise Hydra prints a shortened traceback and exits itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with stop_on_signals(lambda line: _print(command, line), at_once=True):
            yield
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, StoppedBySignal) else 2
        _print(command, f"{signal.Signals(number).name}: stopped at once")
        sys.exit(128 + number)
    except BrokenPipeError:  # masac tasks | head
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except Exception as error:
        line, trace, code = explained(error)
        if trace is not None:
            line = with_traceback(line, trace, folder, f"{command.rpartition(' ')[2]}-{ERROR_LOG}")
        signed_line = signed(line)
        if signed_line is not None:
            _print(command, f"error: {signed_line}")
        sys.exit(code)


def explained(error: Exception) -> tuple[str, str | None, int]:
    """An error as one line, its traceback where a user may need it, and the exit code."""
    if isinstance(error, MissingConfigException):
        return explain_missing(error), None, 2
    if isinstance(error, ConfigError | RunFailedError):
        return str(error), error.traceback, 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, HydraException | OmegaConfBaseException):
        return " ".join(str(error).split()), None, 2
    if disk_is_full(error):
        return f"the disk must have free space; got {error}. Free some, then try again", None, 1
    report = report_of(error)
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE and error.filename and report.is_ours:
        return (
            f"output files must be writable; got {first_line(error)}. Choose another place with run_dir=... (or -o "
            "FILE)",
            None,
            2,
        )
    advice = " Please report it, with the traceback." if report.is_ours else " Fix it there."
    return report.sentence() + advice, report.traceback, 1


def with_traceback(line: str, trace: str, folder: Path | None, name: str = ERROR_LOG) -> str:
    """Write the traceback to a file; returns the line with the file's name."""
    if (index := rank_of()) > 0:
        name = f"rank{index}-{name}"
    file = write_traceback(f"{trace.rstrip()}\n\n{line}", folder, name)
    return line if file is None else f"{line} Traceback: {file}"


def _print(command: str, line: str) -> None:
    with suppress(OSError):  # standard error is closed
        print(f"{command}: {line}", file=sys.stderr, flush=True)
