"""Collecting transitions with TorchRL's collector."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import EnvBase

from masac.checks import RunFailedError
from masac.groups import GroupSpec
from masac.losses.batch import read_next_signal
from masac.signals import expand_to_agents
from masac.training.episodes import alive_agents
from masac.training.policy import Policy


def make_collector(env: EnvBase, policy: Policy, *, frames_per_iteration: int, total_frames: int) -> Collector:
    """A collector that steps ``env`` in this process and yields batches ``[environments, steps]``.

    Args:
        env: vectorised environments.
        policy: acts, with noise.
        frames_per_iteration: environments times steps of a batch.
        total_frames: after which it ends.
    """
    with warnings.catch_warnings():
        # TorchRL 0.14 announces a default of 0.15 for recurrent policies; ours keeps no state between steps.
        warnings.filterwarnings("ignore", message=".*auto_register_policy_transforms.*", category=FutureWarning)
        return Collector(env, policy, frames_per_batch=frames_per_iteration, total_frames=total_frames)


def batches(collector: Collector) -> Iterator[TensorDictBase]:
    """What a collector yields, as ``[environments, steps]`` also where processes share the environments."""
    for collected in collector:
        yield collected.flatten(0, -2) if collected.ndim > 2 else collected


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
