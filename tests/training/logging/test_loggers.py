"""Where the numbers of a run go besides metrics.csv, read back from there."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from masac.errors import ConfigError
from masac.training.trainer import Trainer
from tests.training.common import QUIET, rows, tiny

ROOT = Path(__file__).parents[3]


def scalars(run_dir):
    """What TensorBoard shows: by name, values by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]}


def logging_to(*loggers, total_frames=256):
    config = tiny(loggers=loggers, training={"total_frames": total_frames, "checkpoint_every": "64"})
    return replace(config, logging=replace(config.logging, logger_every_s=0.0))


@pytest.mark.slow
def test_tensorboard_shows_what_metrics_say_over_frames(tmp_path):
    with Trainer(logging_to("tensorboard"), tmp_path, console=QUIET) as trainer:
        trainer.run()
    shown = scalars(tmp_path)
    for name in ("eval/return_mean", "agents/loss/qvalue", "agents/entropy", "time/update_s", "buffer/fill"):
        expected = {int(row["frames"]): float(row[name]) for row in rows(tmp_path) if row[name]}
        assert shown[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_is_one_curve_in_tensorboard(tmp_path):
    config = logging_to("tensorboard")
    with Trainer(config, tmp_path, console=QUIET) as trainer:
        observe = trainer._observe

        def fail(collected):
            if trainer.frames == 224:
                raise KeyboardInterrupt
            observe(collected)

        trainer._observe = fail
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    with Trainer(config, tmp_path, console=QUIET, resumes=True) as trainer:
        trainer.run()
    assert sorted(scalars(tmp_path)["buffer/fill"]) == list(range(32, 257, 32))


def test_a_logger_without_its_package_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("masac.training.logging.loggers.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'logging\.loggers=wandb must have its package.*pip install "masac\[wandb\]"'
    ):
        Trainer(logging_to("wandb"), tmp_path, console=QUIET)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own dependencies, in reading back
def test_wandb_offline_and_mlflow_get_the_same_numbers_and_videos(tmp_path):
    pytest.importorskip("wandb")
    mlflow = pytest.importorskip("mlflow")
    words = ["task=pettingzoo/custom", "task.factory=tests.envs.pictured:counting", "training.total_frames=160"]
    words += ["evaluation.video_every=100", "training.warmup_frames=32", "task.num_envs=8"]
    words += ["training.batch_size=16", "model.hidden=[8]", "evaluation.episodes=2", "training.buffer_size=500"]
    words += ["logging.loggers=[wandb,mlflow]", "logging.wandb_offline=true", "logging.logger_every_s=0", "run_dir=out"]
    done = subprocess.run(
        [sys.executable, "-m", "masac", "train", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))
    written = sorted((tmp_path / "out" / "videos").iterdir())
    assert [file.stem for file in written] == ["frames-000000000128", "frames-000000000160"]
    media = (tmp_path / "out" / "wandb").glob("offline-run-*/files/media/videos/eval/video_*")
    assert sorted(file.read_bytes() for file in media) == sorted(file.read_bytes() for file in written)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("masac").experiment_id])
    assert run.info.status == "FINISHED"
    expected = {int(row["frames"]): float(row["buffer/fill"]) for row in rows(tmp_path / "out")}
    artifacts = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "videos")]
    assert artifacts == [file.name for file in written]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    found = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "buffer/fill")}
    assert found == pytest.approx(expected, rel=1e-5)
