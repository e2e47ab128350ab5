"""``masac`` commands in processes of their own that do not import PyTorch again.

Every command is forked from a server process that has imported masac, TorchRL and VMAS once, which saves some three
seconds of CPU per command. It has its own working directory, environment variables, signals and exit code, as one
started from a shell. Use ``subprocess`` where the start of Python itself is tested.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        *("masac.cli.experiment", "masac.envs.vmas.make", "masac.envs.pettingzoo.make", "hydra.main"),
        *("matplotlib.figure", "matplotlib.backends.backend_agg"),
        "pandas",  # which TensorDict imports where it is installed
    ]
)


class Command:
    """A running ``masac`` command, with the methods of ``subprocess.Popen``.

    Args:
        arguments: what follows ``masac``.
        cwd: the working directory.
        env: environment variables besides those of this process.
        new_session: whether it leads a process group of its own, as ``subprocess``'s ``start_new_session``.
    """

    def __init__(
        self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, new_session: bool = False
    ) -> None:
        self.args = ["masac", *arguments]
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._outputs = [Path(folder) / name for name in ("out", "err")]
        for file in self._outputs:
            file.touch()
        environment = {**os.environ, **(env or {})}
        outputs = [str(file) for file in self._outputs]
        self._process = FORKED.Process(target=_run, args=(arguments, str(cwd), environment, outputs, new_session))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        _STARTED.append(self)

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the number of a signal that ended it, None while it runs."""
        return self._process.exitcode

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return self._outputs[0].read_text()

    @property
    def stderr(self) -> str:
        """What it printed on standard error so far."""
        return self._outputs[1].read_text()

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0, self.stdout, self.stderr)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns what it printed on standard output and on standard error."""
        self.wait(timeout)
        return self.stdout, self.stderr

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


_STARTED: list[Command] = []


def kill_commands() -> None:
    """Kill the commands that a failed test left: they would train on beside the tests after it."""
    for command in _STARTED:
        command.kill()
    _STARTED.clear()


def masac(
    *arguments: str, cwd: Path, timeout: float = 120, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a ``masac`` command to its end."""
    command = Command(*arguments, cwd=cwd, env=env)
    try:
        out, err = command.communicate(timeout)
    except BaseException:
        command.kill()
        raise
    return subprocess.CompletedProcess(command.args, command.wait(), out, err)


def wait_until(condition, command: Command, *, seconds: float = 120) -> None:
    """Wait until ``condition()`` holds; fails if the command ends before, or it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert command.poll() is None, f"the command ended:\n{command.stdout}{command.stderr}"
        assert time.monotonic() < deadline, f"waited {seconds} s in vain:\n{command.stdout}{command.stderr}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs, of whomever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: Iterable[int], seconds: float = 15.0) -> bool:
    """Whether processes end within some seconds."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def _run(
    arguments: tuple[str, ...], cwd: str, environment: dict[str, str], outputs: list[str], new_session: bool
) -> None:
    """The command, in its process."""
    # The server inherited the blocked signals of whoever started it, which may be a collector that starts workers.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if new_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for descriptor, file in enumerate(outputs, start=1):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["masac", *arguments]
    sys.path.insert(0, cwd)
    from masac.cli.main import main

    try:
        main(arguments)
    finally:
        # A process of multiprocessing leaves without this.
        atexit._run_exitfuncs()
