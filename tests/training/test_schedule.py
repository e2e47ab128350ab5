"""The frames at which a run learns and evaluates."""

from masac.envs.config import TaskConfig
from masac.networks.config import ModelConfig
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


def test_updates_of_a_rate_that_no_float_is_are_not_rounded_down():
    training = TrainingConfig(warmup_frames=0, total_frames=100, steps_per_iteration=1, updates_per_frame=0.29)
    schedule = Schedule(ExperimentConfig(task=TaskConfig(num_envs=1), training=training))
    assert schedule.updates_by(100) == 29
    assert schedule.updates_by(99) == 28


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


def test_updates_that_would_be_due_before_the_first_rows_are_dropped():
    def due(model=None, **training):
        config = ExperimentConfig(
            task=TaskConfig(num_envs=8),
            model=model or ModelConfig(),
            training=TrainingConfig(
                warmup_frames=64, steps_per_iteration=4, updates_per_frame=1 / 8, total_frames=640, **training
            ),
        )
        schedule = Schedule(config)
        return [schedule.updates_due(frames, 0) for frames in (64, 96, 128, 160, 192)]

    assert due() == [0, 4, 8, 12, 16]
    assert due(n_step=9) == [0, 4, 8, 12, 16]  # 8 environments have taken 8 steps after 64 frames
    assert due(n_step=10) == [0, 0, 4, 8, 12]  # 72 frames, so whole iterations of 96
    sequences = {"sequence_length": 12, "burn_in": 4, "batch_size": 8}
    assert due(ModelConfig(memory="gru"), **sequences) == [0, 0, 0, 4, 8]  # 120 frames: 128
