"""Rows of following steps: which steps they hold, and that a replay buffer gives them back."""

import pytest
import torch
from tensordict import TensorDict

from masac.training.replay.batches import Batches
from masac.training.replay.buffer import Replay
from masac.training.replay.sequences import Sequences
from masac.training.reward_scaling import RewardScaling
from tests.losses.common import N, make_batch
from tests.training.common import GROUP
from tests.training.policies.common import NAVIGATION, untrained

E = 3


def numbered(steps, *, first=0):
    """Steps ``[E, steps]`` that hold their own numbers, each environment's above those of the one before."""
    numbers = torch.arange(first, first + steps) + 1000 * torch.arange(E).unsqueeze(-1)
    return TensorDict(
        {"step": numbers, "agents": TensorDict({"observation": numbers[..., None, None]}, [E, steps, 1])}, [E, steps]
    )


@pytest.mark.parametrize("sizes", [[24], [4] * 6, [1] * 24, [7, 1, 9, 7]])
@pytest.mark.parametrize(("length", "burn_in"), [(5, 0), (4, 2), (4, 7), (1, 0)])
def test_rows_follow_each_other_whatever_the_batches(sizes, length, burn_in):
    maker, made = Sequences(length=length, burn_in=burn_in), []
    for part in numbered(24).split(sizes, 1):
        made.append(maker.rows(part))
        assert made[-1].shape == (E, made[-1].shape[1], burn_in + length)
    rows = torch.cat(made, 1)
    assert rows.shape[1] == (24 - burn_in) // length
    for index, row in enumerate(rows["step"].unbind(1)):
        expected = torch.arange(index * length, (index + 1) * length + burn_in)
        assert torch.equal(row, expected + 1000 * torch.arange(E).unsqueeze(-1))
    assert torch.equal(rows["agents", "observation"].flatten(2), rows["step"])


def test_restarting_all_environments_forgets_the_steps_without_a_row():
    maker = Sequences(length=4, burn_in=0)
    assert maker.rows(numbered(3)).shape[1] == 0
    maker.restart()
    assert maker.rows(numbered(4, first=10))["step"][0, 0].tolist() == [10, 11, 12, 13]
    maker.rows(numbered(2))
    maker.restart([1])  # the others go on; the first step of this one says that its agents begin
    assert maker.rows(numbered(2, first=2))["step"][0, 0].tolist() == [0, 1, 2, 3]


def remembering(batch):
    data = make_batch(batch=batch, mask=torch.ones(*batch, N, 1, dtype=torch.bool))
    data["agents", "memory"] = torch.rand(*batch, N, 5)
    data["agents", "is_init"] = torch.rand(*batch, N, 1) < 0.1
    return data


def test_a_buffer_gives_back_whole_sequences_of_living_agents_in_their_places():
    maker, data = Sequences(length=3, burn_in=1), remembering((E, 13))
    data["agents", "mask"][1, :4] = False  # nobody is alive in the first row of an environment
    replay = Replay([GROUP], size=10, batch_size=4, device="cpu", row_shape=(4,))
    for part in data.split([7, 6], 1):
        replay.extend(maker.rows(part))
    assert (len(replay), replay.written) == (10, 4 * E - 1)
    newest = replay.rows(replay.written - 1, replay.written)
    for key in (("agents", "is_init"), ("agents", "mask"), ("next", "agents", "reward")):
        assert torch.equal(newest[key][0], data[key][-1, 9:])
    assert torch.equal(newest["agents", "memory"][0], data["agents", "memory"][-1, 9])  # of the first step alone
    there = replay.rows(1, 11)
    other = Replay([GROUP], size=10, batch_size=4, device="cpu", row_shape=(4,))
    other.restore(
        [other.rows_from({"/".join(key): value for key, value in there.items(True, True, sort=True)})], written=11
    )
    assert (other.rows(1, 11) == there).all()
    assert replay.bytes_per_row(maker.example(remembering((E,)))) == replay.bytes_per_row(
        Sequences(length=3, burn_in=1).rows(data)
    )


def test_batches_are_sequences():
    replay = Replay([GROUP], size=10, batch_size=4, device="cpu", row_shape=(3,))
    replay.extend(Sequences(length=3, burn_in=0).rows(remembering((E, 9))))
    policy, _ = untrained(NAVIGATION)
    scaling = RewardScaling([GROUP], num_envs=E, gamma=0.9, scale=2.0, normalize=False)
    batches = list(Batches(replay, policy, scaling).sample(35))
    assert [batch.shape for batch in batches] == [(4, 3)] * 35
    assert batches[0]["next", "agents", "reward"].shape == (4, 3, N, 1)
    assert batches[0]["agents", "memory"].shape == (4, 3, N, 5)
    assert batches[0]["agents"].batch_size == (4, 3, N)
