"""Which agents of a group are alive in a batch, and what ends: read once, for losses and training alike.

Shape legend: ``*B`` batch, ``N`` agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from masac.errors import check_choice
from masac.groups import GroupSpec
from masac.keys import as_path, in_group, present_keys
from masac.signals import align_signal, expand_to_agents, reduce_over_agents

TerminatedReduction = Literal["none", "any", "all"]
RewardReduction = Literal["mean", "sum"]


@dataclass(frozen=True, kw_only=True)
class EndRules:
    """When the episode of an agent or a team is over, and whose reward counts.

    Args:
        terminated_reduction: ``"none"``, each agent's own flag; ``"any"``, one end ends all; ``"all"``, the team ends
            with its last member.
        reward_reduction: None, each agent's own reward; ``"mean"`` or ``"sum"`` over all N agents, with 0 for dead
            agents, so that the unit of the team's reward does not change when an agent dies.
        posthumous: with ``"all"`` and a value per agent: keep training a dead agent's value while its team lives.
    """

    terminated_reduction: TerminatedReduction
    reward_reduction: RewardReduction | None
    posthumous: bool

    def __post_init__(self) -> None:
        check_choice("terminated_reduction", self.terminated_reduction, TerminatedReduction)
        check_choice("reward_reduction", self.reward_reduction, RewardReduction | None)
        if self.posthumous and self.terminated_reduction != "all":
            raise ValueError(
                "posthumous=True must come with terminated_reduction='all' (a dead agent's value has a future only "
                f"while its team lives); got terminated_reduction={self.terminated_reduction!r}."
            )


@dataclass(frozen=True, kw_only=True)
class GroupSignals:
    """The aligned signals of a batch.

    Args:
        batch_size: ``*B``.
        n_agents: ``N``.
        alive: the agents that act in the current state, bool ``[*B, N, 1]``.
        has_no_mask: whether there is neither an agent mask nor a row mask: then ``alive`` is True everywhere.
        alive_next: the agents that act in the next state (alive and not ended), bool ``[*B, N, 1]``.
        rows: the rows that count, bool ``[*B, 1]``; None if all do. In the others no agent is alive.
        terminated: as in the data.
        reward: as in the data.
        done: the flags at the ends of trajectories, the group's and the root's, where the data has them.
        rules: how signals are reduced over agents.
    """

    batch_size: torch.Size
    n_agents: int
    alive: Tensor
    has_no_mask: bool
    alive_next: Tensor
    rows: Tensor | None
    terminated: Tensor
    reward: Tensor
    done: tuple[Tensor, ...]
    rules: EndRules

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of values per agent, ``[*B, N, 1]``."""
        return (*self.batch_size, self.n_agents, 1)

    @property
    def team_shape(self) -> tuple[int, ...]:
        """The shape of values of the team, ``[*B, 1]``."""
        return (*self.batch_size, 1)

    @property
    def living(self) -> Tensor | None:
        """:attr:`alive`, or None if all agents are known to be alive, which saves the time of masking."""
        return None if self.has_no_mask else self.alive

    def alive_like(self, like: Tensor) -> Tensor:
        """Living agents, bool of the shape of ``like``; for a team, ``[*B, 1]``, whether any member is alive."""
        return self.alive.any(dim=-2) if like.shape == self.team_shape else self.alive

    def trained(self, like: Tensor) -> Tensor:
        """The values that are trained: bool of the shape of ``like``, ``[*B, N, 1]`` or ``[*B, 1]``."""
        if like.shape == self.team_shape:
            return self.alive.any(dim=-2)
        return self.alive.any(dim=-2, keepdim=True).expand(self.value_shape) if self.rules.posthumous else self.alive

    def ends(self, like: Tensor) -> Tensor:
        """The values without a future: bool of the shape of ``like``, ``[*B, N, 1]`` or ``[*B, 1]``."""
        how = self.rules.terminated_reduction
        if like.shape == self.team_shape:
            if how == "none":
                return self._align("terminated", self.terminated, like, None)
            return self._align("terminated", self.terminated, like, how)
        if how == "all" and not self.rules.posthumous:
            raise ValueError(
                "terminated_reduction='all' with a value per agent must come with posthumous=True: otherwise an agent "
                "that dies before its team bootstraps from a value that nothing trains. Pass posthumous=True, a team "
                f"critic (values of shape {list(self.team_shape)}), or terminated_reduction='none' or 'any'."
            )
        return _ends_per_agent(self.terminated, self.alive, self.batch_size, self.n_agents, how)

    def ends_trajectory(self, like: Tensor) -> Tensor:
        """The last steps of trajectories ``[..., T]``: bool of the shape of ``like``.

        The trajectory of an agent's value ends with the agent, that of a team (or a posthumous value) with its last
        member.
        """
        if not self.done:
            raise KeyError(
                "λ-returns need the done flags of 'next', the group's or the root's, to know where trajectories end; "
                "the data has none. Name yours with set_keys(done=...)."
            )
        of_team = like.shape == self.team_shape or self.rules.posthumous
        cuts = torch.zeros_like(like, dtype=torch.bool)
        for done in self.done:
            if of_team:
                done = reduce_over_agents(done, self.batch_size, self.n_agents, "all", mask=self.alive, name="done")
            cuts = cuts | align_signal(done, like, self.batch_size, self.n_agents, name="done")
        lives = self.alive.any(dim=-2, keepdim=True) if of_team else self.alive
        lives = (lives.squeeze(-2) if like.shape == self.team_shape else lives).expand_as(like)
        time_dim = len(self.batch_size) - 1
        # An agent that is dead in the next row has no value there.
        follows = torch.cat(
            [lives.narrow(time_dim, 1, lives.shape[time_dim] - 1), lives.narrow(time_dim, -1, 1)], time_dim
        )
        return cuts | ~follows

    def reward_for(self, like: Tensor) -> Tensor:
        """The reward of the shape of ``like``, ``[*B, N, 1]`` or ``[*B, 1]``."""
        how = self.rules.reward_reduction
        team = like.shape == self.team_shape
        if how is None:
            if self.rules.posthumous and not team and self.reward.shape not in (self.batch_size, self.team_shape):
                raise ValueError(
                    "posthumous=True must come with a team reward: a dead agent's value is the team's future, and its "
                    f"own reward is not read; got a reward per agent, of shape {list(self.reward.shape)}. "
                    "Pass reward_reduction='mean' or 'sum'."
                )
            return self._align("reward", self.reward, like, None)
        reward = team_reward(self.reward, self.batch_size, self.n_agents, how, alive=self.alive)
        return align_signal(reward, like, self.batch_size, self.n_agents, name="reward")

    def _align(self, name: str, signal: Tensor, like: Tensor, how: Literal["any", "all"] | None) -> Tensor:
        try:
            return align_signal(
                signal, like, self.batch_size, self.n_agents, reduce=how, mask=self.alive if how else None, name=name
            )
        except ValueError as error:
            if how is None and like.shape == self.team_shape:
                option = (
                    "terminated_reduction='any' or 'all'"
                    if name == "terminated"
                    else "reward_reduction='mean' or 'sum'"
                )
                raise ValueError(f"{error} In a loss with a team critic, pass {option}.") from error
            raise


def read_group_signals(
    tensordict: TensorDictBase,
    *,
    group: NestedKey,
    n_agents: int,
    reward_key: NestedKey,
    terminated_key: NestedKey,
    mask_key: NestedKey,
    done_key: NestedKey,
    rows: Tensor | None,
    rules: EndRules,
) -> GroupSignals:
    """Read the signals of a group: from the group where present, else from the root.

    ``alive`` is the agent mask of the current state (all True without one), and False in the rows that ``rows``, bool
    ``[*B, 1]``, leaves out. The agent mask at ``next`` is never read: PettingZoo sets it to False at a time limit too,
    where an agent must still bootstrap. ``truncated`` is not read either: an episode that was only cut off has a
    future. ``done`` marks the ends of trajectories, for λ-returns.

    Raises:
        KeyError: without a reward or a terminated flag.
        ValueError: if the shape of a signal fits neither the agents nor the team.
    """
    batch_size = tensordict.batch_size
    reward = read_next_signal(tensordict, reward_key, group, "reward")
    terminated = read_next_signal(tensordict, terminated_key, group, "terminated").bool()
    living = read_alive(tensordict, n_agents, mask_key=mask_key, rows=rows)
    alive = living
    if alive is None:
        alive = torch.ones((*batch_size, n_agents, 1), dtype=torch.bool, device=reward.device)
    own_end = expand_to_agents(terminated, batch_size, n_agents, name="terminated")
    team_end = _ends_per_agent(terminated, alive, batch_size, n_agents, rules.terminated_reduction)
    return GroupSignals(
        batch_size=batch_size,
        n_agents=n_agents,
        alive=alive,
        has_no_mask=living is None,
        alive_next=alive & ~own_end & ~team_end,
        rows=rows,
        terminated=terminated,
        reward=reward,
        done=_done_signals(tensordict, done_key, group),
        rules=rules,
    )


def read_alive(tensordict: TensorDictBase, n_agents: int, *, mask_key: NestedKey, rows: Tensor | None) -> Tensor | None:
    """The agents that act in the current state, bool ``[*B, N, 1]``; None if all are known to.

    Args:
        tensordict: the data, batch size ``*B``.
        n_agents: N.
        mask_key: key of the agent mask.
        rows: the rows that count, bool ``[*B, 1]``; None if all do.
    """
    mask = tensordict.get(as_path(mask_key), None)
    if mask is None:
        return None if rows is None else rows.unsqueeze(-1).expand(*tensordict.batch_size, n_agents, 1)
    alive = expand_to_agents(mask.bool(), tensordict.batch_size, n_agents, name="agent mask")
    return alive if rows is None else alive & rows.unsqueeze(-1)


def team_reward(
    reward: Tensor, batch_size: Sequence[int], n_agents: int, how: RewardReduction, *, alive: Tensor
) -> Tensor:
    """The reward of a team.

    Args:
        reward: of the team, ``[*B]`` or ``[*B, 1]``, which is kept, or per agent, ``[*B, N]`` or ``[*B, N, 1]``.
        batch_size: ``*B``.
        n_agents: ``N``.
        how: over all N agents, with 0 for dead agents.
        alive: the agents that act in the current state, bool in any of the four shapes.

    Returns:
        ``[*B, 1]``.
    """
    # The sum skips dead agents, whose entries may hold anything; the mean divides by all N, not by the living.
    total = reduce_over_agents(reward, batch_size, n_agents, "sum", mask=alive, name="reward")
    of_team = tuple(reward.shape) in (tuple(batch_size), (*batch_size, 1))
    return total if how == "sum" or of_team else total / n_agents


def alive_agents(data: TensorDictBase, group: GroupSpec) -> Tensor:
    """Which agents of a group act in the current state, bool ``[*B, N]``: all where there is no agent mask."""
    mask = data.get((group.name, "mask"), None)
    if mask is None:
        return torch.ones(*data.batch_size, group.n_agents, dtype=torch.bool, device=data.device)
    return expand_to_agents(mask.bool(), data.batch_size, group.n_agents, name="agent mask").squeeze(-1)


def begins_next(data: TensorDictBase, group: NestedKey, alive: Tensor) -> Tensor:
    """The agents whose memory begins anew in the state after a step.

    Those that did not act in the step (dead, or not there yet), those that ended in it, for whatever reason, and all of
    them where the episode ended, since the environment is reset then.

    Args:
        data: the step, batch size ``*B``; of its flags at ``next``, the group's and the root's, those that it has.
        group: key of the agents' entries.
        alive: the agents that act in the step, bool ``[*B, N, 1]``.

    Returns:
        Bool ``[*B, N, 1]``.
    """
    begins = ~alive
    for name in ("done", "terminated", "truncated"):
        for key in ((*as_path(group), name), (name,)):
            flag = data.get(("next", *key), None)
            if flag is not None:
                begins = begins | expand_to_agents(flag.bool(), data.batch_size, alive.shape[-2], name=name)
    return begins


def living_rewards(data: TensorDictBase, group: GroupSpec) -> Tensor:
    """The rewards of a group's agents, ``[*B, N]``; 0 for the dead."""
    reward = read_next_signal(data, (group.name, "reward"), group.name, "reward")
    reward = expand_to_agents(reward, data.batch_size, group.n_agents, name="reward").squeeze(-1)
    return torch.where(alive_agents(data, group), reward, torch.zeros_like(reward))


def read_next_signal(tensordict: TensorDictBase, key: NestedKey, group: NestedKey, name: str) -> Tensor:
    """The signal at ``("next", key)``; if a key inside the group is missing, that of the same name at the root."""
    next_data = tensordict.get("next", None)
    value = None if next_data is None else next_data.get(as_path(key), None)
    if value is None and next_data is not None and in_group(key, group):
        value = next_data.get(as_path(key)[-1], None)
    if value is None:
        raise KeyError(
            f"the loss needs the {name} at {('next', *as_path(key))!r}, or the entry of that name at the root of "
            f"'next'; the data has {present_keys(tensordict)}. Name yours with set_keys({name}=...)."
        )
    return value


def _done_signals(tensordict: TensorDictBase, key: NestedKey, group: NestedKey) -> tuple[Tensor, ...]:
    """The done flags at ``("next", key)`` and, for a key inside the group, those of the same name at the root."""
    keys = [as_path(key), as_path(key)[-1:]] if in_group(key, group) else [as_path(key)]
    found = [tensordict.get(("next", *path), None) for path in keys]
    return tuple(signal.bool() for signal in found if signal is not None)


def _ends_per_agent(
    terminated: Tensor, alive: Tensor, batch_size: torch.Size, n_agents: int, how: TerminatedReduction
) -> Tensor:
    if how != "none":
        terminated = reduce_over_agents(terminated, batch_size, n_agents, how, mask=alive, name="terminated")
    return expand_to_agents(terminated, batch_size, n_agents, name="terminated")
