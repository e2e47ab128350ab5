from __future__ import annotations

import pytest
import torch

from benchmarks import communication_limits
from benchmarks.communication_limits import along_one_axis, best_returns


@pytest.fixture(autouse=True)
def _four_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(communication_limits, "STEPS", 4)


def test_far_goals_are_approached_at_full_speed():
    # Velocities after full pushes: 0, 0.5, 0.875, 1.15625 before the four moves; 0.1 of each is the way of a move.
    ways = torch.tensor([[[3.0, 0.0], [3.0, 0.0]]])
    lefts = [3.0, 2.95, 2.8625, 2.746875]
    for exponent in (1, 2):
        for knows in (True, False):  # both goals are the same, so an agent cannot be wrong
            returns = best_returns(ways, exponent, knows_its_goal=knows)
            expected = -sum(left**exponent for left in lefts)
            torch.testing.assert_close(returns, torch.full((1, 2), expected), atol=1e-4, rtol=0)


def test_who_does_not_know_its_goal_waits_between_two_opposite_ones():
    ways = torch.tensor([[[3.0, 0.0], [-3.0, 0.0]]])
    returns = best_returns(ways, 2, knows_its_goal=False)
    lefts = [3.0, 3.0, 2.95, 2.8625]  # one step later
    torch.testing.assert_close(returns, torch.full((1, 2), -sum(left**2 for left in lefts)), atol=1e-3, rtol=0)


def test_pushing_along_the_longer_axis_alone():
    returns = along_one_axis(torch.tensor([3.0, 0.0]))
    assert returns.item() == pytest.approx(-(3.0**2 + 2.95**2 + 2.8625**2 + 2.746875**2))
