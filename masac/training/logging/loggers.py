"""Loggers besides metrics.csv: TensorBoard, Weights & Biases, MLflow.

A new logger is a function that opens it and returns an :class:`OpenLogger`, and a line in ``LOGGERS``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from masac.errors import ConfigError
from masac.files.atomic_write import write_atomically

VIDEO = "eval/video"
"""The name of videos."""

TENSORBOARD_WIDTH = 320
"""Pixels of the gifs in TensorBoard, which its files hold."""


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """A run, as loggers see it.

    Args:
        run_dir: the folder below which loggers write local files.
        name: of the run.
        config: of the run, as nested dicts; ``config["logging"]`` has the settings of the loggers.
        void_from: frames from which earlier entries of this run, before it was resumed, are void; None for a new run.
    """

    run_dir: Path
    name: str
    config: Mapping[str, Any]
    void_from: int | None


@dataclass(frozen=True, kw_only=True)
class OpenLogger:
    """A logger that takes scalars and videos.

    Args:
        log: called with name, value and step.
        log_video: called with name, file (.mp4 or .gif) and step.
        close: ends it.
    """

    log: Callable[[str, float, int], object]
    log_video: Callable[[str, Path, int], object]
    close: Callable[[], object]


class Loggers:
    """The open loggers of a run; steps are environment frames.

    Args:
        names: keys of ``LOGGERS``.
        run: that is logged.
        every_s: seconds between two rows.
    """

    def __init__(self, names: Sequence[str], run: LoggedRun, *, every_s: float) -> None:
        self.every_s = every_s
        self.last = -math.inf
        self.loggers: list[OpenLogger] = [LOGGERS[name](run) for name in names]

    def log(self, row: Mapping[str, float | int | None], *, at_once: bool = False) -> None:
        """Log a row of metrics, without values that are None or not finite.

        Args:
            row: logged if it has an evaluation, or if it is time.
            at_once: log it in any case.
        """
        now = time.perf_counter()
        is_due = at_once or row.get("eval/return_mean") is not None or now - self.last >= self.every_s
        if not self.loggers or not is_due:
            return
        self.last, frames = now, int(row["frames"] or 0)
        for name, value in row.items():
            if value is not None and name != "frames" and math.isfinite(value):
                for logger in self.loggers:
                    logger.log(name, value, frames)

    def log_video(self, file: Path, frames: int) -> None:
        """Log a video of an evaluation episode."""
        for logger in self.loggers:
            logger.log_video(VIDEO, file, frames)

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self.loggers:
            logger.close()


def check_loggers(names: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for a logger whose package is missing."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"logging.loggers={name} must have its package; it is not installed. Install it with "
                f'pip install "masac[{name}]", or change logging.loggers=[...]'
            )


def _tensorboard(run: LoggedRun) -> OpenLogger:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter  # TorchRL's logger of it takes no purge_step

    from masac.rendering.video import as_gif  # imported when needed: Pillow

    writer = SummaryWriter(str(run.run_dir / "tensorboard"), purge_step=run.void_from)

    def log_video(name: str, file: Path, step: int) -> None:
        # SummaryWriter.add_video takes tensors and encodes them with moviepy, as an image like this one.
        from tensorboard.compat.proto import summary_pb2

        gif = as_gif(file, width=TENSORBOARD_WIDTH)
        width, height = Image.open(BytesIO(gif)).size
        kind = cast(Any, summary_pb2).Summary
        image = kind.Image(encoded_image_string=gif, width=width, height=height, colorspace=3)
        cast(Any, writer.file_writer).add_summary(kind(value=[kind.Value(tag=name, image=image)]), step)

    return OpenLogger(log=writer.add_scalar, log_video=log_video, close=writer.close)


def _wandb(run: LoggedRun) -> OpenLogger:
    import wandb  # pyright: ignore[reportMissingImports]  an extra
    from torchrl.record.loggers.wandb import WandbLogger

    settings = run.config["logging"]
    logger = WandbLogger(
        exp_name=run.name,
        project=settings["project"],
        save_dir=str(run.run_dir),
        offline=settings["wandb_offline"],
        id=_wandb_id(run.run_dir),
        resume="allow",
    )
    logger.log_hparams(dict(run.config))

    def log_video(name: str, file: Path, step: int) -> None:
        # TorchRL's log_video takes tensors, which wandb encodes with moviepy; log_scalar passes any value on.
        logger.log_scalar(name, cast(Any, wandb.Video(str(file))), step=step)

    return OpenLogger(log=logger.log_scalar, log_video=log_video, close=logger.experiment.finish)


def _mlflow(run: LoggedRun) -> OpenLogger:
    import mlflow  # pyright: ignore[reportMissingImports]  an extra
    from torchrl.record.loggers.mlflow import MLFlowLogger

    settings = run.config["logging"]
    # MLflow takes no folder any more, but a database.
    uri = settings["mlflow_uri"] or f"sqlite:///{(run.run_dir / 'mlflow.db').resolve()}"
    mlflow.set_tracking_uri(uri)
    if mlflow.get_experiment_by_name(settings["project"]) is None:
        # Else files would go to the working directory, or by an older TorchRL to the database's URI, which takes none.
        files = None if settings["mlflow_uri"] else (run.run_dir / "mlflow_files").resolve().as_uri()
        mlflow.create_experiment(settings["project"], artifact_location=files)
    logger = MLFlowLogger(exp_name=settings["project"], tracking_uri=uri)

    def log_video(name: str, file: Path, step: int) -> None:
        mlflow.log_artifact(str(file), "videos")

    return OpenLogger(log=logger.log_scalar, log_video=log_video, close=mlflow.end_run)


def _wandb_id(run_dir: Path) -> str:
    """The same for a resumed run, also if its folder was moved."""
    file = run_dir / "wandb_id"
    if not file.is_file():
        write_atomically(file, lambda out: out.write(uuid4().hex.encode()))
    return file.read_text()


LOGGERS: Mapping[str, Callable[[LoggedRun], OpenLogger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""The possible values of ``logging.loggers``, each the name of the package it needs."""
