"""What collected data must be like."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import TensorDictBase
from torch import Tensor

from masac.errors import RunFailedError
from masac.groups import GroupSpec
from masac.losses.group_signals import read_next_signal
from masac.signals import expand_to_agents
from masac.training.episodes import alive_agents


def check_observations(collected: TensorDictBase, groups: Sequence[GroupSpec], frames: int) -> None:
    """Raise unless the observations of all living agents are finite.

    Args:
        collected: ``[E, T]``.
        groups: whose observations.
        frames: collected before this batch.

    Raises:
        RunFailedError: naming group, agent, environment and step of the first that is not.
    """
    for group in groups:
        alive = alive_agents(collected, group)
        # The next observation of an agent that terminated is not used; that of one cut short is.
        goes_on = alive & ~_terminated(collected, group)
        for state, acts, where in ((collected, alive, ""), (collected.get("next"), goes_on, "after ")):
            wrong = acts & ~state.get(group.observation_key).isfinite().all(-1)
            if wrong.any():
                env, step, agent = wrong.nonzero()[0].tolist()
                got = state[group.observation_key][env, step, agent].tolist()
                raise RunFailedError(
                    f"observations of living agents must be finite; got {got} for agent {agent} of group "
                    f"{group.name!r} in environment {env}, {where}step {step} of the batch that begins at frame "
                    f"{frames}. Mend the environment, set its terminated flag where an observation means nothing, or "
                    "set training.check_observations=false"
                )


def _terminated(collected: TensorDictBase, group: GroupSpec) -> Tensor:
    """``[E, T, N]``."""
    flags = read_next_signal(collected, (group.name, "terminated"), group.name, "terminated")
    return expand_to_agents(flags, collected.batch_size, group.n_agents, name="terminated").squeeze(-1)
