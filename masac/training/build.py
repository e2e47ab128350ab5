"""Builds all parts of a run from its config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from rich.console import Console
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from masac.algorithm import make_loss
from masac.groups import GroupSpec, read_groups
from masac.losses.base import GroupLoss
from masac.process.memory import check_buffer_fits
from masac.process.threads import choose_threads, set_threads, threads_there
from masac.training.checkpointing.checkpointer import Checkpointer
from masac.training.checkpointing.checkpoints import Checkpoints
from masac.training.checkpointing.random_state import seed_everything
from masac.training.checkpointing.run_files import RunFiles
from masac.training.checkpointing.run_state import RunState
from masac.training.collectors.base import Collector
from masac.training.collectors.make import make_collector, make_environments
from masac.training.config import ExperimentConfig, resolve_device
from masac.training.distributed.rank_config import rank_config
from masac.training.distributed.ranks import Rank
from masac.training.episodes import EpisodeTracker
from masac.training.evaluator import Evaluator
from masac.training.learner import Learner
from masac.training.logging.loggers import check_loggers
from masac.training.logging.run_log import RunLog
from masac.training.other_tasks import OtherTasks
from masac.training.policies.policy import Policy, learning_groups
from masac.training.policies.saved_policy import frozen_policies, make_policy
from masac.training.replay.batches import Batches
from masac.training.replay.buffer import Replay
from masac.training.replay.n_step import NStepReturns
from masac.training.replay.priorities import Priorities
from masac.training.replay.sequences import RowMaker, Sequences
from masac.training.reward_scaling import RewardScaling
from masac.training.schedule import Schedule
from masac.training.update_mode import choose_mode
from masac.training.update_round import UpdateRound
from masac.training.videos import VideoRecorder


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a run, on this rank.

    Args:
        files: ``config.yaml``, ``metrics.csv``, ``summary.json`` and so on.
        env: the training environments, or one of them if other processes step them.
        groups: all groups of agents.
        learning: the groups that learn.
        policy: acts.
        schedule: when it acts at random, learns, evaluates and ends.
        threads: that PyTorch computes with.
        learner: losses, optimizer, updates.
        compile_message: a line about compiling for the user; None for none.
        row_maker: makes the rows of the replay buffer.
        example: rows as it makes them, of any values.
        replay: the replay buffer.
        bytes_per_row: size of a row in the buffer.
        episodes: returns of the collected episodes.
        rewards: the factors on rewards.
        evaluator: runs evaluation episodes; None on ranks other than 0.
        others: evaluates in other tasks; None on ranks other than 0, and without such tasks.
        videos: records them; None on ranks other than 0, and without videos.
        collector: steps the environments.
        batches: sampled from the replay buffer, ready for an update.
        update_round: takes the updates that are due.
        checkpoints: the files of the checkpoints.
        state: the state that they hold.
        checkpointer: writes them and resumes from them.
        log: ``metrics.csv``, loggers, display.
    """

    files: RunFiles
    env: EnvBase
    groups: Sequence[GroupSpec]
    learning: Sequence[GroupSpec]
    policy: Policy
    schedule: Schedule
    threads: int
    learner: Learner
    compile_message: str | None
    row_maker: RowMaker
    example: TensorDictBase
    replay: Replay
    bytes_per_row: int
    episodes: EpisodeTracker
    rewards: RewardScaling
    evaluator: Evaluator | None
    others: OtherTasks | None
    videos: VideoRecorder | None
    collector: Collector
    batches: Batches
    update_round: UpdateRound
    checkpoints: Checkpoints
    state: RunState
    checkpointer: Checkpointer
    log: RunLog

    def close(self) -> None:
        """Close the environments and their processes, and release the folder of the run."""
        self.collector.close()
        if self.evaluator is not None:
            self.evaluator.close()
        for extra in (self.others, self.videos):
            if extra is not None:
                extra.close()
        self.files.close()
        set_threads(threads_there())


def build(
    config: ExperimentConfig,
    run_dir: Path,
    rank: Rank,
    *,
    resumes: bool,
    console: Console,
    tell: Callable[[str], None],
    warn: Callable[[str], None],
) -> Parts:
    """Build a run, with new networks and an empty replay buffer.

    Args:
        config: of the run, all ranks together.
        run_dir: the folder of its files.
        rank: of this process.
        resumes: whether the folder may hold the run already.
        console: where progress is shown.
        tell: prints a line.
        warn: prints a warning.

    Raises:
        ConfigError: for a config that cannot be run here.
    """
    check_loggers(config.logging.loggers)
    own = rank_config(config, rank)
    training, num_envs, device = own.training, own.task.num_envs, rank.device(resolve_device(config.training.device))
    files = RunFiles(run_dir, writes=rank.is_main, resumes=resumes)
    seed = rank.seed(config.seed)
    seed_everything(seed)

    env = make_environments(own, seed=seed, device=device)
    groups = read_groups(env)
    learning = learning_groups(groups, training.learning_groups, training.opponents)
    config.model.check_groups([group.name for group in learning])
    frozen = rank.broadcast(frozen_policies(config, run_dir if resumes else None) if rank.is_main else {})
    policy = make_policy(groups, learning, config, frozen=frozen)
    loss = make_loss(
        dict(policy.actors),  # pyright: ignore[reportArgumentType]
        learning,
        config.algorithm,
        config.model,
        memories=dict(policy.memories),  # pyright: ignore[reportArgumentType]
        burn_in=training.burn_in,
    )
    loss.to(device)  # the actors' parameters are the loss's
    policy.to(device)
    for opponent in policy.opponents.values():
        opponent.to(device)

    schedule = Schedule(config)
    steps = training.batch_size * prod(own.row_shape)
    operations = update_operations(loss.group_losses, steps) if device == "cpu" else 0
    threads = choose_threads(training.threads, operations, sharing=rank.local_world_size)
    set_threads(threads)
    updates = schedule.updates_by(schedule.total_frames)
    mode, compile_message = choose_mode(training, loss.group_losses, updates=updates, device=device)
    learner = Learner(loss, training, tau=config.algorithm.tau, mode=mode, rank=rank, warn=warn, tell=tell)

    row_maker: RowMaker = NStepReturns(learning, n=training.n_step, gamma=config.algorithm.gamma)
    if own.row_shape:
        row_maker = Sequences(length=training.sequence_length, burn_in=training.burn_in)
    priorities = None
    if training.priority_exponent:
        priorities = Priorities(
            own.buffer_rows,
            exponent=training.priority_exponent,
            importance_exponent=training.importance_exponent,
            device=device,
        )
    replay = Replay(
        learning,
        size=own.buffer_rows,
        batch_size=training.batch_size,
        device=device,
        row_shape=own.row_shape,
        priorities=priorities,
    )
    example = row_maker.example(policy.begin(env.fake_tensordict()))
    bytes_per_row = replay.bytes_per_row(example)
    sharing = rank.local_world_size if device == "cpu" else 1
    check_buffer_fits(own.buffer_rows * sharing, bytes_per_row, device, frames_per_row=own.frames_per_row)
    episodes = EpisodeTracker(num_envs, groups)
    rewards = RewardScaling(
        learning,
        num_envs=num_envs,
        gamma=config.algorithm.gamma,
        scale=training.reward_scale,
        normalize=training.normalize_rewards,
        clip=training.clip_rewards,
        reduction=config.algorithm.reward_reduction,  # pyright: ignore[reportArgumentType]
    )
    evaluator = Evaluator(config, device=device, say=tell) if rank.is_main else None
    others = None
    if rank.is_main and config.evaluation.others:
        others = OtherTasks(config, policy, learning, frozen=frozen, device=device, say=tell)
    records = rank.is_main and config.evaluation.video_every > 0
    videos = VideoRecorder(config, files, device=device, warn=warn) if records else None
    collector = make_collector(own, env, policy, frozen=frozen, seed=seed, device=device, warn=warn)

    checkpoints = Checkpoints(run_dir, keep=config.checkpoint.keep, with_buffer=config.checkpoint.buffer)
    state = RunState(
        config,
        rank,
        learner=learner,
        policy=policy,
        rewards=rewards,
        episodes=episodes,
        row_maker=row_maker,
        replay=replay,
        collector=collector,
        checkpoints=checkpoints,
    )
    return Parts(
        files=files,
        env=env,
        groups=groups,
        learning=learning,
        policy=policy,
        schedule=schedule,
        threads=threads,
        learner=learner,
        compile_message=compile_message,
        row_maker=row_maker,
        example=example,
        replay=replay,
        bytes_per_row=bytes_per_row,
        episodes=episodes,
        rewards=rewards,
        evaluator=evaluator,
        others=others,
        videos=videos,
        collector=collector,
        batches=Batches(replay, policy, rewards),
        update_round=UpdateRound(
            training,
            rank,
            schedule=schedule,
            state=state,
            learner=learner,
            files=files,
        ),
        checkpoints=checkpoints,
        state=state,
        checkpointer=Checkpointer(config, state, schedule, files, warn=warn),
        log=RunLog(
            config,
            groups=groups,
            learning=[group.name for group in learning],
            others=() if others is None else others.columns,
            schedule=schedule,
            collector=collector,
            episodes=episodes,
            rewards=rewards,
            files=files,
            console=console,
        ),
    )


def update_operations(losses: list[GroupLoss], batch_size: int) -> int:
    """Multiplications and additions of an update, counted as if all agents shared every weight.

    Args:
        losses: of all groups that learn.
        batch_size: steps per update.
    """
    operations = 0
    for loss in losses:
        # A backward pass is twice a forward pass. The actor acts in two states and is trained in one: 4 passes. The
        # critics evaluate three actions, are trained on one, and gradients pass through them for another: 6 passes.
        for parameters, passes in ((loss.actor_parameters, 4), (loss.critic_parameters, 6)):
            weights = sum(parameter.numel() for parameter in parameters)
            operations += 2 * passes * weights * batch_size * (loss.n_agents or 1)
    return operations
