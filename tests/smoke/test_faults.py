"""Nights that go wrong."""

import pytest

from tests.smoke.kill_and_resume import main


@pytest.mark.slow
def test_a_run_that_is_killed_eight_times_loses_nothing(tmp_path, capsys):
    print(main(8, 0, tmp_path))
    assert "to the bit" in capsys.readouterr().out
