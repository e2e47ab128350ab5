"""Returns of episodes: of the collected ones, and of the policy evaluated without noise."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type, step_mdp

from masac.losses.batch import read_next_signal
from masac.signals import expand_to_agents
from masac.training.policy import Policy

RECENT_EPISODES = 100
"""How many of the last finished episodes the training return is the mean of."""


class EpisodeTracker:
    """Follows the episodes of vectorised environments through the collected batches.

    Args:
        num_envs: E.
        n_agents: N.
        group: whose rewards.
    """

    def __init__(self, num_envs: int, n_agents: int, group: str) -> None:
        self.group = group
        self.running_return = torch.zeros(num_envs, n_agents, dtype=torch.float64)
        self.finished: deque[float] = deque(maxlen=RECENT_EPISODES)

    def observe(self, collected: TensorDictBase) -> None:
        """Count in a batch ``[E, T]``."""
        rewards = _rewards(collected, self.group, self.running_return.shape[1]).double().cpu()
        dones = collected["next", "done"].squeeze(-1).cpu()
        for reward, done in zip(rewards.unbind(1), dones.unbind(1), strict=True):
            self.running_return += reward
            self.finished.extend(self.running_return[done].mean(-1).tolist())
            self.running_return[done] = 0.0

    @property
    def return_mean(self) -> float | None:
        """Mean return an agent of the last finished episodes; None before the first."""
        return sum(self.finished) / len(self.finished) if self.finished else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Args:
        returns: of every episode and agent, ``[E, N]``.
        lengths: steps of every episode, ``[E]``.
        successes: which episodes terminated before the horizon, ``[E]``, where that is a success; else None.
    """

    returns: Tensor
    lengths: Tensor
    successes: Tensor | None

    def summary(self) -> dict[str, float]:
        """Scalars: mean and standard deviation over episodes of the return an agent, mean length, success rate."""
        episode_returns = self.returns.mean(-1)
        out = {
            "return_mean": episode_returns.mean().item(),
            "return_std": episode_returns.std(unbiased=False).item(),
            "episode_length_mean": self.lengths.double().mean().item(),
        }
        if self.successes is not None:
            out["success_rate"] = self.successes.double().mean().item()
        return out


@torch.no_grad()
def evaluate(policy: Policy, env: EnvBase, *, seed: int, success: str | None) -> Evaluation:
    """Run one episode without noise in every environment of ``env``, side by side.

    Args:
        policy: acts, without noise.
        env: E vectorised environments with a horizon, reset here with ``seed``.
        seed: the same seed gives the same episodes.
        success: ``"terminated"`` if that is a success, else None.
    """
    env.set_seed(seed)
    data = env.reset()
    group = policy.group
    n_envs = data.batch_size[0]
    running = torch.ones(n_envs, dtype=torch.bool, device=data.device)
    returns = torch.zeros(n_envs, group.n_agents, dtype=torch.float64, device=data.device)
    lengths = torch.zeros(n_envs, dtype=torch.int64, device=data.device)
    terminated = torch.zeros_like(running)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        while running.any():
            data = env.step(policy(data))
            reward = _rewards(data, group.name, group.n_agents)
            returns += torch.where(running.unsqueeze(-1), reward, torch.zeros_like(reward))
            lengths += running
            terminated |= running & data["next", "terminated"].squeeze(-1)
            running &= ~data["next", "done"].squeeze(-1)
            data = step_mdp(data)
    return Evaluation(
        returns=returns.cpu(), lengths=lengths.cpu(), successes=terminated.cpu() if success == "terminated" else None
    )


def _rewards(data: TensorDictBase, group: str, n_agents: int) -> Tensor:
    """``[*B, N]``."""
    reward = read_next_signal(data, (group, "reward"), group, "reward")
    return expand_to_agents(reward, data.batch_size, n_agents, name="reward").squeeze(-1)
