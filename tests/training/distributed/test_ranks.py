"""Several processes that train together: what they learn, what they divide, what they keep."""

from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from masac.envs.config import TaskConfig
from masac.errors import ConfigError
from masac.training.checkpointing.replay_files import ReplayFiles
from masac.training.collectors.config import CollectorConfig
from masac.training.config import ExperimentConfig, TrainingConfig
from masac.training.distributed.rank_config import rank_config
from masac.training.distributed.ranks import Rank
from masac.training.replay.buffer import Replay
from masac.training.update import UpdateStep
from tests.losses.common import N, make_batch, noisy_actor, noisy_loss, our_critic
from tests.training.common import GROUP
from tests.training.distributed.ranked import all_cases, alone, in_ranks, threads_at_exit, trouble


@pytest.mark.slow
def test_ranks_learn_what_one_process_learns(tmp_path, float64):
    first, second = in_ranks(all_cases, tmp_path)
    for case, (expected, expected_said) in alone().items():
        learned, said = first[case]
        for name, value in expected.items():
            torch.testing.assert_close(learned[name], value, rtol=1e-9, atol=1e-12, msg=f"{case}: {name}")
            assert torch.equal(learned[name], second[case][0][name]), f"{case}: {name} differs between ranks"
        for one, other in zip(said, expected_said, strict=True):
            assert one.keys() == other.keys()
            for name, value in other.items():
                torch.testing.assert_close(one[name].to(value), value, rtol=1e-5, atol=1e-6, msg=f"{case}: {name}")


@pytest.mark.slow
def test_what_is_wrong_on_one_rank_is_an_error_on_all(tmp_path):
    for said in in_ranks(trouble, tmp_path):
        assert "loss_qvalue" in said["not finite"]
        assert said["applied"] == "False"
        assert (
            "must be the same on all ranks; got another alpha on rank 1 than on rank 0, after update 7" in said["drift"]
        )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed by Linux")
def test_a_process_closes_its_connection_before_it_exits(tmp_path):
    # A thread of gloo that is left then aborts the process, once in a while.
    for before, after in in_ranks(threads_at_exit, tmp_path):
        assert before
        assert not after


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"task": TaskConfig(num_envs=9)},
            r"task.num_envs must be a multiple of 2, .*; got 9. Change it with task.num",
        ),
        ({"training": TrainingConfig(batch_size=33)}, r"training.batch_size must be a multiple of 2, .*; got 33"),
        ({"training": TrainingConfig(buffer_size=999)}, r"training.buffer_size must be a multiple of 2, .*; got 999"),
        (
            {"collector": CollectorConfig(kind="processes", num_workers=2)},
            r"collector.kind must be local with several ranks .*; got 'processes'",
        ),
    ],
)
def test_what_ranks_cannot_divide_is_an_error(wrong, message):
    with pytest.raises(ConfigError, match=message):
        rank_config(ExperimentConfig(**wrong), Rank(index=1, world_size=2))


def test_a_rank_has_its_part_of_environments_batch_and_buffer():
    config = ExperimentConfig()
    own = rank_config(config, Rank(index=1, world_size=4))
    assert 4 * own.task.num_envs == config.task.num_envs
    assert 4 * own.training.batch_size == config.training.batch_size
    assert 4 * own.training.buffer_size == config.training.buffer_size
    assert own.training.total_frames == config.training.total_frames
    assert own.training.updates_per_frame == config.training.updates_per_frame
    assert rank_config(config, Rank()) == config


def filled(number, *, size, rows):
    """A buffer in which row i of buffer ``number`` has reward ``100 * number + i``."""
    replay = Replay([GROUP], size=size, batch_size=2, device="cpu")
    for row in range(rows):
        batch = make_batch(batch=(1,))
        batch["next", "agents", "reward"][:] = 100 * number + row
        replay.extend(batch.unsqueeze(0))
    return replay


def rewards(replay):
    """From the oldest row to the newest."""
    held = replay.rows(replay.written - len(replay), replay.written)
    return held["next", "agents", "reward"][:, 0, 0].tolist()


@pytest.mark.parametrize("rows", [(4, 3), (13, 6), (13, 17)])
def test_each_rank_gets_the_rows_of_its_own_buffer_back(tmp_path, rows):
    replays = [filled(number, size=6, rows=count) for number, count in enumerate(rows)]
    segments = ReplayFiles(tmp_path).save(replays)
    again = [filled(0, size=6, rows=0) for _ in replays]
    ReplayFiles(tmp_path).load(segments, again, written=[replay.written for replay in replays])
    assert [rewards(replay) for replay in again] == [rewards(replay) for replay in replays]


def test_a_new_buffer_overwrites_no_file_of_an_earlier_one(tmp_path):
    before, after = filled(0, size=6, rows=4), filled(1, size=6, rows=4)
    kept = ReplayFiles(tmp_path).save([before])
    assert not {one.file for one in ReplayFiles(tmp_path).save([after])} & {one.file for one in kept}
    restored = filled(0, size=6, rows=0)
    ReplayFiles(tmp_path).load(kept, [restored], written=[4])
    assert rewards(restored) == rewards(before)


@pytest.mark.usefixtures("float64")
def test_ranks_with_uneven_masked_rows_equal_one_process():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), skip_done_states="fill")
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    alone, ranked = (UpdateStep(loss, optimizer, tau=0.1, mode="eager", rank=Rank(world_size=size)) for size in (1, 2))
    batch = make_batch(batch=(8,), mask=torch.rand(8, N, 1) < 0.7, terminated=torch.rand(8, N, 1) < 0.3)
    batch["agents", "mask"][0] = False
    batch["collector", "mask"] = torch.tensor([1, 1, 0, 1, 0, 0, 1, 0]).bool()
    expected = alone._evaluate(batch)
    share = sum(ranked._evaluate_packed(rows)["packed"] for rows in batch.split(4))
    got = ranked._unpack_reduced(TensorDict({"packed": share}))
    assert set(got) == set(expected) - {"priority"}
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], check_dtype=False)


def test_ranks_have_seeds_of_their_own_and_rank_zero_writes():
    seeds = {Rank(index=index, world_size=4).seed(0) for index in range(4)} | {Rank().seed(1)}
    assert len(seeds) == 5
    assert Rank().is_main
    assert not Rank(index=1, world_size=2).is_main
