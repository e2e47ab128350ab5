"""All that a run goes on from, in memory and in checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from masac.training.checkpointing.checkpoints import Checkpoint, Checkpoints
from masac.training.checkpointing.resume import load_newest, random_states, set_state, state_of
from masac.training.checkpointing.run_files import installed_versions
from masac.training.config import ExperimentConfig
from masac.training.distributed.ranks import Rank
from masac.training.episodes import EpisodeTracker
from masac.training.learner import Learner
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import save_policy
from masac.training.replay.buffer import Replay
from masac.training.replay.sharded import all_replays
from masac.training.reward_scaling import RewardScaling


class RunState:
    """What of a run is in its checkpoints, of all ranks.

    Args:
        config: of the run.
        rank: of this process.
        learner: networks, targets, temperatures, optimizers.
        policy: its normalizers.
        rewards: their scale.
        episodes: the last episodes.
        replay: this rank's buffer.
        checkpoints: where to.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        rank: Rank,
        learner: Learner,
        policy: Policy,
        rewards: RewardScaling,
        episodes: EpisodeTracker,
        replay: Replay,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.rank = config, rank
        self.learner, self.policy, self.rewards = learner, policy, rewards
        self.episodes, self.replay = episodes, replay
        self.checkpoints = checkpoints

    def save(self, about: Mapping[str, Any]) -> dict[str, Tensor]:
        """Write a checkpoint; returns the state in it.

        Args:
            about: the counters of a :class:`Checkpoint`.
        """
        state = state_of(self.learner, self.policy, self.rewards, self.episodes)
        others = random_states(self.rank)
        with all_replays(self.replay, self.rank) as replays:
            if self.rank.is_main:
                self.checkpoints.save(
                    {**state, **others},
                    lambda path: save_policy(path, self.policy, self.config, frames=about["frames"]),
                    replays,
                    about={**about, "config": asdict(self.config), "versions": installed_versions()},
                )
        return state

    def load(self, warn: Callable[[str], None]) -> tuple[Checkpoint, dict[str, Tensor]] | None:
        """Go on from the newest whole checkpoint, random numbers apart; returns it and its state, if there is one.

        Args:
            warn: is told of checkpoints that cannot be used.
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
        return self.rank.broadcast(found)

    def begin_alike(self) -> None:
        """Have all ranks begin with the networks, targets, temperatures and statistics of rank 0."""
        if self.rank.world_size > 1:
            state = {
                name: value.cpu()
                for name, value in state_of(self.learner, self.policy, self.rewards, self.episodes).items()
            }
            set_state(self.rank.broadcast(state), self.learner, self.policy, self.rewards, self.episodes)
