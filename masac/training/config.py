"""The config of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, is_dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, cast, get_type_hints

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
from masac.training.policies.opponent_names import read_opponents

INIT_PARTS = ("actor", "critic", "normalizer", "optimizer", "buffer")
"""What a run may start with from another one."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Length and speed of learning. A frame is one step of one environment, by all its agents.

    Args:
        total_frames: frames to collect in all.
        steps_per_iteration: steps of every environment between two rounds of updates.
        n_step: critic targets have the rewards of this many steps before the next value, fewer where an episode ends or
            an agent of the environment ends or joins. More bring a rare reward back faster, and with it more noise and
            the bias of actions by older policies.
        updates_per_frame: updates for every frame collected after the warm-up.
        batch_size: rows (all agents of a frame) per update. With several ranks, this and other sizes are totals. With
            model.memory a row is a sequence.
        sequence_length: with model.memory, the steps of one environment in a row.
        burn_in: with model.memory, steps before those of a sequence, over which the memories run first, so that they
            are those of the newest weights. They are stored twice, and no loss sees them.
        warmup_frames: frames with random actions before the first update.
        buffer_size: frames that the replay buffer holds; a row has one, with model.memory sequence_length of them.
        priority_exponent: 0, draw rows for updates uniformly; up to 1, those with a larger error of the critics more
            often (prioritized replay): in proportion to the error to this power.
        importance_exponent: with a priority_exponent, how far the losses weigh rows down again that are drawn more
            often, 0 not at all, 1 completely; it rises linearly from this value to 1 at the end of the run.
        actor_lr: learning rate of the actor.
        critic_lr: learning rate of the critics.
        alpha_lr: learning rate of the temperature; one update changes its logarithm by at most about this much.
        lr_decay_fraction: the last part of the run, in which the learning rates fall; before it they are constant, so
            that a short run begins as a long one does.
        final_lr_factor: factor on the learning rates at the end; they fall linearly.
        max_grad_norm: clip the gradient norms of actor and critics to this value; null for no clipping.
        normalize_rewards: divide rewards inside the losses (not in reported returns) by a running standard deviation of
            discounted returns, so that their scale does not matter; values and temperatures are then in this unit.
        reward_scale: an additional factor on rewards inside the losses.
        clip_rewards: the largest size of a reward of one agent and step inside the losses (not in reported returns), in
            the unit of the environment; null for rewards as they are.
        normalize_observations: subtract a running mean and divide by a running standard deviation, both over living
            agents.
        check_observations: end the run with an error if an observation of a living agent is not finite.
        learning_groups: the groups that learn, null for all without an opponent in their place; groups that neither
            learn nor have one act uniformly at random.
        opponents: what acts for a group in its place: random, frozen:RUN_DIR or frozen:RUN_DIR@CHECKPOINT (another
            run), scripted:package.module:function, or self-play:GROUP (past snapshots of GROUP). With self-play alone a
            group learns, and past snapshots of itself act in part of its episodes.
        self_play_pool: snapshots that a group keeps for self-play, spread over the whole run.
        self_play_every: frames between two snapshots.
        self_play_newest: part of the episodes in which the newest policy acts instead of a snapshot.
        init_from: start with the policy of another run: RUN_DIR, or RUN_DIR@CHECKPOINT (best, last or a name). Its
            actors then act in the warm-up.
        init_groups: the groups that start from there, null for all that learn.
        init_parts: what of it is loaded, a list of actor, critic (with its target, temperature and reward scale),
            normalizer, optimizer and buffer; null for actor, normalizer and, where it fits, critic.
        checkpoint_every: how often to write a checkpoint, in frames (20000) or minutes (10min), null for the end only.
            The best evaluation so far also writes one.
        stop_at_return: end the run when the mean return per agent of an evaluation reaches this value; null for none.
        callbacks: your own callbacks, a list of ``package.module:Class``; each is a subclass of masac.Callback.
        on_nonfinite: an update with a loss or gradient that is not finite is never applied; stop ends the run, skip
            continues with the next update.
        nonfinite_limit: with on_nonfinite=skip, the run stops after more skipped updates than this.
        sync_check_every: with several ranks (torchrun), updates between two checks that networks, targets, temperatures
            and optimizers are the same on all ranks, bit for bit.
        device: cpu, cuda, cuda:0, ... or auto.
        threads: number of PyTorch's threads in each process, or auto: OMP_NUM_THREADS if that is set; otherwise one if
            networks and batches are too small to gain from more, and at most one per core.
        compile: true, compile the update, which takes seconds to a minute once; false, replay a trace of its tensor
            operations; auto, compile if the run takes at least 4,000 updates (times the number of learning groups).
    """

    total_frames: int = setting(100_000, low=1, unit="frames", may_change=True)
    steps_per_iteration: int = setting(4, low=1, unit="steps of every environment")
    n_step: int = setting(1, low=1, unit="steps")
    updates_per_frame: float = setting(1 / 16, low=0, unit="updates per frame")
    batch_size: int = setting(256, low=1, unit="rows")
    sequence_length: int = setting(16, low=1, unit="steps")
    burn_in: int = setting(0, low=0, unit="steps")
    warmup_frames: int = setting(2_560, low=0, unit="frames")
    buffer_size: int = setting(200_000, low=1, unit="frames")
    priority_exponent: float = setting(0.0, low=0, high=1)
    importance_exponent: float = setting(0.4, low=0, high=1)
    actor_lr: float = setting(1e-3, above=0)
    critic_lr: float = setting(1e-3, above=0)
    alpha_lr: float = setting(4e-3, above=0)
    lr_decay_fraction: float = setting(0.3, low=0, high=1, unit="part of the run")
    final_lr_factor: float = setting(0.05, low=0, high=1)
    max_grad_norm: float | None = setting(None, above=0)
    normalize_rewards: bool = True
    reward_scale: float = setting(1.0, above=0)
    clip_rewards: float | None = setting(None, above=0)
    normalize_observations: bool = False
    check_observations: bool = setting(True, may_change=True)
    learning_groups: tuple[str, ...] | None = None
    opponents: dict[str, str] = field(default_factory=dict)
    self_play_pool: int = setting(10, low=1, unit="snapshots")
    self_play_every: int = setting(10_000, low=1, unit="frames")
    self_play_newest: float = setting(0.5, low=0, high=1, unit="part of the episodes")
    init_from: str | None = None
    init_groups: tuple[str, ...] | None = None
    init_parts: tuple[str, ...] | None = None
    checkpoint_every: str | None = setting("10min", unit="frames or minutes", may_change=True)
    stop_at_return: float | None = setting(None, unit="return per agent", may_change=True)
    callbacks: tuple[str, ...] = setting((), may_change=True)
    on_nonfinite: str = setting("stop", choices=("stop", "skip"), may_change=True)
    nonfinite_limit: int = setting(100, low=0, unit="updates", may_change=True)
    sync_check_every: int = setting(1000, low=1, unit="updates", may_change=True)
    device: str = setting("auto", may_change=True)
    threads: str = setting("auto", may_change=True)
    compile: str = setting("auto", choices=("auto", "true", "false"), may_change=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compile", str(self.compile).lower())  # YAML's true comes as "True"
        for name in ("learning_groups", "init_groups", "init_parts"):
            values = getattr(self, name)
            object.__setattr__(self, name, None if values is None else tuple(values))
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        check_settings(self, "training")
        for name in ("learning_groups", "init_groups"):
            check(f"training.{name}", getattr(self, name), getattr(self, name) != (), "name a group, or be null")
        read_opponents(self.opponents)
        known = set(self.init_parts or ()) <= set(INIT_PARTS) and self.init_parts != ()
        check("training.init_parts", self.init_parts, known, f"be some of {', '.join(INIT_PARTS)}, or null")
        for name in ("init_groups", "init_parts"):
            value, holds = getattr(self, name), getattr(self, name) is None or self.init_from is not None
            check(f"training.{name}", value, holds, "be null without training.init_from")
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
        """The factor on the learning rates after the fraction ``done`` of the run, in [0, 1]."""
        if self.lr_decay_fraction == 0:
            return 1.0
        fallen = max(done - (1 - self.lr_decay_fraction), 0) / self.lr_decay_fraction
        return 1 - (1 - self.final_lr_factor) * fallen

    def loads(self, part: str) -> bool:
        """Whether ``init_from`` is set and loads a part, ``actor`` and so on."""
        return self.init_from is not None and part in (self.init_parts or ("actor", "critic", "normalizer"))

    @property
    def checkpoint_frames(self) -> float:
        """Frames between two checkpoints; infinite if ``checkpoint_every`` is not in frames."""
        every = self.checkpoint_every
        return math.inf if every is None or every.endswith("min") else float(every)

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between two checkpoints; infinite if ``checkpoint_every`` is not in minutes."""
        every = self.checkpoint_every
        return 60 * float(every.removesuffix("min")) if every is not None and every.endswith("min") else math.inf


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Contents of checkpoints, and which are kept.

    Args:
        keep: number of newest checkpoints to keep, besides the one with the best evaluation return.
        buffer: whether they hold the replay buffer. Without it a resumed run fills a new one.
        reset_environments: begin new episodes at every checkpoint, so that a resumed run is the same, bit for bit on
            the CPU, as one that was not stopped. (A resumed run begins new episodes anyway.)
    """

    keep: int = setting(2, low=1, unit="checkpoints", may_change=True)
    buffer: bool = True
    reset_environments: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "checkpoint")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluations, in separate environments and always on the same episodes.

    Args:
        every_frames: frames between evaluations, 0 for one at the end only.
        episodes: episodes per evaluation, run in parallel.
        video_every: frames between two videos of an episode, which go into the folder videos of the run and to the
            loggers, 0 for none. The last frame has one, too.
        others: other tasks in which the policy is evaluated, too, at the same frames: by a name, the keys that differ,
            such as task.kwargs.n_agents=5, with spaces between several. Their numbers are eval/NAME/...; best
            checkpoint and training.stop_at_return follow the task of the run.
        seed: of the evaluation environments.
        stochastic: draw actions from the policy as in training, for tasks in which actions without noise get stuck.
        solved_at: with task.success, the success rate at which a run counts as solved.
    """

    every_frames: int = setting(10_000, low=0, unit="frames", may_change=True)
    episodes: int = setting(100, low=1, unit="episodes")
    video_every: int = setting(0, low=0, unit="frames", may_change=True)
    seed: int = 1_000_000
    others: dict[str, str] = field(default_factory=dict, metadata=MAY_CHANGE)
    stochastic: bool = False
    solved_at: float = setting(0.97, above=0, high=1, unit="part of the episodes", may_change=True)

    def __post_init__(self) -> None:
        check_settings(self, "evaluation")
        for name in self.others:
            check("evaluation.others", name, name.isidentifier(), "have names of letters, digits and _")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """The progress display, and loggers besides metrics.csv.

    Args:
        loggers: any of tensorboard (in the run's folder), wandb and mlflow (pip install "masac[wandb]",
            "masac[mlflow]").
        project: the project of wandb and the experiment of mlflow.
        wandb_offline: write wandb's files into the run's folder and send nothing.
        mlflow_uri: tracking URI of mlflow; null for a database in the run's folder.
        logger_every_s: seconds between two rows that go to the loggers; evaluations are always logged.
        progress: live (one line that is updated), plain (a line every few seconds), off, or auto (live in a terminal,
            plain elsewhere).
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


def _of_default_run(section: str) -> Any:
    """A section of the config of the default run."""
    return deepcopy(getattr(_default_run(), section))


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A run. Sections that are not given are those of the run that ``masac train`` starts.

    Args:
        task: the environment.
        algorithm: the variant of Soft Actor-Critic.
        model: the networks.
        training: length and speed of learning.
        collector: where the training environments are stepped.
        evaluation: when and on which episodes the policy is evaluated.
        checkpoint: contents of checkpoints.
        logging: the progress display and loggers.
        seed: of all random numbers.
        run_dir: the folder of the run's files; null for a new one under runs/.
    """

    task: TaskConfig = field(default_factory=partial(_of_default_run, "task"))
    algorithm: AlgorithmConfig = field(default_factory=partial(_of_default_run, "algorithm"))
    model: ModelConfig = field(default_factory=partial(_of_default_run, "model"))
    training: TrainingConfig = field(default_factory=partial(_of_default_run, "training"))
    collector: CollectorConfig = field(default_factory=partial(_of_default_run, "collector"), metadata=MAY_CHANGE)
    evaluation: EvaluationConfig = field(default_factory=partial(_of_default_run, "evaluation"))
    checkpoint: CheckpointConfig = field(default_factory=partial(_of_default_run, "checkpoint"))
    logging: LoggingConfig = field(default_factory=partial(_of_default_run, "logging"), metadata=MAY_CHANGE)
    seed: int = 0
    run_dir: str | None = setting(None, may_change=True)

    def __post_init__(self) -> None:
        check("seed", self.seed, 0 <= self.seed < 2**31, "be at least 0 and below 2**31")
        workers, num_envs = self.collector.num_workers, self.task.num_envs
        check("collector.num_workers", workers, num_envs % workers == 0, f"divide task.num_envs={num_envs}")
        kinds = [one.kind for one in read_opponents(self.training.opponents).values()]
        local, rule = self.collector.kind == "local", "be local with self-play, whose snapshots stay in this process"
        check("collector.kind", self.collector.kind, local or "self-play" not in kinds, rule)
        self._check_memory()

    def _check_memory(self) -> None:
        """Raise ConfigError for what cannot be combined with a memory, or has no meaning without one."""
        training, memory = self.training, self.model.memory
        if memory == "none":
            check("training.burn_in", training.burn_in, training.burn_in == 0, "be 0 without model.memory")
            return
        rule = f"be 1 with model.memory={memory}"
        check("training.n_step", training.n_step, training.n_step == 1, rule)
        rule = f"be at least training.batch_size={training.batch_size} sequences of {training.sequence_length} frames"
        check("training.buffer_size", training.buffer_size, self.buffer_rows >= training.batch_size, rule)

    @property
    def frames_per_row(self) -> int:
        """Frames to train on in a row of the replay buffer."""
        return 1 if self.model.memory == "none" else self.training.sequence_length

    @property
    def buffer_rows(self) -> int:
        """Rows that the replay buffer holds."""
        return self.training.buffer_size // self.frames_per_row

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The batch size of a row of the replay buffer: none, or the steps of a sequence with those before it."""
        return () if self.model.memory == "none" else (self.training.burn_in + self.training.sequence_length,)

    def new_run_dir(self) -> str:
        """A folder as ``masac train`` names it: by task, algorithm, seed and time."""
        name = f"{self.algorithm.name}-seed{self.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        return f"runs/{self.task.name}/{name}"


def config_without_presets() -> ExperimentConfig:
    """The default of every key of every section, to which presets are applied."""
    kinds = get_type_hints(ExperimentConfig)
    sections: dict[str, Any] = {name: cast(Any, kind)() for name, kind in kinds.items() if is_dataclass(kind)}
    return ExperimentConfig(**sections)


@cache
def _default_run() -> ExperimentConfig:
    """What ``masac train`` runs: the presets that ``defaults`` in ``conf/config.yaml`` names, in their order."""

    def preset(name: str) -> DictConfig:
        return cast(DictConfig, OmegaConf.create((files("masac.conf") / f"{name}.yaml").read_text()))

    named = [one for one in preset("config")["defaults"] if isinstance(one, DictConfig)]
    chosen = {str(group): name for one in named for group, name in one.items() if not str(group).startswith("override")}
    parts = [
        preset(f"{group}/{name}") if group == "task" else {group: preset(f"{group}/{name}")}
        for group, name in chosen.items()
    ]
    return read_config(cast(DictConfig, OmegaConf.merge(*parts)))


def read_config(composed: DictConfig | Mapping[str, Any]) -> ExperimentConfig:
    """A config, from Hydra or from a file, as checked dataclasses.

    Raises:
        ConfigError: for a value of the wrong type or out of its range.
    """
    config = OmegaConf.to_object(typed(composed))
    assert isinstance(config, ExperimentConfig)
    return config


def typed(composed: DictConfig | Mapping[str, Any]) -> DictConfig:
    """A config with all keys of :class:`ExperimentConfig`, with types checked but not bounds.

    Raises:
        ConfigError: for a value of the wrong type.
    """
    schema = OmegaConf.structured(config_without_presets())
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
            "or use the version that wrote the config"
        ) from None
    assert isinstance(merged, DictConfig)
    return merged


def resolve_device(device: str) -> str:
    """The device to use; ``auto`` is CUDA if there is a GPU.

    Raises:
        ConfigError: for a device that this machine does not have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"training.device must be auto or an available device of PyTorch; got {device!r}. Change it with "
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
    """Make a config writable: frozen dataclasses become read-only configs, but values are merged into them."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        if isinstance(child := node[key], DictConfig):
            _unfreeze(child)
