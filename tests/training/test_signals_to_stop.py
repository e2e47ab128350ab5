"""What signals do to a run, and after it."""

import os
import signal

import pytest

from masac.training.ranks import OtherRankFailedError, RankLostError
from masac.training.signals_to_stop import stop_on_signals


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_one_ends_at_once(number):
    with stop_on_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_afterwards_signals_do_what_they_did_before(handlers, error):
    if error is None:
        with stop_on_signals():
            pass
    else:
        with pytest.raises(error), stop_on_signals():
            raise error
    assert {number: signal.getsignal(number) for number in handlers} == handlers


@pytest.mark.parametrize("error", [RankLostError, OtherRankFailedError])
def test_a_rank_that_ends_because_another_did_may_say_so_before_torchrun_ends_it(handlers, error):
    with pytest.raises(error), stop_on_signals():
        raise error
    os.kill(os.getpid(), signal.SIGTERM)  # would end the tests
    assert signal.getsignal(signal.SIGINT) == handlers[signal.SIGINT]
