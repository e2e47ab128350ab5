"""Checks of collected data before it enters the replay buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from tensordict import TensorDictBase
from torch import Tensor

from masac.actions.validation import action_error, agents_with_illegal_action, agents_without_choice, first_agent
from masac.errors import RunFailedError
from masac.group_signals import alive_agents, read_next_signal
from masac.groups import GroupSpec
from masac.signals import expand_to_agents


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
        keys = [group.observation_key, *(key for key in group.image_keys if collected.get(key).is_floating_point())]
        for (state, acts, where), key in product(_states(collected, group), keys):
            wrong = acts & ~state.get(key).isfinite().flatten(3).all(-1)
            if (found := first_agent(wrong)) is not None:
                (env, step), agent = found
                values = state[key][env, step, agent]
                got = (
                    values.tolist() if key == group.observation_key else f"{values[~values.isfinite()][0]} in an image"
                )
                raise RunFailedError(
                    f"observations of living agents must be finite; got {got} for agent {agent} of group "
                    f"{group.name!r} in {_place(env, step, where, frames)}. Fix the environment, set its terminated "
                    "flag where an observation is invalid, or set training.check_observations=false"
                )


def check_actors(collected: TensorDictBase, groups: Sequence[GroupSpec], frames: int | None) -> None:
    """Raise unless the continuous actions of all living agents with finite observations are finite.

    Args:
        collected: ``[E, T]``.
        groups: whose actions.
        frames: collected before this batch; None for a single step that failed.

    Raises:
        RunFailedError: naming group, agent, environment and step of the first that is not.
    """
    for group in groups:
        action = collected.get(group.action_keys[0])
        if not action.is_floating_point():
            continue
        wrong = alive_agents(collected, group) & ~action.isfinite().all(-1)
        if not bool(wrong.any()):
            continue
        for key in (group.observation_key, *group.image_keys):  # else the observation is to blame
            wrong &= collected.get(key).isfinite().flatten(3).all(-1)
        if (found := first_agent(wrong)) is not None:
            (env, step), agent = found
            where = f"environment {env}" if frames is None else _place(env, step, "", frames)
            raise RunFailedError(
                f"actions of living agents must be finite; got {action[env, step, agent].tolist()} for a finite "
                f"observation, for agent {agent} of group {group.name!r} in {where}. Its actor computed it: lower "
                "training.actor_lr, set training.max_grad_norm=10, or mend the network in model.actor"
            )


def check_actions(collected: TensorDictBase, groups: Sequence[GroupSpec], frames: int) -> None:
    """Raise unless every living agent of a group with an action mask has a legal action, and takes one.

    Args:
        collected: ``[E, T]``.
        groups: whose actions; those without an action mask are not checked.
        frames: collected before this batch.

    Raises:
        RunFailedError: naming group, agent, environment and step of the first that has none, or takes another.
    """
    for group in groups:
        if not group.has_action_mask or group.choices is None:
            continue
        key, sizes = (group.name, "action_mask"), group.choices.sizes or ()
        for state, acts, where in _states(collected, group):
            found = first_agent(agents_without_choice(state.get(key), acts, sizes))
            if found is not None:
                (env, step), agent = found
                rule = f"have a legal action in {_place(env, step, where, frames)}"
                raise RunFailedError(action_error(group.name, agent, rule, "none", "check the action mask"))
        action, mask = collected.get(group.action_keys[-1]), collected.get(key)
        vectors = group.choices.one_hot(action, mask.shape[:-1], sizes, mask.dtype)
        found = first_agent(agents_with_illegal_action(vectors, mask, alive_agents(collected, group)))
        if found is not None:
            (env, step), agent = found
            rule = f"take a legal action in {_place(env, step, '', frames)}"
            got = action[env, step, agent].tolist()
            raise RunFailedError(action_error(group.name, agent, rule, got, "check the action mask"))


def _states(collected: TensorDictBase, group: GroupSpec) -> Iterator[tuple[TensorDictBase, Tensor, str]]:
    """The current and the next state, and the agents that act there, bool ``[E, T, N]``."""
    alive = alive_agents(collected, group)
    yield collected, alive, ""
    # Nothing is read of an agent that terminated; after a truncation the next state still is.
    flags = read_next_signal(collected, (group.name, "terminated"), group.name, "terminated")
    ended = expand_to_agents(flags, collected.batch_size, group.n_agents, name="terminated").squeeze(-1)
    yield collected.get("next"), alive & ~ended, "after "


def _place(env: int, step: int, where: str, frames: int) -> str:
    return f"environment {env}, {where}step {step} of the batch that begins at frame {frames}"
