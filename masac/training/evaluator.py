"""Evaluation: episodes with the policy's actions without noise, in training always the same episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.group_signals import alive_agents, living_rewards
from masac.process.stop_signals import StoppedBySignal, StopRequest
from masac.training.checkpointing.random_state import own_random_numbers
from masac.training.config import ExperimentConfig
from masac.training.policies.policy import Policy
from masac.training.policies.self_play import facing

STEPS_WITHOUT_HORIZON = 1_000
"""Evaluations and videos cut an episode after this number of steps if neither a horizon nor the environment ends it."""

SECONDS_OF_SILENCE = 10.0


class Evaluator:
    """Evaluates a policy, always on the same episodes.

    Args:
        config: of the run; its evaluation environments are made here.
        device: of the environments.
        say: prints a line.
    """

    def __init__(
        self, config: ExperimentConfig, *, device: str, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.config = config
        self.say = say
        self._warned_of_limit = False
        task, episodes = config.task, config.evaluation.episodes
        shares = task.num_workers > 0 and episodes % task.num_workers == 0
        self.env = make_env(
            task if shares else replace(task, num_workers=0),
            num_envs=episodes,
            seed=config.evaluation.seed,
            device=device,
            one_episode=True,
        )

    def evaluate(
        self,
        policy: Policy,
        *,
        random_groups: Collection[str] = (),
        past: Collection[str] = (),
        stop: StopRequest | None = None,
    ) -> Evaluation:
        """Run the episodes.

        Args:
            policy: acts.
            random_groups: groups that act uniformly at random instead.
            past: groups for which their past snapshots act (self-play), each in an equal share of the episodes.
            stop: ends the evaluation between two steps, if a user asks for that.

        Raises:
            StoppedBySignal: if it was stopped.
        """
        episodes = self.config.evaluation.episodes
        with acting_alone(policy, random_groups=random_groups, past=past, episodes=episodes, device=self.env.device):
            found = evaluate(
                policy,
                self.env,
                seed=self.config.evaluation.seed,
                success=self.config.task.success,
                stochastic=self.config.evaluation.stochastic,
                max_steps=step_limit(self.config.task),
                after_step=EvaluationProgress(self.say, stop),
            )
        if found.unfinished and not self._warned_of_limit:
            self._warned_of_limit = True
            self.say(f"warning: {limit_warning(found)}")
        return found

    def close(self) -> None:
        """Close the environments, and the processes they run in."""
        if not self.env.is_closed:
            self.env.close(raise_if_closed=False)


@contextmanager
def acting_alone(
    policy: Policy,
    *,
    random_groups: Collection[str] = (),
    past: Collection[str] = (),
    episodes: int,
    device: torch.device | None,
) -> Iterator[None]:
    """A context in which a policy that trains acts in other environments than those of the training.

    Args:
        policy: acts, also in the warm-up.
        random_groups: groups that act uniformly at random instead.
        past: groups for which their past snapshots act (self-play), each in an equal share of the episodes.
        episodes: that are run side by side.
        device: of the environments.
    """
    before = policy.random_groups
    policy.random_groups = frozenset(random_groups)
    try:
        with facing(policy, past, episodes, device):
            yield
    finally:
        policy.random_groups = before


class EvaluationProgress:
    """Prints the progress of a long evaluation, and ends it if a user asks for that.

    Args:
        say: prints a line.
        stop: the request to stop; None if there cannot be one.
    """

    def __init__(self, say: Callable[[str], None], stop: StopRequest | None = None) -> None:
        self.say = say
        self.stop = stop
        self._said = time.monotonic()

    def __call__(self, steps: int, running: Tensor) -> None:
        """Called after each step.

        Args:
            steps: so far.
            running: which episodes are not over, bool.
        """
        if self.stop is not None and self.stop.number is not None:
            raise StoppedBySignal(self.stop.number)
        if (now := time.monotonic()) - self._said > SECONDS_OF_SILENCE:
            self._said = now
            over, episodes = int((~running).sum()), running.numel()
            self.say(f"evaluating: {steps:,} steps, {over:,} of {episodes:,} episodes have ended")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results of an evaluation.

    Args:
        returns: by group, of each episode and agent, ``[E, N]``.
        lives: by group, the steps that each agent was alive, ``[E, N]``.
        lengths: steps of each episode, ``[E]``.
        successes: which episodes terminated before the horizon, ``[E]``, if that is a success; None otherwise.
        unfinished: number of episodes that had no end and were cut.
    """

    returns: Mapping[str, Tensor]
    lives: Mapping[str, Tensor]
    lengths: Tensor
    successes: Tensor | None
    unfinished: int = 0

    def episode_returns(self, groups: Sequence[str]) -> Tensor:
        """The mean return per agent of these groups in each episode, ``[E]``."""
        return torch.cat([self.returns[group] for group in groups], dim=1).mean(-1)


@torch.no_grad()
def evaluate(
    policy: Policy,
    env: EnvBase,
    *,
    seed: int,
    success: str | None,
    stochastic: bool = False,
    max_steps: int | None = None,
    after_step: Callable[[int, Tensor], None] | None = None,
) -> Evaluation:
    """Run one episode in every environment of ``env``, side by side.

    Args:
        policy: acts.
        env: E vectorised environments, reset here with ``seed``.
        seed: the same seed gives the same episodes.
        success: ``"terminated"`` if that is a success, else None.
        stochastic: whether actions are drawn from the policy instead of taken without noise.
        max_steps: after which episodes are cut; None for no limit.
        after_step: called after each step with the number of steps and a bool tensor of the episodes that continue.
    """
    with own_random_numbers(seed):  # training is not affected
        env.set_seed(seed)
        data = policy.begin(env.reset())
    batch = data.batch_size
    running = torch.ones(batch, dtype=torch.bool, device=data.device)
    returns = {group.name: torch.zeros(*batch, group.n_agents, dtype=torch.float64) for group in policy.groups}
    lives = {group.name: torch.zeros(*batch, group.n_agents, dtype=torch.int64) for group in policy.groups}
    lengths = torch.zeros(batch, dtype=torch.int64)
    terminated = torch.zeros(batch, dtype=torch.bool)
    steps = 0
    exploration = ExplorationType.RANDOM if stochastic else ExplorationType.DETERMINISTIC
    with own_random_numbers(seed), set_exploration_type(exploration):
        while running.any() and steps != max_steps:
            # Environments whose episode is over wait or start another one; both are ignored.
            stepped, data = env.step_and_maybe_reset(policy(data))
            data = policy.carry(stepped, data)
            counted = running.cpu()
            for group in policy.groups:
                alive = alive_agents(stepped, group).cpu() & counted.unsqueeze(-1)
                reward = living_rewards(stepped, group).double().cpu()
                returns[group.name] += torch.where(alive, reward, torch.zeros_like(reward))
                lives[group.name] += alive
            lengths += counted
            terminated |= counted & stepped["next", "terminated"].squeeze(-1).cpu()
            running &= ~stepped["next", "done"].squeeze(-1)
            steps += 1
            if after_step is not None:
                after_step(steps, running)
    return Evaluation(
        returns=returns,
        lives=lives,
        lengths=lengths,
        successes=terminated if success == "terminated" else None,
        unfinished=int(running.sum()),
    )


def step_limit(task: TaskConfig) -> int | None:
    """Steps after which evaluations and videos cut an episode; None if the task has a horizon."""
    return STEPS_WITHOUT_HORIZON if task.horizon is None else None


def limit_warning(evaluation: Evaluation) -> str:
    """A warning about episodes that were cut."""
    return (
        f"{evaluation.unfinished} of {len(evaluation.lengths)} evaluation episodes had no end and were cut after "
        f"{int(evaluation.lengths.max()):,} steps. If the environment does not end episodes itself, set "
        "task.horizon=..., which --resume accepts too"
    )
