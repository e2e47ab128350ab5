"""The state of a run, in memory and in checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Protocol

from torch import Tensor

from masac.files.integrity import DamagedError
from masac.training.checkpointing.checkpoints import Checkpoint, Checkpoints
from masac.training.checkpointing.random_state import random_state, seed_everything, set_random_state
from masac.training.checkpointing.resume import load_newest
from masac.training.checkpointing.run_files import installed_versions
from masac.training.collectors.base import Collector
from masac.training.config import ExperimentConfig
from masac.training.counters import Counters
from masac.training.distributed.ranks import Rank
from masac.training.episodes import EpisodeTracker
from masac.training.learner import Learner
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import save_policy
from masac.training.policies.self_play import set_state_of_pools, state_of_pools
from masac.training.replay.buffer import Replay
from masac.training.replay.sequences import RowMaker
from masac.training.replay.sharded import all_replays
from masac.training.reward_scaling import RewardScaling


class StatefulCallbacks(Protocol):
    """The callbacks of a run, as checkpoints see them."""

    def state(self) -> dict[str, Tensor]:
        """Their states by name."""
        ...

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state`, among other entries."""


class RunState:
    """Counters, networks, optimizers, statistics, replay buffers and random states, of all ranks.

    Args:
        config: of the run.
        rank: of this process.
        learner: networks, targets, temperatures, optimizers.
        policy: its normalizers.
        rewards: their scale.
        episodes: the last episodes.
        row_maker: the steps of which no row was made yet, which are not in checkpoints.
        replay: this rank's buffer.
        collector: of this rank; its running episodes are not in checkpoints.
        checkpoints: reads and writes them.

    Attributes:
        frames: collected so far, by all ranks.
        skipped_updates: not applied so far.
        dropped_updates: never to be taken, see :meth:`~masac.training.schedule.Schedule.fill_buffer_first`.
        learns_from: frames from which on updates are due after that, 0 otherwise.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        rank: Rank,
        *,
        learner: Learner,
        policy: Policy,
        rewards: RewardScaling,
        episodes: EpisodeTracker,
        row_maker: RowMaker,
        replay: Replay,
        collector: Collector,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.rank = config, rank
        self.learner, self.policy, self.rewards = learner, policy, rewards
        self.episodes, self.row_maker = episodes, row_maker
        self.replay, self.collector = replay, collector
        self.checkpoints = checkpoints
        self.frames = self.skipped_updates = self.dropped_updates = self.learns_from = 0
        self._seconds_before = 0.0
        self.callbacks: StatefulCallbacks | None = None  # the trainer's, which knows this state
        self.start_clock()

    def start_clock(self) -> None:
        """Count the seconds of the run from now on."""
        self._started = time.perf_counter()

    @property
    def counters(self) -> Counters:
        """The progress of the run."""
        return Counters(
            frames=self.frames,
            updates=self.learner.updates,
            skipped=self.skipped_updates,
            wall_time_s=self._seconds_before + time.perf_counter() - self._started,
        )

    @property
    def updates_taken(self) -> int:
        """Updates that were applied or skipped."""
        return self.learner.updates + self.skipped_updates

    def save(self, *, eval_return: float | None) -> dict[str, Tensor]:
        """Write a checkpoint; returns its state.

        Args:
            eval_return: see :class:`Checkpoint`.
        """
        state = state_of(self.learner, self.policy, self.rewards, self.episodes)
        others = {**random_states(self.rank), **self._priorities()}
        with all_replays(self.replay, self.rank) as replays:
            if self.rank.is_main:
                self.checkpoints.save(
                    {**state, **others, **(self.callbacks.state() if self.callbacks is not None else {})},
                    lambda path: save_policy(path, self.policy, self.config, frames=self.frames),
                    replays,
                    about={
                        **asdict(self.counters),
                        "dropped": self.dropped_updates,
                        "learns_from": self.learns_from,
                        "eval_return": eval_return,
                        "config": asdict(self.config),
                        "versions": installed_versions(),
                    },
                )
        return state

    def load(self, warn: Callable[[str], None]) -> tuple[Checkpoint, dict[str, Tensor]] | None:
        """Load the newest complete checkpoint; returns it and its state, for :meth:`begin_episodes`, or None.

        Args:
            warn: prints a warning about a checkpoint that cannot be used.
        """
        found: tuple[Checkpoint, dict[str, Tensor]] | None = None
        with all_replays(self.replay, self.rank) as replays:

            def load(checkpoint: Checkpoint) -> None:
                nonlocal found
                state = checkpoint.tensors()
                set_state(state, self.learner, self.policy, self.rewards, self.episodes)
                self.checkpoints.load_buffers(checkpoint, replays)
                found = checkpoint, state

            if self.rank.is_main:
                load_newest(self.checkpoints, self.config, load, warn=warn)
        found = self.rank.broadcast(found)
        if found is not None:
            checkpoint, state = found
            if self.callbacks is not None:
                self.callbacks.set_state(state)
            self.frames, self.learner.updates = checkpoint.frames, checkpoint.updates
            self.skipped_updates, self._seconds_before = checkpoint.skipped, checkpoint.wall_time_s
            if self.replay.priorities is not None and checkpoint.has_buffers_of(self.rank.world_size):
                self.replay.priorities.set_state(state[f"priorities/{self.rank.index}"], len(self.replay))
        return found

    def _priorities(self) -> dict[str, Tensor]:
        """The priorities of the rows of all ranks, by name, for checkpoints that hold these rows."""
        if self.replay.priorities is None or not self.config.checkpoint.buffer:
            return {}
        states = self.rank.all_gather(self.replay.priorities.state(len(self.replay)))
        return {f"priorities/{index}": value for index, value in enumerate(states)}

    def begin_episodes(self, state: Mapping[str, Tensor]) -> None:
        """Begin new episodes, which depend only on the seed and the frames so far, and restore the random state.

        Args:
            state: of a checkpoint; a rank without a random state in it is seeded.
        """
        seed = self.rank.seed(self.config.seed, self.frames)
        self.collector.reset(seed)
        for follower in (self.episodes, self.rewards, self.row_maker):
            follower.restart()
        if not set_random_state_from(state, self.rank):
            seed_everything(seed)

    def broadcast_initial_state(self) -> None:
        """Copy networks, targets, temperatures and statistics from rank 0 to all ranks."""
        if self.rank.world_size > 1:
            state = {
                name: value.cpu()
                for name, value in state_of(self.learner, self.policy, self.rewards, self.episodes).items()
            }
            set_state(self.rank.broadcast(state), self.learner, self.policy, self.rewards, self.episodes)


def state_of(learner: Learner, policy: Policy, rewards: RewardScaling, episodes: EpisodeTracker) -> dict[str, Tensor]:
    """The state that learning depends on besides the replay buffer, as tensors by name."""
    parts = {
        "learner": learner.state(),
        "normalizers": dict(policy.normalizers.state_dict()),
        "self_play": state_of_pools(policy),
        "rewards": rewards.state(),
        "episodes": episodes.state(),
        _random_of(learner.rank.index): random_state(),
    }
    return {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def set_state(
    state: Mapping[str, Tensor], learner: Learner, policy: Policy, rewards: RewardScaling, episodes: EpisodeTracker
) -> None:
    """Restore :func:`state_of`, except for the random state, which :func:`set_random_state_from` restores last.

    Raises:
        DamagedError: if the state is that of other networks.
    """
    try:
        learner.set_state(_part(state, "learner"))
        policy.normalizers.load_state_dict(_part(state, "normalizers"))
        set_state_of_pools(policy, _part(state, "self_play"))
        rewards.set_state(_part(state, "rewards"))
        episodes.set_state(_part(state, "episodes"))
    except (RuntimeError, KeyError, ValueError) as error:
        raise DamagedError(f"its state does not fit this run ({str(error).splitlines()[-1].strip()})") from None


def random_states(rank: Rank) -> dict[str, Tensor]:
    """The random states of all other ranks, as tensors by name, for the checkpoint that rank 0 writes."""
    states = rank.all_gather(random_state())
    return {
        f"{_random_of(index)}/{name}": value
        for index, state in enumerate(states)
        if index != rank.index
        for name, value in state.items()
    }


def set_random_state_from(state: Mapping[str, Tensor], rank: Rank) -> bool:
    """Restore the random state of a rank; returns whether the checkpoint has one."""
    mine = _part(state, _random_of(rank.index))
    if mine:
        set_random_state(mine)
    return bool(mine)


def _random_of(index: int) -> str:
    return f"random{index}" if index else "random"


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in state.items() if name.startswith(f"{part}/")}
