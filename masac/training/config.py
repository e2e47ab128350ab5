"""What a user can set about a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from masac.algorithm import AlgorithmConfig
from masac.envs.config import TaskConfig
from masac.errors import ConfigError, check
from masac.networks.config import ModelConfig
from masac.settings import MAY_CHANGE, check_settings, setting
from masac.training.collectors.config import CollectorConfig
from masac.training.logging.loggers import LOGGERS


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, how much and how fast to learn. A frame is one step of one environment, by all its agents.

    Args:
        total_frames: frames to collect in all.
        steps_per_iteration: steps of every environment between two rounds of updates.
        updates_per_frame: updates for every frame collected after the warm-up.
        batch_size: rows (all agents of a frame) an update. With several ranks, here and elsewhere: of all together.
        warmup_frames: frames with random actions before the first update.
        buffer_size: rows the replay buffer holds.
        actor_lr: learning rate of the actor.
        critic_lr: learning rate of the critics.
        alpha_lr: learning rate of the temperature, whose logarithm moves by about as much an update at most.
        lr_decay_fraction: the last part of the run, in which the learning rates fall; before it they stay as they are,
            so that a short run begins as a long one does.
        final_lr_factor: what is left of the learning rates at the end; they fall linearly.
        max_grad_norm: clip the gradient norm of actor and of critics to this, null for no clipping.
        normalize_rewards: divide rewards inside the losses (not in reported returns) by a running standard deviation of
            discounted returns, so that their scale does not matter; values and temperatures are then in this unit.
        reward_scale: factor on rewards inside the losses, on top of that.
        normalize_observations: subtract a running mean and divide by a running standard deviation of living agents.
        check_observations: end the run with an error where an observation of a living agent is not finite.
        learning_groups: the groups that learn, null for all; the others act uniformly at random.
        checkpoint_every: how often to write a checkpoint: frames (20000) or minutes (10min), null for the end only. One
            is also written where an evaluation is the best so far.
        on_nonfinite: what to do about a loss or gradient that is not finite, whose update is never applied: stop the
            run, or skip the update.
        nonfinite_limit: with on_nonfinite=skip: stop at more skipped updates than this.
        sync_check_every: with several ranks (torchrun): updates between two checks that networks, targets, temperatures
            and optimizers are the same, to the bit, in all of them.
        device: cpu, cuda, cuda:0, ... or auto.
        threads: threads that PyTorch computes with, in every process, a number or auto: OMP_NUM_THREADS where that is
            set, else one where networks and batches are so small that more would not be faster, else up to one a core.
        compile: true, compile the update, which takes seconds to a minute once; false, replay a trace of its tensor
            operations; auto, compile if the run takes at least 4,000 updates (times the number of learning groups).
    """

    total_frames: int = setting(100_000, low=1, unit="frames", may_change=True)
    steps_per_iteration: int = setting(4, low=1, unit="steps of every environment")
    updates_per_frame: float = setting(1 / 16, low=0, unit="updates per frame")
    batch_size: int = setting(256, low=1, unit="rows")
    warmup_frames: int = setting(2_560, low=0, unit="frames")
    buffer_size: int = setting(200_000, low=1, unit="rows")
    actor_lr: float = setting(1e-3, above=0)
    critic_lr: float = setting(1e-3, above=0)
    alpha_lr: float = setting(4e-3, above=0)
    lr_decay_fraction: float = setting(0.3, low=0, high=1, unit="part of the run")
    final_lr_factor: float = setting(0.05, low=0, high=1)
    max_grad_norm: float | None = setting(None, above=0)
    normalize_rewards: bool = True
    reward_scale: float = setting(1.0, above=0)
    normalize_observations: bool = False
    check_observations: bool = setting(True, may_change=True)
    learning_groups: tuple[str, ...] | None = None
    checkpoint_every: str | None = setting("10min", unit="frames or minutes", may_change=True)
    on_nonfinite: str = setting("stop", choices=("stop", "skip"), may_change=True)
    nonfinite_limit: int = setting(100, low=0, unit="updates", may_change=True)
    sync_check_every: int = setting(1000, low=1, unit="updates", may_change=True)
    device: str = setting("auto", may_change=True)
    threads: str = setting("auto", may_change=True)
    compile: str = setting("auto", choices=("auto", "true", "false"), may_change=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compile", self.compile.lower())  # YAML's true comes as "True"
        groups = self.learning_groups if self.learning_groups is None else tuple(self.learning_groups)
        object.__setattr__(self, "learning_groups", groups)
        check_settings(self, "training")
        check("training.learning_groups", groups, groups != (), "name a group, or be null")
        holds_batch = self.buffer_size >= self.batch_size
        rule = f"be at least training.batch_size={self.batch_size}"
        check("training.buffer_size", self.buffer_size, holds_batch, rule)
        every = self.checkpoint_every
        rule = "be a number of frames (20000) or of minutes (10min) above 0, or null"
        check("training.checkpoint_every", every, every is None or _is_interval(every), rule)
        rule = "be auto or a number of threads of at least 1"
        check("training.threads", self.threads, self.threads == "auto" or _is_count(self.threads), rule)
        check("training.device", self.device, _is_device(self.device), "be auto or the name of a device")

    def lr_factor(self, done: float) -> float:
        """What is left of the learning rates when the part ``done`` of the run, in [0, 1], is over."""
        if self.lr_decay_fraction == 0:
            return 1.0
        fallen = max(done - (1 - self.lr_decay_fraction), 0) / self.lr_decay_fraction
        return 1 - (1 - self.final_lr_factor) * fallen

    @property
    def checkpoint_frames(self) -> float:
        """Frames between two checkpoints; infinite where that is not what is counted."""
        every = self.checkpoint_every
        return math.inf if every is None or every.endswith("min") else float(every)

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between two checkpoints; infinite where that is not what is counted."""
        every = self.checkpoint_every
        return 60 * float(every.removesuffix("min")) if every is not None and every.endswith("min") else math.inf


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What checkpoints hold, and which are kept.

    Args:
        keep: how many of the newest; the one with the best evaluation return is kept besides.
        buffer: whether they hold the replay buffer. Without it a resumed run fills a new one.
        reset_environments: begin new episodes at every checkpoint, so that a run that was resumed is the same, to the
            bit on the CPU, as one that was not stopped. (A resumed run begins new episodes anyway.)
    """

    keep: int = setting(2, low=1, unit="checkpoints", may_change=True)
    buffer: bool = True
    reset_environments: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "checkpoint")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluation: the policy on environments of its own, always the same episodes.

    Args:
        every_frames: frames between evaluations, 0 for one at the end only.
        episodes: episodes an evaluation, run side by side.
        seed: of the evaluation environments.
        stochastic: draw actions from the policy as in training, where the best action alone gets stuck; else no noise.
        solved_at: success rate from which a run that has task.success says that it solved its task.
    """

    every_frames: int = setting(10_000, low=0, unit="frames", may_change=True)
    episodes: int = setting(100, low=1, unit="episodes")
    seed: int = 1_000_000
    stochastic: bool = False
    solved_at: float = setting(0.97, above=0, high=1, unit="part of the episodes", may_change=True)

    def __post_init__(self) -> None:
        check_settings(self, "evaluation")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What a run prints, and where it logs besides metrics.csv.

    Args:
        loggers: some of tensorboard (below the run's folder), wandb and mlflow (pip install "masac[wandb]",
            "masac[mlflow]").
        project: of wandb; the experiment of mlflow.
        wandb_offline: write wandb's files below the run's folder and send nothing.
        mlflow_uri: where mlflow tracks; a database in the run's folder if null.
        logger_every_s: seconds between the rows that go to the loggers; evaluations always do.
        progress: live (a display that redraws itself), plain (a line now and then), off, or auto: live in a terminal.
        line_every_s: seconds between plain lines.
    """

    loggers: tuple[str, ...] = ("tensorboard",)
    project: str = "masac"
    wandb_offline: bool = False
    mlflow_uri: str | None = None
    logger_every_s: float = setting(1.0, unit="seconds")
    progress: str = setting("auto", choices=("auto", "live", "plain", "off"))
    line_every_s: float = setting(5.0, unit="seconds")

    def __post_init__(self) -> None:
        object.__setattr__(self, "loggers", tuple(self.loggers))
        check("logging.loggers", self.loggers, set(self.loggers) <= set(LOGGERS), f"be some of {', '.join(LOGGERS)}")
        check_settings(self, "logging")


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A whole run.

    Args:
        task: the environment.
        algorithm: which Soft Actor-Critic.
        model: the networks.
        training: how long and how fast.
        collector: who steps the environments.
        evaluation: how often and on what.
        checkpoint: what checkpoints hold.
        logging: what to print and where to log.
        seed: of everything random.
        run_dir: the folder for what the run writes; a new one under runs/ if null.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    collector: CollectorConfig = field(default_factory=CollectorConfig, metadata=MAY_CHANGE)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig, metadata=MAY_CHANGE)
    seed: int = 0
    run_dir: str | None = setting(None, may_change=True)

    def __post_init__(self) -> None:
        check("seed", self.seed, 0 <= self.seed < 2**31, "be at least 0 and below 2**31")
        workers, num_envs = self.collector.num_workers, self.task.num_envs
        check("collector.num_workers", workers, num_envs % workers == 0, f"divide task.num_envs={num_envs}")


def read_config(composed: DictConfig | Mapping[str, Any]) -> ExperimentConfig:
    """A config (Hydra's, or one read from a file) as dataclasses, checked.

    Raises:
        ConfigError: for a value of the wrong type or out of its range.
    """
    config = OmegaConf.to_object(typed(composed))
    assert isinstance(config, ExperimentConfig)
    return config


def typed(composed: DictConfig | Mapping[str, Any]) -> DictConfig:
    """A config with every key of :class:`ExperimentConfig`, values of their types but in any range.

    Raises:
        ConfigError: for a value of the wrong type.
    """
    schema = OmegaConf.structured(ExperimentConfig)
    _unfreeze(schema)
    try:
        merged = OmegaConf.merge(schema, composed)
        OmegaConf.to_container(merged, resolve=True)  # reads every value
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{error.full_key} must be of its type: {reason}. Change it with {error.full_key}=..."
        ) from None
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"a config must have the keys of this version of masac; got {str(error).splitlines()[0]}. Remove the key, "
            "or use the version it was written with"
        ) from None
    assert isinstance(merged, DictConfig)
    return merged


def resolve_device(device: str) -> str:
    """The device to use: for ``auto`` CUDA where there is one.

    Raises:
        ConfigError: for a device that is not here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"training.device must be auto or a device that PyTorch has here; got {device!r}. Change it with "
            "training.device=..."
        ) from None
    return device


def _is_interval(every: str) -> bool:
    try:
        return 0 < float(every.removesuffix("min")) < math.inf
    except ValueError:
        return False


def _is_count(number: str) -> bool:
    return number.isdecimal() and int(number) >= 1


def _is_device(name: str) -> bool:
    if name == "auto":
        return True
    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def _unfreeze(node: DictConfig) -> None:
    """Frozen dataclasses become read-only configs; the values of the run must get in first."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        if isinstance(child := node[key], DictConfig):
            _unfreeze(child)
