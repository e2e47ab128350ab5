"""Whose fault an exception is, and where its traceback goes."""

import numpy as np
import pytest
import torch

from masac.errors import ConfigError, RunFailedError
from masac.process.tracebacks import report_of, write_traceback
from masac.signals import expand_to_agents


def raised_by(function, *arguments):
    with pytest.raises(Exception) as raised:  # noqa: PT011  any
        function(*arguments)
    return report_of(raised.value)


def test_errors_under_user_code_count_as_the_environments():
    report = raised_by(lambda: {}["sheep"])
    assert report.what == "KeyError: 'sheep'"
    assert report.where.startswith("tests/process/test_tracebacks.py:")
    assert (report.owner, report.is_ours) == ("the environment's own code, not masac's", False)
    inside = raised_by(np.concatenate, [])
    assert not inside.is_ours
    called = raised_by(lambda: torch.nn.functional.one_hot(torch.tensor([1.5])))
    assert not called.is_ours


def test_what_masac_raises_is_masacs():
    report = raised_by(expand_to_agents, None, [1], 2)
    assert report.is_ours
    assert report.where.startswith("masac/signals.py:")
    assert "masac must not fail; got " in report.sentence()
    assert report.owner == "masac's own code"


def test_errors_of_masacs_own_say_all_there_is_to_say():
    assert str(report_of(ConfigError("seed must be 1")).as_error()) == "seed must be 1"
    assert report_of(RunFailedError("it ended")).message == "it ended"


def test_only_the_first_line_of_a_long_message_is_shown():
    report = report_of(RuntimeError("\n  first " + "x" * 1000 + "\nsecond"))
    assert report.what.startswith("RuntimeError: first xxx")
    assert len(report.what) < 350


def test_a_traceback_goes_into_the_folder_or_a_temporary_file(tmp_path):
    assert write_traceback("text", tmp_path).read_text() == "text\n"
    assert write_traceback("text", tmp_path) == tmp_path / "error.log"
    elsewhere = write_traceback("text", tmp_path / "nowhere")
    assert elsewhere.read_text() == "text\n"
    elsewhere.unlink()
