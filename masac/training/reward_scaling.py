"""The rewards that the losses see: clipped, if asked for, and times a factor that makes their scale immaterial.

The temperature, the threshold between squared and absolute errors, and the initial outputs of a network all have the
unit of a return. Rewards are therefore divided by the standard deviation of discounted returns: an environment whose
rewards are ten times as large gives the same run.
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
"""The factor makes no observed return larger than this, so that a reward which was rarely found is not magnified."""


class ReturnSpread(nn.Module):
    """The standard deviation of the discounted returns of a group over all collected data.

    The discounted return of a step is ``G_t = gamma * G_{t-1} + r_t`` over an agent's rewards in its episode so far
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
            rewards: ``[E, T, N]``; those of dead agents, and non-finite ones, count as 0.
            alive: which agents act, bool ``[E, T, N]``.
            done: where an episode ends, bool ``[E, T]``.

        Returns:
            For :meth:`merge`, the moments of the discounted returns of living agents, and the largest absolute one.
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
        """Add the result of :meth:`follow`, on this rank or another one."""
        self.returns.merge(*moments)
        self.largest.copy_(torch.maximum(self.largest, largest))

    @property
    def factor(self) -> float:
        """The factor on rewards: 1 while all returns are 0."""
        spread = max(self.returns.std.item(), self.largest.item() / LARGEST_RETURN)
        return 1 / spread if spread > 0 else 1.0


class RewardScaling(nn.Module):
    """Scales the rewards of the learning groups, each by its own factor.

    Args:
        groups: the learning groups.
        num_envs: E.
        gamma: discount per step.
        scale: an additional factor.
        normalize: divide by the standard deviation of returns.
        clip: the largest size of a reward before that; None for rewards as they are.
        reduction: ``"mean"`` or ``"sum"`` if the losses take a team reward.

    Attributes:
        factors: by group; groups that share the reward at the root of the data have the same factor.
    """

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        *,
        num_envs: int,
        gamma: float,
        scale: float,
        normalize: bool,
        clip: float | None = None,
        reduction: RewardReduction | None = None,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.scale, self.clip = scale, clip
        self.reduction: RewardReduction | None = reduction
        followed = groups if normalize else ()
        self.spreads = nn.ModuleDict({one.name: ReturnSpread(num_envs, one.n_agents, gamma) for one in followed})
        self.factors = {group.name: scale for group in groups}

    def clipped(self, collected: TensorDictBase) -> TensorDictBase:
        """A shallow copy with the rewards of single steps in [-clip, clip] (Mnih et al. 2015).

        Rewards that are not finite stay as they are, so that what they break is seen.
        """
        if self.clip is None:
            return collected
        collected = collected.copy()
        for key in {_reward_key(collected, group.name) for group in self.groups}:
            reward = collected.get(key)
            collected.set(key, torch.where(reward.isfinite(), reward.clamp(-self.clip, self.clip), reward))
        return collected

    def observe(self, collected: TensorDictBase, rank: Rank = ALONE) -> None:
        """Add a batch ``[E, T]`` of each rank, with rewards that are :meth:`clipped`."""
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
        """The rewards that the losses of a group take, and which agents act, ``[E, T, N]``."""
        batch_size, n_agents = collected.batch_size, group.n_agents
        alive = alive_agents(collected, group)
        reward = read_next_signal(collected, (group.name, "reward"), group.name, "reward")
        if self.reduction is not None:
            reward = team_reward(reward, batch_size, n_agents, self.reduction, alive=alive)
        return expand_to_agents(reward, batch_size, n_agents, name="reward").squeeze(-1), alive

    def _share_factor(self, names: Sequence[str]) -> None:
        """Give groups that share the reward at the root the smallest of their factors: it can only be scaled once."""
        if names:
            self.factors |= dict.fromkeys(names, min(self.factors[name] for name in names))

    def restart(self, environments: Sequence[int] | None = None) -> None:
        """Forget the running episodes of environments that were reset, or of all."""
        which = slice(None) if environments is None else torch.tensor(environments, dtype=torch.int64)
        for spread in self.spreads.values():
            spread.running[which] = 0  # pyright: ignore[reportArgumentType, reportIndexIssue]

    def rescale(self, batch: TensorDictBase) -> None:
        """Scale the rewards in ``batch``: those of the groups, and the one at the root for groups without their own."""
        factors: dict[tuple[str, ...], float] = {}
        for name, factor in self.factors.items():
            key = _reward_key(batch, name)
            factors[key] = min(factor, factors.get(key, factor))
        for key, factor in factors.items():
            if factor != 1.0:
                batch.set(key, batch.get(key) * factor)

    def state(self) -> dict[str, Tensor]:
        """The statistics, by name."""
        return dict(self.state_dict())

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state`."""
        self.load_state_dict(state)
        self._set_factors()

    def _set_factors(self) -> None:
        for name, spread in self.spreads.items():
            assert isinstance(spread, ReturnSpread)
            self.factors[name] = self.scale * spread.factor


def _reward_key(data: TensorDictBase, group: str) -> tuple[str, ...]:
    return ("next", group, "reward") if _has_own_reward(data, group) else ("next", "reward")


def _has_own_reward(data: TensorDictBase, group: str) -> bool:
    return data.get(("next", group, "reward"), None) is not None
