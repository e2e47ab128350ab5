"""Cross-play: the groups of several runs in one environment, every pairing of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchrl.envs import EnvBase

from masac.groups import GroupSpec
from masac.training.evaluator import Evaluation, evaluate
from masac.training.policies.opponents import FrozenOpponent
from masac.training.policies.policy import Policy

RANDOM = "random"
"""The name of the player that acts uniformly at random."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """The episodes of one pairing.

    Args:
        row: the player of one group.
        column: the player of all other groups.
        evaluation: returns of all groups.
    """

    row: str
    column: str
    evaluation: Evaluation


def cross_play(
    players: Mapping[str, Policy],
    groups: Sequence[GroupSpec],
    env: EnvBase,
    *,
    group: str,
    seed: int,
    stochastic: bool = False,
    max_steps: int | None = None,
) -> Iterator[Match]:
    """Play every pairing of players, and of each with random actions, on the same episodes.

    Args:
        players: policies for all groups, by name.
        groups: of the environment.
        env: vectorised environments, one episode each.
        group: the group of the first player of a pairing; the second one plays all other groups.
        seed: of environments and actions.
        stochastic: whether actions are drawn from the policies instead of taken without noise.
        max_steps: after which episodes are cut; None for no limit.
    """
    names = [*players, RANDOM]
    for row in names:
        for column in names:
            plays = {one.name: row if one.name == group else column for one in groups}
            opponents = {
                one.name: FrozenOpponent(one, players[plays[one.name]], one.name)
                for one in groups
                if plays[one.name] != RANDOM
            }
            mixed = Policy(groups, {}, {}, opponents)
            found = evaluate(mixed, env, seed=seed, success=None, stochastic=stochastic, max_steps=max_steps)
            yield Match(row=row, column=column, evaluation=found)
