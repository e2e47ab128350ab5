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


def refilling():
    """A run of 640 frames: warm-up of 128, iterations of 32 with 4 updates each."""
    training = TrainingConfig(total_frames=640, warmup_frames=128, steps_per_iteration=4, updates_per_frame=1 / 8)
    return Schedule(ExperimentConfig(task=TaskConfig(num_envs=8), training=training))


def test_dropped_updates_stay_dropped_when_a_run_resumes_twice():
    first = refilling()
    first.fill_buffer_first(frames=320, taken=24)  # the updates of 192 frames
    assert (first.learns_from, first.refill_frames) == (448, 128)
    assert [first.updates_due(frames, 24) for frames in (352, 416, 448, 480)] == [0, 0, 0, 4]
    for stopped_at, taken, due in ((352, 24, 0), (480, 28, 0)):
        again = refilling()
        again.continue_after_refill(stopped_at, first.learns_from, first.dropped_updates)
        assert again.updates_due(stopped_at, taken) == due
        assert again.updates_due(512, 28) == 4
