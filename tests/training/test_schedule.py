"""The frames at which a run evaluates."""

from masac.envs.config import TaskConfig
from masac.training.config import EvaluationConfig, ExperimentConfig, TrainingConfig
from masac.training.schedule import Schedule


def evaluated(every_frames):
    """The frames after which a run of 256 frames in iterations of 32 evaluates."""
    schedule = Schedule(
        ExperimentConfig(
            task=TaskConfig(num_envs=8),
            training=TrainingConfig(total_frames=250, steps_per_iteration=4),
            evaluation=EvaluationConfig(every_frames=every_frames),
        )
    )
    return [frames for frames in range(32, 289, 32) if schedule.evaluation_due(frames)]


def test_a_run_evaluates_periodically_and_at_its_end():
    assert evaluated(100) == [128, 224, 256, 288]
    assert evaluated(128) == [128, 256, 288]
    assert evaluated(0) == [256, 288]
