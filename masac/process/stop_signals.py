"""Signals that end a command: a run where it can go on from, anything else at once, whatever it is doing."""

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
"""How long an environment (or a compiler) may go on after a signal; as long again until the process is ended."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedBySignal(KeyboardInterrupt):
    """A signal ended what was being done.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """What is being done.

    Args:
        name: what a run stops after, in words.
        may_be_cut: whether it may be left in the middle, with nothing lost but itself.
    """

    name: str
    may_be_cut: bool


class StopRequest:
    """What signals asked for.

    Args:
        at_once: whether the first signal raises, as a second one does.
        say: prints a line; called in another thread.

    Attributes:
        number: of the first signal; None before.
        now: whether what cannot be cut is to end as soon as it can: a second signal came, or what could be cut was cut
            or failed after the first one.
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
        """Whether somebody asked the run to end."""
        return self.number is not None

    @property
    def third_signal(self) -> bool:
        """Whether somebody asked more often than twice: what is being written is not to be waited for either."""
        return self._count > 2

    @contextmanager
    def cutting(self, name: str) -> Iterator[None]:
        """Leave what is inside in the middle, and set ``now``, when a second signal comes or it takes too long.

        What it raises after a signal is no failure: processes that it needs may have got the signal too.
        """
        before, self._stage = self._stage, Stage(name=name, may_be_cut=True)
        try:
            try:
                yield
            finally:
                self._stage = before
        except KeyboardInterrupt:  # also what a library makes of ours
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
        if self._watcher_sends:  # nobody asked once more
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
        """Say at once that a signal came, and see to it that something comes of it; in a thread of its own.

        The main thread hears a signal between two operations of Python only, so not in a library's endless loop.

        Args:
            signals: the numbers of signals, a byte each, as they come.
            end: readable once the thread is to end.
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
                    self._print(f"{signal.Signals(number).name}: stopping after {stage.name}; again to stop at once")
            if number == 0:
                continue
            if self._stage is not stage:
                stage, since, interrupted = self._stage, time.monotonic(), False
            if not stage.may_be_cut or time.monotonic() - since < PATIENCE_S:
                continue
            if interrupted:
                self._print("a call does not return: ending the process without cleaning up")
                os._exit(128 + number)
            since, interrupted = time.monotonic(), True
            if not self._at_once:
                self._print(f"{stage.name} takes longer than {PATIENCE_S:.0f} s: stopping at once")
            self._watcher_sends = True
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # ends a wait for the system, too

    def _print(self, line: str) -> None:
        with suppress(Exception):  # whoever read it may be gone
            self._say(line)

    def _let_go_of_terminal(self) -> None:
        """Nothing can be written to a terminal that was closed: what is said from here on is said to nobody."""
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

    What does not return to Python, or goes on for ever, is ended too: see :data:`PATIENCE_S`. SIGHUP stays ignored
    where it is (nohup).

    Args:
        say: prints a line; called in another thread.
        at_once: whether the first signal raises already.
        ended_by_others: exceptions after which SIGTERM is ignored. A rank that ends because another one did gets it
            from torchrun while it still cleans up and has not said yet why it ends.
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
                signal.signal(number, handler)


@contextmanager
def _watched(request: StopRequest) -> Iterator[None]:
    """A thread that gets the numbers of signals from the system, whatever the main thread is at."""
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
    """A forked process is not this one: it tells it nothing, and ends when it is told to. Ctrl-C is for this one."""
    ours = [number for number in SIGNALS if getattr(signal.getsignal(number), "__module__", None) == __name__]
    if ours:
        with suppress(ValueError):  # of a fork by another thread than the main one
            signal.set_wakeup_fd(-1)
            for number in ours:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
