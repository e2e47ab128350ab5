"""The claim of the README: the default run solves navigation."""

import pytest

from benchmarks.navigation import train


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_run_solves_navigation(seed, tmp_path):
    summary = train(seed, tmp_path, [])
    assert summary["eval_episodes"] == 100
    assert summary["solved"]
    assert summary["eval_success_rate"] >= 0.97
    assert summary["eval_return_mean"] >= 0.95
