"""Reports of unexpected exceptions: what, where, and in whose code; the traceback goes into a file."""

from __future__ import annotations

import sysconfig
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masac.errors import ConfigError, RunFailedError

MOST_CHARACTERS = 300
"""The longest message of an exception on the screen; the file has all of it."""

LIBRARIES = {
    *("torch", "torchrl", "tensordict", "numpy", "scipy", "hydra", "omegaconf", "matplotlib", "PIL", "rich", "psutil"),
    *("tensorboard", "ray", "wandb", "mlflow", "av", "onnx", "onnxscript", "gymnasium", "pyglet", "joblib", "_pytest"),
}
"""Packages that masac and environments use: an exception in them is attributed to their caller."""


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """A report of an exception.

    Args:
        what: its type and the first line of its message.
        where: file and line.
        owner: whose code raised it, in words.
        is_ours: whether that is masac's.
        traceback: the whole traceback.
        message: the message of one of masac's own errors, which needs no report; None for other exceptions.
    """

    what: str
    where: str
    owner: str
    is_ours: bool
    traceback: str
    message: str | None

    def __str__(self) -> str:
        return f"{self.what} ({self.where}, {self.owner})"

    def as_error(self, where: str = "", hint: str = "") -> RunFailedError:
        """The report as an error that a command prints in one line.

        Args:
            where: the place in words, such as "in a worker process".
            hint: the next step.
        """
        if self.message is not None:
            return RunFailedError(self.message)
        return RunFailedError(self.sentence(where) + (f" {hint}" if hint else ""), traceback=self.traceback)

    def sentence(self, where: str = "") -> str:
        """One sentence on whose code failed, how and where."""
        rule = "masac must not fail" if self.is_ours else "environments must not fail"
        return f"{rule}; {f'{where} ' if where else ''}got {self}."


def report_of(error: BaseException) -> ErrorReport:
    """The report of an exception: where it was raised, and by whose code."""
    text = "".join(traceback.format_exception(error))
    where, owner, is_ours = "nowhere", "unknown code", False
    frames = [frame for frame in _frames(error) if _package(frame.filename) != "python"]
    if frames:
        raised = frames[-1]
        caller = next((one for one in reversed(frames) if _package(one.filename) not in LIBRARIES), raised)
        is_ours = _package(caller.filename) == "masac"
        where, owner = f"{_shown(raised.filename)}:{raised.lineno}", _owner(caller.filename)
        if caller is not raised:
            where += f", called from {_shown(caller.filename)}:{caller.lineno}"
    message = str(error) if isinstance(error, ConfigError | RunFailedError) and error.traceback is None else None
    return ErrorReport(what=_what(error), where=where, owner=owner, is_ours=is_ours, traceback=text, message=message)


def construction_error(name: str, error: Exception, kwargs: Mapping[str, Any]) -> ConfigError:
    """The error for an exception in the code that makes an environment.

    Args:
        name: the override that names the code, such as ``task.factory=toy:make``.
        error: the exception.
        kwargs: its keyword arguments.
    """
    report = report_of(error)
    return ConfigError(
        f"{name} must make an environment; got {report}, for task.kwargs={dict(kwargs)}. Fix it there, or change "
        "task.kwargs.",
        traceback=report.traceback,
    )


def write_traceback(text: str, folder: Path | None, name: str = "error.log") -> Path | None:
    """Write a traceback into a file in ``folder``, or else into a temporary file; returns the file.

    Args:
        text: the traceback.
        folder: of the run; None without one.
        name: of the file in the folder.
    """
    text = text.rstrip() + "\n"
    if folder is not None and folder.is_dir():
        with suppress(OSError):
            (folder / name).write_text(text, encoding="utf-8")
            return folder / name
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="masac-error-", suffix=".log", delete=False) as file,
    ):
        file.write(text)
        return Path(file.name)
    return None


def first_line(error: BaseException) -> str:
    """The first non-empty line of an exception's message, shortened; its type if there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} ..."


def _what(error: BaseException) -> str:
    line = first_line(error)
    return line if line == type(error).__name__ else f"{type(error).__name__}: {line}"


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).is_file():  # not "<frozen importlib>" and the like
            yield frame
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        yield traceback.FrameSummary(error.filename, error.lineno, "<module>")


def _package(file: str) -> str:
    """The package of a file: ``masac``, another installed one, ``python`` itself, or ``""`` for the user's code."""
    path = Path(file).resolve()
    if path.is_relative_to(Path(__file__).parents[1]):
        return "masac"
    inside = _below_installed(path)
    if inside is not None:
        return inside.parts[0].removesuffix(".py")
    return "python" if path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve()) else ""


def _below_installed(path: Path) -> Path | None:
    """The path relative to the folder of installed packages; None elsewhere."""
    folders = [one for one in path.parents if one.name in ("site-packages", "dist-packages")]
    return path.relative_to(folders[0]) if folders else None


def _owner(file: str) -> str:
    package = _package(file)
    if package == "masac":
        return "masac's own code"
    if package in LIBRARIES or package == "python":
        return f"the code of {package}"
    return f"the environment's own code{f' in {package}' if package else ''}, not masac's"


def _shown(file: str) -> str:
    """A short form of a path: relative to the working directory or to the installed packages."""
    path = Path(file)
    inside = _below_installed(path)
    if inside is not None:
        return str(inside)
    with suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    if _package(file) == "masac":
        return str(Path("masac") / path.resolve().relative_to(Path(__file__).parents[1]))
    return str(path)
