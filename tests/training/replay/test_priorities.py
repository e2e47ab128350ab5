"""Prioritized replay: which rows are drawn, how they are weighed, and where the errors come from."""

import pytest
import torch

from masac.algorithm import AlgorithmConfig
from masac.training.replay.buffer import Replay
from masac.training.replay.priorities import Priorities
from masac.training.trainer import Trainer
from tests.losses.common import make_batch
from tests.training.common import GROUP, QUIET, tiny


def made(errors, *, size=10, exponent=0.5, importance_exponent=0.5):
    priorities = Priorities(size, exponent=exponent, importance_exponent=importance_exponent, device="cpu")
    priorities.update(torch.arange(len(errors)), torch.tensor(errors))
    return priorities


def counts(places, rows):
    return torch.bincount(places, minlength=rows).tolist()


def test_rows_are_drawn_in_proportion_to_a_power_of_their_errors():
    # Errors 1, 4 and 9 to the power 0.5 are 1, 2 and 3, of 6 in all: of six equal parts the rows have 1, 2 and 3. With
    # N = 3 and N P = 1/2, 1 and 3/2 the weights are (1/2)^-0.5 = 1.41421, 1 and (3/2)^-0.5 = 0.81650.
    places, weights = made([1.0, 4.0, 9.0]).draw(3, batches=2, batch_size=6)
    for batch in (slice(0, 6), slice(6, 12)):
        assert counts(places[batch], 3) == [1, 2, 3]
    expected = torch.tensor([1.41421, 1.0, 0.81650])
    torch.testing.assert_close(weights, expected[places], rtol=1e-5, atol=1e-5)
    assert weights.dtype == torch.float32


def test_every_row_of_a_part_can_be_drawn_with_its_probability():
    places, _ = made([1.0, 9.0], exponent=1.0).draw(2, batches=20_000, batch_size=1)
    assert counts(places, 2)[0] / 20_000 == pytest.approx(0.1, abs=0.01)  # standard deviation 0.002


def test_a_new_row_has_the_highest_priority_there_is():
    # The powers are 1, 2 and 3, and 3 for each of the two new rows: 12 in all.
    priorities = made([1.0, 4.0, 9.0])
    places, weights = priorities.draw(5, batches=1, batch_size=12)
    assert counts(places, 5) == [1, 2, 3, 3, 3]
    torch.testing.assert_close(weights[places == 4], torch.full((3,), (5 * 3 / 12) ** -0.5))
    priorities.add(torch.tensor([2]))  # in the place of the row with the largest error: the highest is now 2
    assert counts(priorities.draw(3, batches=1, batch_size=5)[0], 3) == [1, 2, 2]


def test_before_the_first_update_all_rows_are_equal():
    places, weights = made([]).draw(4, batches=1, batch_size=8)
    assert counts(places, 4) == [2, 2, 2, 2]
    assert weights.tolist() == [1.0] * 8


def test_of_a_row_that_was_drawn_twice_the_larger_error_counts_and_a_later_draw_replaces_it():
    priorities = made([1.0, 1.0, 1.0], exponent=1.0)
    priorities.draw(3, batches=1, batch_size=1)
    priorities.update(torch.tensor([0, 0]), torch.tensor([5.0, 2.0]))
    priorities.update(torch.tensor([0, 1]), torch.tensor([3.0, 0.5]))
    assert priorities.state(3).tolist() == pytest.approx([5.0, 0.5, 1.0], rel=1e-5)
    priorities.update(torch.tensor([0]), torch.tensor([2.0]))
    assert priorities.state(3).tolist() == pytest.approx([2.0, 0.5, 1.0], rel=1e-5)


def test_a_row_whose_error_is_not_finite_does_not_come_back_at_once():
    priorities = made([1.0, float("nan"), float("inf")], exponent=1.0)
    assert priorities.state(3).tolist() == pytest.approx([1.0, 1e-6, 1e-6], rel=1e-5)
    assert counts(priorities.draw(3, batches=1, batch_size=64)[0], 3)[0] >= 63


def test_the_weights_correct_completely_at_the_end_of_the_run():
    priorities = made([1.0, 9.0], exponent=1.0, importance_exponent=0.4)
    for done, exponent in ((0.0, 0.4), (0.5, 0.7), (1.0, 1.0)):
        priorities.set_progress(done)
        places, weights = priorities.draw(2, batches=1, batch_size=10)
        torch.testing.assert_close(weights[places == 0], torch.tensor([0.2**-exponent]), rtol=1e-4, atol=0)


def test_a_restored_buffer_has_new_rows_until_their_priorities_are_restored_too():
    replay, restored = (
        Replay([GROUP], size=10, batch_size=4, device="cpu", priorities=made([], exponent=1.0)) for _ in range(2)
    )
    for number in range(13):
        replay.extend(make_batch(seed=number, batch=(1,)).unsqueeze(0))
    assert replay.priorities is not None
    assert restored.priorities is not None
    replay.priorities.update(torch.arange(10), torch.arange(10.0))
    restored.priorities.update(torch.arange(10), torch.ones(10))
    restored.restore(iter([replay.rows(3, 13)]), written=13)
    assert restored.priorities.state(10).count_nonzero() == 0
    restored.priorities.set_state(replay.priorities.state(10), 10)
    drawn = []
    for one in (replay, restored):
        torch.manual_seed(0)
        drawn.append(one.sample(3))
    assert (drawn[0] == drawn[1]).all()
    assert torch.equal(drawn[0]["agents", "observation"], replay.buffer[:][drawn[0]["index"]]["agents", "observation"])
    with pytest.raises(ValueError, match=r"must be 10, one per row; got shape \[9\]"):
        restored.priorities.set_state(replay.priorities.state(9), 10)


def test_a_sequence_has_one_priority_of_its_largest_error_and_one_weight_for_all_steps():
    # Errors 1 and 3 of 4 in all: of four equal parts the sequences have 1 and 3. N P is 1/2 and 3/2.
    priorities = made([], exponent=1.0, importance_exponent=1.0)
    replay = Replay([GROUP], size=10, batch_size=4, device="cpu", row_shape=(5,), priorities=priorities)
    replay.extend(make_batch(batch=(2, 1, 5)))
    errors = torch.zeros(2, 5)
    errors[0], errors[1, 2] = 1.0, 3.0  # the second has the smaller mean
    replay.set_errors(torch.arange(2).unsqueeze(-1).expand(2, 5), errors)
    batch = replay.sample()
    assert batch.batch_size == (4, 5)
    assert batch["index"].tolist() == [[0] * 5, *[[1] * 5] * 3]
    torch.testing.assert_close(batch["priority_weight"][:, 3], torch.tensor([2, 2 / 3, 2 / 3, 2 / 3]))
    replay.set_errors(batch["index"], torch.full((4, 5), 2.0))
    assert priorities.state(2).tolist() == pytest.approx([2.0, 2.0], rel=1e-5)


@pytest.mark.slow
def test_a_run_draws_rows_by_the_errors_of_its_updates(tmp_path):
    training = {"priority_exponent": 1.0, "total_frames": 128}
    config = tiny(algorithm=AlgorithmConfig(skip_done_states="drop"), training=training)
    with Trainer(config, tmp_path, console=QUIET) as trainer:
        apply, seen = trainer.learner.apply, []

        def watched(batch, results):
            logged = apply(batch, results)
            seen.append(batch)
            return logged

        trainer.learner.apply = watched
        trainer.run()
        priorities, rows = trainer.replay.priorities, len(trainer.replay)
        assert priorities is not None
        assert priorities.importance_exponent == 1.0
        errors = torch.cat([batch["td_error"] for batch in seen])
        found = priorities.state(rows)
        assert found.count_nonzero() > rows / 2
        measured = torch.cat([torch.zeros(1), errors + 1e-6])
        assert torch.isin(found.float(), measured).all()
        assert all(batch["priority_weight"].shape == (32,) for batch in seen)
        assert seen[-1]["priority_weight"].unique().numel() > 1
        assert "index" not in seen[-1]

        batches = trainer.batches.sample(3)  # the last one is not applied, as where a run is stopped
        for error in (7.0, 8.0):
            next(batches)["td_error"] = torch.full((32,), error)
        next(batches)
        largest = priorities.state(rows).unique()[-2:]
        assert largest.tolist() == pytest.approx([7.0, 8.0], rel=1e-5)
