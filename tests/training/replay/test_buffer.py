"""What the replay buffer stores, samples and restores."""

from queue import Queue
from threading import Thread
from typing import cast

import pytest
import torch

from masac.training.distributed.ranks import Rank
from masac.training.replay.buffer import Replay
from masac.training.replay.sharded import all_replays
from tests.losses.common import A, N, make_batch
from tests.training.common import GROUP


def test_the_buffer_keeps_what_losses_read_but_no_dead_rows():
    replay = Replay([GROUP], size=10, batch_size=64, device="cpu")
    mask = torch.ones(2, 2, N, 1, dtype=torch.bool)
    mask[0, 0] = False
    mask[1, 1, 0] = False
    collected = make_batch(batch=(2, 2), mask=mask)
    collected["agents", "loc"] = torch.zeros(2, 2, N, A)
    collected["next", "terminated"] = torch.zeros(2, 2, 1, dtype=torch.bool)
    collected["collector", "traj_ids"] = torch.arange(4).reshape(2, 2)
    replay.extend(collected)
    assert len(replay) == 3
    sample = replay.sample()
    kept = {key for key in sample.keys(True, True) if key != "index"}
    assert kept == {
        ("agents", "observation"),
        ("agents", "action"),
        ("agents", "mask"),
        ("next", "agents", "observation"),
        ("next", "agents", "reward"),
        ("next", "agents", "terminated"),
    }
    assert sample.batch_size == (64,)
    assert sample["agents", "mask"].any(1).all()


def test_a_batch_in_which_nobody_lived_stores_nothing():
    replay = Replay([GROUP], size=4, batch_size=4, device="cpu")
    dead = make_batch(batch=(2, 3), mask=torch.zeros(2, 3, N, 1, dtype=torch.bool))
    replay.extend(dead)  # the first that it gets
    assert (len(replay), replay.written) == (0, 0)
    replay.extend(make_batch(batch=(2, 3)))
    before = replay.rows(0, 4).clone()
    replay.extend(dead)
    assert (len(replay), replay.written) == (4, 4)
    assert (replay.rows(0, 4) == before).all()


def test_the_oldest_rows_give_way():
    replay = Replay([GROUP], size=10, batch_size=4, device="cpu")
    for _ in range(3):
        replay.extend(make_batch(batch=(2, 3)))
    assert len(replay) == 10


def test_a_buffer_says_what_a_row_takes():
    # Observations [3, 4] twice, actions [3, 2] and rewards [3, 1] in float32, ends [3, 1] as bytes, of three agents.
    replay = Replay([GROUP], size=10, batch_size=2, device="cpu")
    replay.extend(make_batch(batch=(4,)).unsqueeze(0))
    assert replay.bytes_per_row(make_batch(batch=(4,))) == sum(
        value.numel() * value.element_size() for value in replay.rows(0, 1).values(True, True)
    )


@pytest.mark.parametrize("held", [7, 10])
def test_a_restored_buffer_holds_every_row_in_its_place(held):
    made, restored = (Replay([GROUP], size=10, batch_size=2, device="cpu") for _ in range(2))
    for number in range(17 if held == 10 else 7):
        made.extend(make_batch(seed=number, batch=(1,)).unsqueeze(0))
    first = made.written - held
    parts = [made.rows(first, first + 2), made.rows(first + 2, first + 3), made.rows(first + 3, made.written)]
    for _ in range(2):  # the second time into one that is filled
        restored.restore(iter(parts), written=made.written)
    for replay in (made, restored):
        replay.extend(make_batch(seed=99, batch=(2,)).unsqueeze(0))
    assert restored.written == made.written
    for key, value in made.buffer[:].items(True, True):
        assert torch.equal(restored.buffer[:][key], value), key


class InThread:
    """A rank of two, the other of which runs in another thread."""

    def __init__(self, index, queues):
        self.index, self.queues, self.is_main, self.world_size = index, queues, index == 0, 2

    def send(self, value, to):
        self.queues[to].put(value)

    def receive(self, source):
        return self.queues[self.index].get(timeout=30)


def test_the_restored_buffer_of_another_rank_counts_its_rows():
    queues = [Queue(), Queue()]
    own, theirs = (Replay([GROUP], size=10, batch_size=2, device="cpu") for _ in range(2))
    own.extend(make_batch(batch=(1, 3)))

    def serve():
        with all_replays(theirs, cast(Rank, InThread(1, queues))):
            pass

    other = Thread(target=serve)
    other.start()
    with all_replays(own, cast(Rank, InThread(0, queues))) as replays:
        replays[1].restore(iter([own.rows(0, 3)]), written=3)
        assert [len(replay) for replay in replays] == [3, 3]
    other.join(30)
    assert (len(theirs), theirs.written) == (3, 3)
