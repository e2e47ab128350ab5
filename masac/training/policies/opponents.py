"""What acts for the groups of a run that do not learn."""

from __future__ import annotations

from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from masac.groups import GroupSpec
from masac.training.policies.policy import Opponent, Policy


class FrozenOpponent(Opponent):
    """Acts as a group of another policy does.

    Args:
        group: that it acts for.
        policy: the other policy.
        plays: the name of the group in the other policy.
    """

    def __init__(self, group: GroupSpec, policy: Policy, plays: str) -> None:
        self.group, self.plays = group, plays
        self.policy = policy.of_group(plays)

    def __call__(self, state: TensorDictBase) -> Tensor:
        """The actions of the other policy."""
        seen = {self.plays: {name: state.get((self.group.name, name)) for name in self.group.seen}}
        return self.policy(TensorDict(seen, state.batch_size)).get((self.plays, "action"))
