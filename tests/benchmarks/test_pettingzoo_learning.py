"""The benchmark of the PettingZoo presets: runs that follow each other, and the table."""

import json

import pytest

from benchmarks import pettingzoo_learning
from benchmarks.masac_runs import read_rows
from benchmarks.pettingzoo_learning import TASKS, Task, learning_rows, result
from masac.cli.composing import composed_experiment

SHORT = ["task=pettingzoo/simple_spread", "training.warmup_frames=300", "evaluation.every_frames=384"]


@pytest.mark.parametrize("name", TASKS)
def test_every_run_of_a_task_has_a_buffer_for_the_frames_so_far(name):
    frames = 0
    for overrides in (TASKS[name].overrides, *TASKS[name].then):
        training = composed_experiment(overrides).training
        frames += training.total_frames
        assert training.buffer_size >= frames or not TASKS[name].then


@pytest.mark.slow
def test_a_run_goes_on_from_the_end_of_the_one_before(tmp_path, monkeypatch):
    task = Task([*SHORT, "training.total_frames=640"], then=[[*SHORT, "training.total_frames=384"]])
    monkeypatch.setitem(TASKS, "two runs", task)
    monkeypatch.setattr(pettingzoo_learning, "EPISODES", 4)
    found = result("two runs", 3, ["logging.loggers=[]"], tmp_path)
    parts = tmp_path / "two-runs-seed3-part1", tmp_path / "two-runs-seed3"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in parts)
    summaries = [json.loads((part / "summary.json").read_text()) for part in parts]
    assert found["frames"] == 640 + 384
    assert found["wall_time_s"] == sum(summary["wall_time_s"] for summary in summaries)
    evaluated = [float(row["eval/return_mean"]) for part in parts for row in read_rows(part) if row["eval/return_mean"]]
    assert [frames for frames, _ in found["curve"]["agent"]] == [384, 640, 1024]
    assert [value for _, value in found["curve"]["agent"]] == evaluated
    # The rows of the first run are in the buffer of the second.
    assert int(read_rows(parts[1])[-1]["buffer/rows"]) > 640
    monkeypatch.setattr(pettingzoo_learning, "run_masac", None)
    assert result("two runs", 3, [], tmp_path) == found  # nothing runs again


def test_the_table_has_a_row_for_each_group_and_leaves_out_what_did_not_run():
    runs = [
        {
            "task": "simple_tag",
            "frames": 2_000,
            "wall_time_s": 60 * minutes,
            "random": {"adversary": 1.0, "agent": -2.0},
            "final": {"adversary": 10.0 + minutes, "agent": -float(minutes)},
        }
        for minutes in (1, 2, 3)
    ]
    # Student's t of three: 4.303 standard deviations over the root of three.
    adversary, agent = learning_rows(runs)
    assert adversary[:7] == ("simple_tag", "adversary", "2,000", "3", "2.0 (1.0 to 3.0)", "1.0", "12.00 [9.52, 14.48]")
    assert agent[1] == "agent"
    assert agent[5:8] == ("-2.0", "-2.00 [-4.48, 0.48]", "-3.00")
