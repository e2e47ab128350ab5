"""Returns of finished episodes."""

import math
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from masac.training.episodes import EpisodeTracker
from tests.training.common import GROUP


def test_training_returns_are_those_of_finished_episodes():
    # Two environments, two agents, three steps of reward (1, 3): environment 0 ends after steps 0 and 2.
    tracker = EpisodeTracker(2, [replace(GROUP, n_agents=2)])
    assert tracker.returns("agents") is None
    reward = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1).expand(2, 3, 2, 1)
    done = torch.zeros(2, 3, 1, dtype=torch.bool)
    done[0, 0] = done[0, 2] = True
    batch = TensorDict({"next": {"agents": {"reward": reward}, "done": done}}, [2, 3])
    tracker.observe(batch)
    assert [one.returns["agents"].tolist() for one in tracker.finished] == [[1.0, 3.0], [2.0, 6.0]]
    assert [one.length for one in tracker.finished] == [1, 2]
    done = torch.zeros(2, 1, 1, dtype=torch.bool)
    done[1] = True
    tracker.observe(TensorDict({"next": {"agents": {"reward": reward[:, :1]}, "done": done}}, [2, 1]))
    assert tracker.finished[2].returns["agents"].tolist() == [
        4.0,
        12.0,
    ]  # four steps of environment 1, over two batches
    assert tracker.returns("agents").tolist() == pytest.approx([7 / 3, 21 / 3])
    assert tracker.length() == pytest.approx(7 / 3)


def test_what_an_environment_pays_the_dead_is_not_their_return():
    tracker = EpisodeTracker(1, [replace(GROUP, n_agents=2)])
    reward = torch.ones(1, 3, 2, 1)
    mask = torch.tensor([[[True, True], [True, False], [True, False]]])
    reward[0, 1:, 1] = math.nan
    done = torch.tensor([[[False], [False], [True]]])
    tracker.observe(
        TensorDict({"agents": {"mask": mask}, "next": {"agents": {"reward": reward}, "done": done}}, [1, 3])
    )
    assert tracker.finished[0].returns["agents"].tolist() == [3.0, 1.0]
