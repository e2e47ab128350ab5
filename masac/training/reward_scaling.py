"""The factor on rewards in the losses: the scale of an environment's rewards must not decide what is learned.

The temperature, the step from squared to absolute errors and what a network puts out at first all have the unit of a
return. Rewards are therefore divided by the standard deviation of discounted returns: an environment whose rewards are
ten times as large gives the same run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from masac.group_signals import RewardReduction, alive_agents, read_next_signal, team_reward
from masac.groups import GroupSpec
from masac.signals import expand_to_agents
from masac.training.distributed.ranks import ALONE, Rank
from masac.training.policies.normalization import Moments, RunningNormalizer

LARGEST_RETURN = 20.0
"""No return seen becomes larger than this by its factor: a reward that was hardly ever found is not blown up."""


class ReturnSpread(nn.Module):
    """The spread of the discounted returns of a group: their standard deviation over all that was collected.

    The discounted return of a step is what an agent got so far in its episode, ``G_t = gamma * G_{t-1} + r_t``
    (Engstrom et al. 2020, arXiv 2005.12729, "reward scaling").

    Args:
        num_envs: E.
        n_agents: N.
        gamma: discount per step.
    """

    largest: Tensor

    def __init__(self, num_envs: int, n_agents: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.returns = RunningNormalizer(1)
        self.register_buffer("largest", torch.zeros((), dtype=torch.float64))
        self.running = torch.zeros(num_envs, n_agents, dtype=torch.float64)  # a resumed run begins new episodes

    @torch.no_grad()
    def follow(self, rewards: Tensor, alive: Tensor, done: Tensor) -> tuple[Moments, Tensor]:
        """Follow the episodes through a batch.

        Args:
            rewards: ``[E, T, N]``; those of the dead, and those that are not finite, count as 0.
            alive: who acts, bool ``[E, T, N]``.
            done: where an episode ends, bool ``[E, T]``.

        Returns:
            The moments of the discounted returns of the living and the largest absolute one, for :meth:`merge`.
        """
        rewards = torch.where(alive & rewards.isfinite(), rewards, 0.0).double()
        returns = []
        for step, ends in enumerate(done.unbind(1)):
            self.running = self.gamma * self.running + rewards[:, step]
            returns.append(self.running)
            self.running = torch.where(ends.unsqueeze(-1), 0.0, self.running)
        seen = torch.stack(returns, 1)[alive].unsqueeze(-1)
        largest = seen.abs().max() if seen.numel() else torch.zeros_like(self.largest)
        return self.returns.moments(seen), largest

    @torch.no_grad()
    def merge(self, moments: Moments, largest: Tensor) -> None:
        """Count in what :meth:`follow` found, here or on another rank."""
        self.returns.merge(*moments)
        self.largest.copy_(torch.maximum(self.largest, largest))

    @property
    def factor(self) -> float:
        """What to multiply rewards by: 1 while all returns are 0, then as the module says."""
        spread = max(self.returns.std.item(), self.largest.item() / LARGEST_RETURN)
        return 1 / spread if spread > 0 else 1.0


class RewardScaling(nn.Module):
    """Scales the rewards of the groups that learn, each by a factor of its own.

    Args:
        groups: those that learn.
        num_envs: E.
        gamma: discount per step.
        scale: a factor on top.
        normalize: divide by the spread of returns.
        reduction: ``"mean"`` or ``"sum"`` where losses take the team's reward.

    Attributes:
        factors: by group; those that share the reward at the root of the data have the same.
    """

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        *,
        num_envs: int,
        gamma: float,
        scale: float,
        normalize: bool,
        reduction: RewardReduction | None = None,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.scale = scale
        self.reduction: RewardReduction | None = reduction
        followed = groups if normalize else ()
        self.spreads = nn.ModuleDict({one.name: ReturnSpread(num_envs, one.n_agents, gamma) for one in followed})
        self.factors = {group.name: scale for group in groups}

    def observe(self, collected: TensorDictBase, rank: Rank = ALONE) -> None:
        """Count in a batch ``[E, T]`` of every rank."""
        if not self.spreads:
            return
        done = collected["next", "done"].squeeze(-1).cpu()
        found = {}
        for group in self.groups:
            spread = self.spreads[group.name]
            assert isinstance(spread, ReturnSpread)
            rewards, alive = self._rewards(collected, group)
            found[group.name] = spread.follow(rewards.cpu(), alive.cpu(), done)
        for of_rank in rank.all_gather(found):
            for name, spread in self.spreads.items():
                assert isinstance(spread, ReturnSpread)
                spread.merge(*of_rank[name])
        self._set_factors()
        self._share_factor([group.name for group in self.groups if not _has_own_reward(collected, group.name)])

    def _rewards(self, collected: TensorDictBase, group: GroupSpec) -> tuple[Tensor, Tensor]:
        """The rewards that the losses of a group take, and who acts, ``[E, T, N]``."""
        batch_size, n_agents = collected.batch_size, group.n_agents
        alive = alive_agents(collected, group)
        reward = read_next_signal(collected, (group.name, "reward"), group.name, "reward")
        if self.reduction is not None:
            reward = team_reward(reward, batch_size, n_agents, self.reduction, alive=alive)
        return expand_to_agents(reward, batch_size, n_agents, name="reward").squeeze(-1), alive

    def _share_factor(self, names: Sequence[str]) -> None:
        """Give groups whose reward is the one at the root the smallest of their factors: it is scaled by one."""
        if names:
            self.factors |= dict.fromkeys(names, min(self.factors[name] for name in names))

    def restart(self, environments: Sequence[int] | None = None) -> None:
        """Forget the running episodes, where environments were reset: in these, or in all."""
        which = slice(None) if environments is None else torch.tensor(environments, dtype=torch.int64)
        for spread in self.spreads.values():
            spread.running[which] = 0  # pyright: ignore[reportArgumentType, reportIndexIssue]

    def rescale(self, batch: TensorDictBase) -> None:
        """Scale the rewards in ``batch``: each group's own, and the one at the root for the groups without."""
        factors: dict[tuple[str, ...], float] = {}
        for name, factor in self.factors.items():
            key = ("next", name, "reward") if _has_own_reward(batch, name) else ("next", "reward")
            factors[key] = min(factor, factors.get(key, factor))
        for key, factor in factors.items():
            if factor != 1.0:
                batch.set(key, batch.get(key) * factor)

    def state(self) -> dict[str, Tensor]:
        """What was seen, by name."""
        return dict(self.state_dict())

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        self.load_state_dict(state)
        self._set_factors()

    def _set_factors(self) -> None:
        for name, spread in self.spreads.items():
            assert isinstance(spread, ReturnSpread)
            self.factors[name] = self.scale * spread.factor


def _has_own_reward(data: TensorDictBase, group: str) -> bool:
    return data.get(("next", group, "reward"), None) is not None
