"""What a run says of itself at its start and end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from masac.cli.experiment import _changed_rates, _few_updates
from masac.envs.config import TaskConfig
from masac.training.config import ExperimentConfig, TrainingConfig
from masac.training.schedule import Schedule


def make_config(total_frames):
    training = TrainingConfig(total_frames=total_frames, warmup_frames=100, steps_per_iteration=4, lr_decay_fraction=1)
    return ExperimentConfig(task=TaskConfig(num_envs=8), training=training)


@pytest.mark.parametrize(
    ("total_frames", "said"),
    [
        (600, None),  # 19 iterations of 32 are 608 frames, before and now
        (
            1200,
            "at 25% of their initial values when the run stopped, now at 62% because it has 1,216 frames",
        ),  # 480 of 608, of 1216
    ],
)
def test_learning_rates_follow_frames_not_iterations(total_frames, said):
    config = make_config(total_frames)
    schedule = Schedule(config)
    resumed_from = SimpleNamespace(config={"training": {"total_frames": 600}})
    trainer = SimpleNamespace(
        config=config, schedule=schedule, total_frames=schedule.total_frames, frames=480, resumed_from=resumed_from
    )
    line = _changed_rates(cast(Any, trainer))
    assert line is None if said is None else said in str(line)


def test_a_run_without_updates_names_its_warm_up():
    assert "training.warmup_frames=100" in _few_updates(make_config(100), 0)
    assert "training.warmup_frames" not in _few_updates(make_config(100), 1)
