"""The pictures say what the loss says."""

import torch
from matplotlib.image import imread

from docs.pictures.timeline import draw, episode, timeline
from docs.pictures.values import learned_values, readings


def test_targets_of_the_timeline_are_rewards_at_ends_and_bootstrap_at_the_time_limit():
    said = timeline(episode())
    dies, arrives, cut_short = said.target.T
    torch.testing.assert_close(dies, torch.tensor([10.0, 10, 1, 0, 0, 0, 0]))  # 1 + 0.9 * 10, the reward, none
    torch.testing.assert_close(arrives, torch.tensor([10.0, 10, 10, 10, 1, 0, 0]))
    torch.testing.assert_close(cut_short, torch.full((7,), 10.0))


def test_the_dead_of_the_timeline_are_in_no_loss_and_ends_are_not_acted_on():
    said = timeline(episode())
    assert torch.equal(said.weighs, said.mask)
    assert said.mask.sum(0).tolist() == [3, 5, 7]
    assert said.alive_next.sum(0).tolist() == [2, 4, 7]
    assert said.truncated[-1].tolist() == [True, True, True]  # of the dead the flags say anything
    assert not bool(said.terminated[-1, 2])


def test_values_that_are_learned_from_ends_by_hand():
    ends = torch.tensor([False, False, True])
    torch.testing.assert_close(learned_values(ends, gamma=0.5), torch.tensor([1.75, 1.5, 1.0]))
    torch.testing.assert_close(learned_values(torch.zeros(3, dtype=torch.bool), gamma=0.5), torch.full((3,), 2.0))


def test_both_readings_of_an_end_are_drawn_and_differ():
    for lines in readings().values():
        right, wrong = lines.values()
        assert (right - wrong).abs().min() > 1


def test_the_picture_is_written(tmp_path):
    draw(timeline(episode()), tmp_path / "timeline.png")
    assert imread(tmp_path / "timeline.png").shape[:2] == (1012, 1210)
