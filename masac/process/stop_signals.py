"""Signals that end a command: a training run where it can be resumed, any other command at once."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from masac.process.tracebacks import first_line

PATIENCE_S = 10.0
"""How long an environment or compiler may continue after a signal; after twice this time the process is ended."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedBySignal(KeyboardInterrupt):
    """A signal ended the current stage.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A stage of the program.

    Args:
        name: in words, for messages.
        may_be_cut: whether it may be interrupted without losing more than its own result.
    """

    name: str
    may_be_cut: bool


class StopRequest:
    """A request by signals to stop.

    Args:
        at_once: whether the first signal raises, as the second one does.
        say: prints a line; called in another thread.

    Attributes:
        number: of the first signal; None before it.
        now: whether to stop as soon as possible: a second signal came, or a stage was cut or failed after the first.
    """

    def __init__(self, *, at_once: bool = False, say: Callable[[str], None] = lambda line: None) -> None:
        self.number: int | None = None
        self.now = False
        self._count = 0
        self._watcher_sends = False
        self._at_once = at_once
        self._say = say
        self._stage = Stage(name="this iteration", may_be_cut=at_once)
        self._terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]

    @property
    def requested(self) -> bool:
        """Whether a signal asked the run to stop."""
        return self.number is not None

    @property
    def third_signal(self) -> bool:
        """Whether there were more than two signals: then files being written are not waited for either."""
        return self._count > 2

    @contextmanager
    def cutting(self, name: str) -> Iterator[None]:
        """Interrupt the code inside, and set ``now``, if a second signal comes or it takes too long.

        An exception after a signal is not a failure: processes that the code needs may have got the signal too.

        Args:
            name: of the stage.
        """
        before, self._stage = self._stage, Stage(name=name, may_be_cut=True)
        try:
            try:
                yield
            finally:
                self._stage = before
        except KeyboardInterrupt:  # ours, or one that a library raises in its place
            if self.third_signal or not self.requested:
                raise
            self.now = True
        except Exception as error:
            if not self.requested:
                raise
            self._print(f"while stopping: {type(error).__name__}: {first_line(error)}")
            self.now = True

    def on_signal(self, number: int) -> None:
        """React to a signal, in the main thread."""
        self.number = number if self.number is None else self.number
        if self._watcher_sends:  # this one is from the watching thread, not from a user
            self._watcher_sends = False
            if self._stage.may_be_cut:
                raise StoppedBySignal(self.number)
            return
        self._count += 1
        first = self._count == 1 and not self._at_once
        if not first and (self._stage.may_be_cut or self.third_signal):
            raise StoppedBySignal(self.number)
        self.now = self.now or not first

    def watch(self, signals: socket.socket, end: socket.socket) -> None:
        """Print immediately that a signal came, and end stages that do not react to it; runs in its own thread.

        The main thread handles signals only between two Python operations, so never in a library's endless loop.

        Args:
            signals: the numbers of signals, one byte each, as they arrive.
            end: becomes readable when the thread must end.
        """
        number, stage, since, interrupted = 0, self._stage, 0.0, False
        while True:
            ready, _, _ = select.select([signals, end], [], [], None if number == 0 else 0.2)
            if end in ready:
                return
            news = [one for one in signals.recv(64) if one in SIGNALS] if signals in ready else []
            if news and number == 0:
                number, stage, since = news[0], self._stage, time.monotonic()
                if signal.Signals(number).name == "SIGHUP":
                    self._let_go_of_terminal()
                if not self._at_once:
                    name = signal.Signals(number).name
                    self._print(f"{name}: stopping after {stage.name}; a second signal stops at once")
            if number == 0:
                continue
            if self._stage is not stage:
                stage, since, interrupted = self._stage, time.monotonic(), False
            if not stage.may_be_cut or time.monotonic() - since < PATIENCE_S:
                continue
            if interrupted:
                self._print("a call does not return: ending the process without cleanup")
                os._exit(128 + number)
            since, interrupted = time.monotonic(), True
            if not self._at_once:
                self._print(f"{stage.name} takes longer than {PATIENCE_S:.0f} s: stopping at once")
            self._watcher_sends = True
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # also interrupts a system call

    def _print(self, line: str) -> None:
        with suppress(Exception):  # the output may be closed
            self._say(line)

    def _let_go_of_terminal(self) -> None:
        """Discard all further output: writing to a closed terminal would fail."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in self._terminals:
                os.dup2(nowhere, descriptor)
            os.close(nowhere)


@contextmanager
def stop_on_signals(
    say: Callable[[str], None] = lambda line: None,
    *,
    at_once: bool = False,
    ended_by_others: tuple[type[Exception], ...] = (),
) -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request, the second into a :class:`StoppedBySignal`.

    Code that does not return to Python is ended too, see :data:`PATIENCE_S`. SIGHUP stays ignored if it is (nohup).

    Args:
        say: prints a line; called in another thread.
        at_once: whether the first signal raises.
        ended_by_others: exceptions after which SIGTERM is ignored. When a rank ends because another one did, torchrun
            sends it SIGTERM while it still cleans up and before it has printed why it ends.
    """
    request = StopRequest(at_once=at_once, say=say)
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return

    def handle(number: int, frame: FrameType | None) -> None:
        request.on_signal(number)

    hup = getattr(signal, "SIGHUP", None)
    handled = [one for one in SIGNALS if one != hup or signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in handled}
    with _watched(request):
        try:
            yield request
        except ended_by_others:
            before[signal.SIGTERM] = signal.SIG_IGN
            raise
        finally:
            for number, handler in before.items():
                # Else a context inside this one has left SIGTERM ignored, for longer than this one lasts.
                if signal.getsignal(number) is handle:
                    signal.signal(number, handler)


@contextmanager
def _watched(request: StopRequest) -> Iterator[None]:
    """A thread that gets the numbers of signals from the system, independent of the main thread."""
    ours, theirs = socket.socketpair()
    end, ended = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=request.watch, args=(ours, ended), name="masac-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        end.close()  # readable on the other side
        thread.join()
        for one in (ours, theirs, ended):
            one.close()


def _reset_in_child() -> None:
    """Undo our handlers in a forked process: SIGTERM ends it as usual; Ctrl-C is for its parent, so it is ignored."""
    ours = [number for number in SIGNALS if getattr(signal.getsignal(number), "__module__", None) == __name__]
    if ours:
        with suppress(ValueError):  # forked by another thread than the main one
            signal.set_wakeup_fd(-1)
            for number in ours:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
