"""Processes that end with the one that started them."""

import multiprocessing
import time

from masac.process.child_processes import children_without_signals, ignore_signals
from tests.processes import FORKED


def sleep_without_signals(ready):
    ignore_signals()
    ready.set()
    time.sleep(60)


def leave_a_worker():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    with children_without_signals():
        context.Process(target=sleep_without_signals, args=(ready,), daemon=True).start()
    ready.wait()


def test_a_process_with_open_workers_still_ends():
    parent = FORKED.Process(target=leave_a_worker)
    parent.start()
    parent.join(20)
    code = parent.exitcode
    parent.kill()
    assert code == 0
