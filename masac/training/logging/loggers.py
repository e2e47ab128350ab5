"""Where the numbers of a run go besides metrics.csv: TensorBoard, Weights & Biases, MLflow, by TorchRL's loggers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from torchrl.record.loggers.common import Logger

from masac.errors import ConfigError
from masac.files.atomic_write import write_atomically
from masac.training.config import ExperimentConfig


class Loggers:
    """The loggers of a run; steps are environment frames.

    Args:
        config: of the run.
        run_dir: below which they write what is local.
        void_from: what was logged from these frames on, by the same run before it was resumed, is void; None for a new
            run.
        writes: whether this process logs.
    """

    def __init__(self, config: ExperimentConfig, run_dir: Path, *, void_from: int | None, writes: bool = True) -> None:
        makers = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
        self.loggers: list[tuple[Logger, Callable[[], object]]] = []
        self.every_s = config.logging.logger_every_s
        self.last = -math.inf
        for name in config.logging.loggers if writes else ():
            self.loggers.append(makers[name](config, run_dir, void_from))

    def log(self, row: Mapping[str, float | int | None]) -> None:
        """Log a row of metrics if it has an evaluation or it is time; what is None or not finite is left out."""
        now = time.perf_counter()
        if not self.loggers or (row.get("eval/return_mean") is None and now - self.last < self.every_s):
            return
        self.last, frames = now, int(row["frames"] or 0)
        for name, value in row.items():
            if value is not None and name != "frames" and math.isfinite(value):
                for logger, _close in self.loggers:
                    logger.log_scalar(name, value, step=frames)

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, *_: object) -> None:
        for _logger, close in self.loggers:
            close()


def check_loggers(names: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for a logger whose package is missing."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"logging.loggers={name} must have its package; it is not installed. Install it with "
                f'pip install "masac[{name}]", or change logging.loggers=[...]'
            )


def _tensorboard(config: ExperimentConfig, run_dir: Path, void_from: int | None) -> tuple[Logger, Callable[[], object]]:
    from torch.utils.tensorboard import SummaryWriter
    from torchrl.record.loggers.tensorboard import TensorboardLogger

    class ResumedTensorboardLogger(TensorboardLogger):
        def _create_experiment(self) -> SummaryWriter:
            return SummaryWriter(str(run_dir / "tensorboard"), purge_step=void_from)

    logger = ResumedTensorboardLogger(exp_name="tensorboard", log_dir=str(run_dir))
    return logger, logger.experiment.close


def _wandb(config: ExperimentConfig, run_dir: Path, void_from: int | None) -> tuple[Logger, Callable[[], object]]:
    from torchrl.record.loggers.wandb import WandbLogger

    name = f"{config.task.name}-{config.algorithm.name}-seed{config.seed}"
    logger = WandbLogger(
        exp_name=name,
        project=config.logging.project,
        save_dir=str(run_dir),
        offline=config.logging.wandb_offline,
        id=_wandb_id(run_dir),
        resume="allow",
    )
    logger.log_hparams(asdict(config))
    return logger, logger.experiment.finish


def _mlflow(config: ExperimentConfig, run_dir: Path, void_from: int | None) -> tuple[Logger, Callable[[], object]]:
    import mlflow  # pyright: ignore[reportMissingImports]  an extra
    from torchrl.record.loggers.mlflow import MLFlowLogger

    # MLflow takes no folder any more, but a database.
    uri = config.logging.mlflow_uri or f"sqlite:///{(run_dir / 'mlflow.db').resolve()}"
    return MLFlowLogger(exp_name=config.logging.project, tracking_uri=uri), mlflow.end_run


def _wandb_id(run_dir: Path) -> str:
    """The same for a run that is resumed, wherever its folder is by then."""
    file = run_dir / "wandb_id"
    if not file.is_file():
        write_atomically(file, lambda out: out.write(uuid4().hex.encode()))
    return file.read_text()
