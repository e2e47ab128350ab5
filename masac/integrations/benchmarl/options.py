"""The fields that masac's algorithms have beside those of BenchMARL's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from masac.docstrings import explained_by
from masac.errors import check_choice
from masac.group_signals import EndRules
from masac.losses.options import ActorGradient, GroupLossOptions
from masac.losses.sac import GroupSACLoss
from masac.skipping import resolve_skip_mode


@explained_by(GroupLossOptions, GroupSACLoss)
@dataclass
class GroupOptions:
    """Options that BenchMARL's losses do not have; the defaults are in ``masac/integrations/conf/algorithm``.

    Not frozen, since BenchMARL's configs are not: later changes are checked when the algorithm is made.

    Args:
        agent_mask_key: the entry of the group, read where the data has it, that is False for agents that do not exist.
    """

    skip_done_states: bool | str
    actor_gradient: str
    alpha_per_agent: bool
    terminated_reduction: str
    reward_reduction: str | None
    posthumous: bool
    agent_mask_key: str
    burn_in: int

    def __post_init__(self) -> None:
        """Raise ValueError for values that no loss takes."""
        resolve_skip_mode(self.skip_done_states)
        check_choice("actor_gradient", self.actor_gradient, ActorGradient)
        EndRules(
            terminated_reduction=self.terminated_reduction,  # pyright: ignore[reportArgumentType]
            reward_reduction=self.reward_reduction,  # pyright: ignore[reportArgumentType]
            posthumous=self.posthumous,
        )

    def check_critic_value(self, critic_value: str) -> None:
        """Raise ValueError unless these options fit critics with a value per ``"agent"``, or one for the ``"team"``."""
        check_choice("critic_value", critic_value, Literal["agent", "team"])
        if critic_value == "agent" and self.terminated_reduction == "all" and not self.posthumous:
            raise ValueError(
                "posthumous must be True with terminated_reduction='all' and a value per agent; got False. Otherwise "
                "an agent that dies before its team bootstraps from a value that nothing trains."
            )
        if critic_value == "team" and (self.terminated_reduction == "none" or self.reward_reduction is None):
            raise ValueError(
                "critic_value='team' must come with terminated_reduction='any' or 'all' and reward_reduction='mean' or "
                f"'sum', which reduce the signals of the agents to one; got {self.terminated_reduction!r} and "
                f"{self.reward_reduction!r}."
            )


def split_options(fields_of_config: Mapping[str, Any]) -> tuple[GroupOptions, dict[str, Any]]:
    """The fields of a config as masac's options, checked, and the rest, BenchMARL's."""
    names = {field.name for field in fields(GroupOptions)}
    ours = {name: value for name, value in fields_of_config.items() if name in names}
    return GroupOptions(**ours), {name: value for name, value in fields_of_config.items() if name not in names}
