"""The pictures show the results of the loss."""

import torch
from matplotlib.image import imread

from docs.pictures.timeline import draw, episode, timeline
from docs.pictures.values import learned_values, readings


def test_timeline_targets_are_rewards_or_bootstrap():
    shown = timeline(episode())
    dies, arrives, truncated = shown.target.T
    torch.testing.assert_close(dies, torch.tensor([10.0, 10, 1, 0, 0, 0, 0]))  # 1 + 0.9 * 10, the reward, none
    torch.testing.assert_close(arrives, torch.tensor([10.0, 10, 10, 10, 1, 0, 0]))
    torch.testing.assert_close(truncated, torch.full((7,), 10.0))


def test_dead_agents_of_the_timeline_have_no_weight():
    shown = timeline(episode())
    assert torch.equal(shown.has_weight, shown.mask)
    assert shown.mask.sum(0).tolist() == [3, 5, 7]
    assert shown.alive_next.sum(0).tolist() == [2, 4, 7]
    assert shown.truncated[-1].tolist() == [True, True, True]  # flags of dead agents do not matter
    assert not bool(shown.terminated[-1, 2])


def test_learned_values_equal_those_by_hand():
    ends = torch.tensor([False, False, True])
    torch.testing.assert_close(learned_values(ends, gamma=0.5), torch.tensor([1.75, 1.5, 1.0]))
    torch.testing.assert_close(learned_values(torch.zeros(3, dtype=torch.bool), gamma=0.5), torch.full((3,), 2.0))


def test_right_and_wrong_values_differ():
    for lines in readings().values():
        right, wrong = lines.values()
        assert (right - wrong).abs().min() > 1


def test_the_picture_is_written(tmp_path):
    draw(timeline(episode()), tmp_path / "timeline.png")
    assert imread(tmp_path / "timeline.png").shape[:2] == (1012, 1210)
