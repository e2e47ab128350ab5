"""Videos that a run writes while it trains."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from masac.algorithm import AlgorithmConfig
from masac.errors import RunFailedError
from masac.process.stop_signals import StoppedBySignal, StopRequest
from masac.training.checkpointing.run_files import RunFiles
from masac.training.trainer import Trainer
from masac.training.videos import VideoRecorder
from tests.envs.egl import needs_egl
from tests.rendering.videos import read
from tests.training.common import QUIET, rows, tiny, untimed

COUNTING = {
    "suite": "pettingzoo",
    "scenario": None,
    "factory": "tests.envs.pictured:counting",
    "kwargs": {},
    "horizon": None,
    "success": None,
}
CARELESS = {**COUNTING, "factory": "tests.envs.pictured:careless"}


def with_videos(every, *, total_frames=256, task=COUNTING, updates_per_frame=0.0, **options):
    training = {"total_frames": total_frames, "updates_per_frame": updates_per_frame}
    # An algorithm whose updates begin at once.
    config = tiny(task=task, training=training, algorithm=AlgorithmConfig(skip_done_states="drop"), **options)
    return replace(config, evaluation=replace(config.evaluation, video_every=every))


def train(config, path, **options):
    """What a run prints."""
    text = io.StringIO()
    Trainer(config, path, console=Console(file=text, width=1000), **options).run()
    return text.getvalue()


def videos(path):
    return sorted(file.name for file in (path / "videos").iterdir())


def names(*frames):
    return [f"frames-{number:012d}.mp4" for number in frames]


def test_a_run_writes_videos_logs_them_and_goes_on_with_them_when_it_is_resumed(tmp_path):
    config = with_videos(100, loggers=("tensorboard",))
    assert train(config, tmp_path) == ""
    assert videos(tmp_path) == names(128, 224, 256)
    first = tmp_path / "videos" / names(128)[0]
    pictures, fps = read(first)
    assert [round(picture.mean() / 20) for picture in pictures] == [0, 1, 2, 3]
    assert fps == 4

    (tmp_path / "videos" / names(288)[0]).write_bytes(b"of a run that was killed after its last checkpoint")
    written = first.stat().st_mtime_ns
    longer = with_videos(150, total_frames=320, loggers=("tensorboard",))
    assert "videos are off" not in train(longer, tmp_path, resumes=True)
    assert videos(tmp_path) == names(128, 224, 256, 320)
    assert first.stat().st_mtime_ns == written

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    shown = events.Images("eval/video")
    assert [one.step for one in shown] == [128, 224, 256, 320]
    (tmp_path / "shown.gif").write_bytes(shown[0].encoded_image_string)
    assert len(read(tmp_path / "shown.gif")[0]) == 4


def test_a_run_is_the_same_with_videos_as_without(tmp_path):
    tables = []
    for every in (0, 64):
        train(with_videos(every, task=CARELESS, updates_per_frame=1 / 16), tmp_path / str(every))
        tables.append(untimed(rows(tmp_path / str(every))))
    assert tables[0] == tables[1]
    assert not (tmp_path / "0" / "videos").exists()
    assert len(videos(tmp_path / "64")) == 4


@pytest.fixture
def trainer(tmp_path):
    with Trainer(with_videos(0), tmp_path / "run", console=QUIET) as trainer:
        yield trainer


def record(trainer, *frames, task=COUNTING, log=lambda file, frames: None, stop=None):
    """Record videos; returns what is warned of, and the names of the files."""
    said: list[str] = []
    files = RunFiles(trainer.run_dir.parent / "files")
    recorder = VideoRecorder(with_videos(64, task=task), files, device="cpu", warn=said.append)
    for number in frames:
        recorder.record(trainer.policy, number, log=log, stop=stop or StopRequest())
    recorder.close()
    files.close()
    return said, sorted(file.name for file in (files.run_dir / "videos").glob("*"))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ({"factory": "tests.envs.pictured:never_drawn"}, "must make an environment with render_mode='rgb_array'"),
        (
            {"factory": "tests.envs.pictured:careless", "kwargs": {"fails": True}},
            "ZeroDivisionError: no third picture (tests/envs/pictured.py",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_warning(trainer, task, reason):
    (line,), files = record(trainer, 64, 128, task={**COUNTING, **task})
    assert line.startswith("videos are off (evaluation.video_every=64): ")
    assert reason in line
    assert files == []


def test_a_logger_that_fails_is_one_warning_too(trainer):
    def fail(file, frames):
        raise RunFailedError("no connection")

    said, files = record(trainer, 64, 128, log=fail)
    assert said == ["videos are off (evaluation.video_every=64): no connection"]
    assert files == names(64)


def test_a_stopped_video_is_not_there(trainer):
    stop = StopRequest()
    stop.number = 2
    with pytest.raises(StoppedBySignal):
        record(trainer, 64, stop=stop)
    assert list((trainer.run_dir.parent / "files" / "videos").iterdir()) == []


@pytest.mark.slow
@needs_egl
def test_vmas_too(tmp_path):
    tables = []
    for every in (0, 128):
        train(with_videos(every, task={}), tmp_path / str(every))
        tables.append(untimed(rows(tmp_path / str(every))))
    assert tables[0] == tables[1]
    assert [len(read(tmp_path / "128" / "videos" / name)[0]) for name in videos(tmp_path / "128")] == [11, 11]
