"""n-step returns of collected steps, before they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.group_signals import alive_agents
from masac.groups import GroupSpec
from masac.signals import expand_to_agents


class NStepReturns:
    """Turns steps of vectorised environments into rows whose next state is up to n steps ahead.

    The row of step t has the discounted sum of the rewards of steps t to t + k - 1, the next observations and
    terminated flags of step t + k - 1, and k at ``steps_to_next_obs``, from which the losses discount the next value by
    γ^k (Sutton and Barto 2018, equation 7.1). k is n, or less where the episode ends, or where an agent ends or joins:
    up to there the same agents live through all steps, so a row means for every agent what a row of one step does. A
    row is made when its last step is collected, n - 1 steps after its first. With n = 1 steps are left as they are.

    Rewards are those of the actions that were executed, without a correction for a policy that has changed since.

    Args:
        groups: whose agents learn.
        n: the largest number of steps.
        gamma: discount per step.
    """

    def __init__(self, groups: Sequence[GroupSpec], *, n: int, gamma: float) -> None:
        self.groups = tuple(groups)
        self.n, self.gamma = n, gamma
        self._steps: TensorDictBase | None = None  # the last n - 1, of which no row was made yet

    def rows(self, collected: TensorDictBase) -> TensorDictBase:
        """The rows ``[E, R]`` that a batch ``[E, T]`` of the following steps completes; R is T, at first T - n + 1."""
        if self.n == 1:
            return collected
        steps = collected
        if self._steps is not None:
            steps = cast(TensorDictBase, torch.cat([self._steps, collected], 1))  # pyright: ignore[reportArgumentType]
        count = max(steps.shape[1] - self.n + 1, 0)
        self._steps = cast(TensorDictBase, steps[:, count:]).clone()
        return n_step_rows(
            steps, self._goes_on(steps), self._reward_keys(steps), count=count, n=self.n, gamma=self.gamma
        )

    def example(self, steps: TensorDictBase) -> TensorDictBase:
        """Rows with the entries of :meth:`rows`, of any values."""
        return steps if self.n == 1 else steps.copy().set("steps_to_next_obs", torch.ones(*steps.shape, 1).long())

    def restart(self, environments: Sequence[int] | None = None) -> None:
        """End the running episodes of environments that were reset; of all, forget the steps without a row."""
        if environments is None:
            self._steps = None
        elif self._steps is not None:
            self._steps["next", "done"][list(environments), -1] = True

    def _goes_on(self, steps: TensorDictBase) -> Tensor:
        """Whether step t + 1 follows step t with the same agents alive, bool ``[E, T]``; True for the last step."""
        ends = steps["next", "done"].squeeze(-1).clone()
        for group in self.groups:
            alive = alive_agents(steps, group)
            for name in ("terminated", "truncated", "done"):
                flag = steps.get(("next", group.name, name), None)
                if flag is not None:  # the flags of dead agents stay set
                    flag = expand_to_agents(flag, steps.batch_size, group.n_agents, name=name).squeeze(-1)
                    ends |= (flag & alive).any(-1)
            ends[:, :-1] |= (alive[:, 1:] != alive[:, :-1]).any(-1)
        return ~ends

    def _reward_keys(self, steps: TensorDictBase) -> list[tuple[str, ...]]:
        keys = [("next", group.name, "reward") for group in self.groups]
        own = [key for key in keys if steps.get(key, None) is not None]
        return own if len(own) == len(keys) else [*own, ("next", "reward")]


def n_step_rows(
    steps: TensorDictBase, follows: Tensor, reward_keys: Sequence[tuple[str, ...]], *, count: int, n: int, gamma: float
) -> TensorDictBase:
    """The n-step rows of the first ``count`` steps: see :class:`NStepReturns`.

    Args:
        steps: ``[E, W]``, one after the other.
        follows: whether step t + 1 belongs to what began before, bool ``[E, W]``.
        reward_keys: of the rewards to sum.
        count: how many rows; at most W - n + 1.
        n: the largest number of steps.
        gamma: discount per step.

    Returns:
        ``[E, count]``, with ``steps_to_next_obs`` ``[E, count, 1]``.
    """
    rewards = [steps.get(key) for key in reward_keys]
    sums = [reward[:, :count] for reward in rewards]
    ahead = torch.zeros(follows.shape[0], count, dtype=torch.long, device=follows.device)
    goes_on = torch.ones_like(ahead, dtype=torch.bool)
    for step in range(1, n):
        goes_on = goes_on & follows[:, step - 1 : step - 1 + count]
        ahead = ahead + goes_on
        for index, reward in enumerate(rewards):
            later = reward[:, step : step + count]
            counts = goes_on.reshape(*goes_on.shape, *(1,) * (later.ndim - 2))
            sums[index] = sums[index] + gamma**step * torch.where(counts, later, torch.zeros_like(later))
    out = cast(TensorDictBase, steps[:, :count]).copy()
    last = torch.arange(count, device=ahead.device) + ahead
    out["next"] = steps["next"][torch.arange(len(last), device=last.device).unsqueeze(-1), last]
    for key, total in zip(reward_keys, sums, strict=True):
        out[key] = total
    out["steps_to_next_obs"] = (ahead + 1).unsqueeze(-1)
    return out
