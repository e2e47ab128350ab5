"""What signals do to a run, and after it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from masac.process import stop_signals
from masac.process.stop_signals import SIGNALS, StoppedBySignal, stop_on_signals
from masac.training.distributed.ranks import OtherRankFailedError, RankLostError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def handlers():
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, which tests may run under, ignores it
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in {**before, signal.SIGHUP: outside}.items():
        signal.signal(number, handler)


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_requests_and_the_second_interrupts(number):
    said = []
    with stop_on_signals(said.append) as stop:
        assert not stop.requested
        with stop.cutting("the current rollout"):
            os.kill(os.getpid(), number)
            assert stop.number == number
            wait_for(lambda: said)
            assert said == [
                f"{signal.Signals(number).name}: stopping after the current rollout; a second signal stops at once"
            ]
            with pytest.raises(StoppedBySignal) as stopped:
                os.kill(os.getpid(), number)
    assert stopped.value.number == number


def test_what_may_not_be_cut_goes_on_until_the_third_signal():
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.now
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.now
        with pytest.raises(StoppedBySignal) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.third_signal
    assert stopped.value.number == signal.SIGTERM  # the first one counts


def test_slow_work_after_a_signal_is_cut(monkeypatch):
    monkeypatch.setattr(stop_signals, "PATIENCE_S", 0.3)
    said, after = [], False
    with stop_on_signals(said.append) as stop:
        with stop.cutting("the current rollout"):
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                time.sleep(0.01)
        after = stop.now
    assert after
    assert said[-1] == "the current rollout takes longer than 0 s: stopping at once"


def test_a_timeout_is_not_a_second_signal(monkeypatch):
    monkeypatch.setattr(stop_signals, "PATIENCE_S", 0.1)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        for name in ("the current rollout", "the first update", "this step of the evaluation"):
            with stop.cutting(name):
                time.sleep(10)
                raise AssertionError("not cut")
        os.kill(os.getpid(), signal.SIGTERM)  # while a checkpoint is written
        assert not stop.third_signal
        with pytest.raises(StoppedBySignal):
            os.kill(os.getpid(), signal.SIGTERM)


def test_an_error_while_stopping_is_no_failure_and_one_before_is():
    said = []
    with stop_on_signals(said.append) as stop:
        with pytest.raises(ZeroDivisionError), stop.cutting("the current rollout"):
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGINT)
        with stop.cutting("the current rollout"):
            raise ConnectionError("the simulator heard Ctrl-C too")
        assert stop.now
    assert "while stopping: ConnectionError: the simulator heard Ctrl-C too" in said


def test_with_at_once_the_first_signal_ends_it():
    with pytest.raises(StoppedBySignal), stop_on_signals(at_once=True):
        os.kill(os.getpid(), signal.SIGHUP)


def test_a_hangup_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested


STUCK = """
    import ctypes, time
    from masac.process import stop_signals
    stop_signals.PATIENCE_S = 0.5
    with stop_signals.stop_on_signals(lambda line: print(line, flush=True)) as stop, stop.cutting("the rollout"):
        print("begun", flush=True)
        for _ in range(1000):
            try:
                {call}
            except BaseException:
                pass
"""


@pytest.mark.parametrize("call", ["time.sleep(60)", "ctypes.CDLL(None).usleep(60 * 10**6)"])
def test_a_hanging_call_ends_with_the_process(call):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STUCK.format(call=call))], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "a call does not return: ending the process without cleanup" in out
    assert process.returncode == 128 + signal.SIGTERM


def test_a_forked_process_is_ended_by_signals_and_tells_nobody():
    with stop_on_signals() as stop:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.2)  # what comes in its first moment is lost
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        time.sleep(0.3)
        assert not stop.requested


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_afterwards_signals_do_what_they_did_before(handlers, error):
    if error is None:
        with stop_on_signals():
            pass
    else:
        with pytest.raises(error), stop_on_signals():
            raise error
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("error", [RankLostError, OtherRankFailedError])
def test_a_rank_reports_before_torchrun_ends_it(handlers, error):
    run = stop_on_signals(ended_by_others=(RankLostError, OtherRankFailedError))
    with pytest.raises(error), stop_on_signals(at_once=True), run:  # of the command, which prints after that
        raise error
    os.kill(os.getpid(), signal.SIGTERM)  # would end the tests
    assert signal.getsignal(signal.SIGINT) == handlers[signal.SIGINT]
