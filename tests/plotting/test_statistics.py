"""Statistics over few runs, by hand."""

import numpy as np
import pytest

from masac.plotting.statistics import bootstrap_interval, interquartile_mean, of_sample, wilson_interval


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # 3 // 4 = 0 are cut at either end: the plain mean
        ([100.0, 2.0, 1.0, -50.0], 1.5),  # one at either end: (1 + 2) / 2
        ([4.0, 1000.0, 2.0, -1000.0, 3.0], 3.0),  # 5 // 4 = 1: (2 + 3 + 4) / 3
        ([0.0, 0.0, 1.0, 2.0, 3.0, 6.0, 90.0, 90.0], 3.0),  # two at either end: (1 + 2 + 3 + 6) / 4
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(values, mean):
    assert interquartile_mean(values) == pytest.approx(mean)
    assert interquartile_mean(values[::-1]) == pytest.approx(mean)


def test_the_interquartile_mean_runs_over_the_axis_of_the_runs():
    values = np.array([[0.0, 10.0], [1.0, 30.0], [2.0, 20.0], [99.0, -99.0]])
    assert interquartile_mean(values).tolist() == [1.5, 15.0]
    assert interquartile_mean(values.T, axis=1).tolist() == [1.5, 15.0]


def test_a_run_that_is_not_a_number_is_not_cut_away():
    assert np.isnan(interquartile_mean([1.0, 2.0, 3.0, np.nan]))


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="at least one number; got none"):
        interquartile_mean([])


def test_the_interval_is_made_of_quantiles_of_the_means_of_draws():
    # Two runs drawn of 0 and 1: the mean is 0 with probability 1/4, 0.5 with 1/2, 1 with 1/4.
    assert [float(end) for end in bootstrap_interval([0.0, 1.0], confidence=0.95)] == [0.0, 1.0]
    assert [float(end) for end in bootstrap_interval([0.0, 1.0], confidence=0.40)] == [0.5, 0.5]
    assert [float(end) for end in bootstrap_interval([3.0, 3.0, 3.0])] == [3.0, 3.0]


def test_bootstrap_draws_are_seeded_and_shared_by_columns():
    runs = np.random.default_rng(1).normal(size=5)
    low, high = bootstrap_interval(np.stack([runs, runs + 10, 2 * runs], axis=1))
    assert low.shape == high.shape == (3,)
    assert low[1] == pytest.approx(low[0] + 10)
    assert high[2] == pytest.approx(2 * high[0])
    assert low[0] < interquartile_mean(runs) < high[0]
    again, _ = bootstrap_interval(runs)
    other, _ = bootstrap_interval(runs, repeats=50, seed=1)
    assert again == low[0]
    assert other != low[0]


def test_one_run_has_no_interval():
    with pytest.raises(ValueError, match="at least two runs; got 1"):
        bootstrap_interval([1.0])


def test_one_value_has_no_deviation_and_two_no_interval():
    assert of_sample([0.31]) == {"mean": 0.31, "std": None, "low": None, "high": None}
    assert of_sample([1.0, 3.0]) == {"mean": 2.0, "std": 1.0, "low": None, "high": None}
    three = of_sample([1.0, 2.0, 3.0])
    assert three["low"] is not None
    assert three["high"] is not None
    assert 1.0 <= three["low"] < 2.0 < three["high"] <= 3.0


def test_the_wilson_interval_by_hand():
    # z^2 = 3.8415: centre 0.97 + z^2 / 200 = 0.98921, half z * sqrt(0.0291 / 100 + z^2 / 40000) = 0.03856, both over
    # 1 + z^2 / 100 = 1.038415.
    assert wilson_interval(97, 100) == pytest.approx((0.91548, 0.98975), abs=1e-5)
    assert wilson_interval(100, 100) == pytest.approx((1 / 1.038415, 1.0), abs=1e-5)
    assert wilson_interval(0, 1) == pytest.approx((0.0, 3.8415 / 4.8415), abs=1e-5)
    with pytest.raises(ValueError, match="must be between 0 and trials"):
        wilson_interval(3, 2)
