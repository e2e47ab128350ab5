"""What acts for groups in place of actors that learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded

from masac.actions.validation import agents_with_illegal_action, agents_without_action, first_agent
from masac.errors import ConfigError
from masac.group_signals import alive_agents
from masac.groups import GroupSpec, action_bounds
from masac.named_objects import find_object
from masac.networks.memory import GroupMemory
from masac.process.tracebacks import first_line, report_of
from masac.training.policies.policy import Opponent, Policy
from masac.training.policies.policy_files import PolicyFile


class FrozenOpponent(Opponent):
    """Acts as a group of another policy does.

    Args:
        group: that it acts for.
        policy: the other policy.
        plays: the name of the group in the other policy.
        described: what it is, in words.
        file: that the other policy was read from.
    """

    def __init__(
        self, group: GroupSpec, policy: Policy, plays: str, described: str = "frozen", file: PolicyFile | None = None
    ) -> None:
        self.group, self.plays, self.described, self.file = group, plays, described, file
        self.policy = policy.of_group(plays)
        self._opponent = self.policy.opponents.get(plays)  # that acts for the group in the other policy, too
        self.memory = memory_of(self.policy, plays) if self._opponent is None else self._opponent.memory

    def __call__(self, state: TensorDictBase) -> Tensor:
        """The actions of the other policy."""
        seen, entry = seen_as(self.plays, self.group, state), "memory"
        if self._opponent is None:
            action = self.policy.groups[0].whole_action(self.policy(seen))
        else:
            action, entry = self._opponent(seen), "opponent_memory"
        if self.memory is not None:
            state.set((self.group.name, "opponent_memory_after"), seen.get((self.plays, f"{entry}_after")))
        return action

    def to(self, device: str) -> None:
        """Move the networks."""
        self.policy.to(device)


class ScriptedOpponent(Opponent):
    """Acts by a user's function, whose actions are checked.

    The function gets the observations ``[E, N, F]`` of the group, as a tensor, and, where the group has them, action
    masks (the keyword ``action_mask``, bool ``[E, N, D]``) and images (by their names). It returns actions
    ``[E, N, ...]`` in the form of the group's action spec: floats within the bounds, or the numbers of choices; of
    hybrid actions the numbers of choices after the floats.

    Args:
        group: that it acts for.
        name: ``package.module:function``.
    """

    def __init__(self, group: GroupSpec, name: str) -> None:
        self.group, self.described = group, f"scripted: {name}"
        self.key = f"training.opponents.{group.name}"
        self.function: Callable[..., Any] = find_object(name, self.key)
        if not callable(self.function):
            raise ConfigError(f"{self.key} must name a function; got {name!r}, which is {self.function!r}.")

    def __call__(self, state: TensorDictBase) -> Tensor:
        """The actions of the function.

        Raises:
            ConfigError: if they have another shape, are out of bounds, or forbidden by an action mask.
        """
        observation, spec = state.get(self.group.observation_key), self.group.action_spec
        others = {name: state.get((self.group.name, name)) for name in self.group.seen if name != "observation"}
        returned, mask = self._call(observation, others), others.get("action_mask")
        hybrid = self.group.discrete_part
        width = [self.group.continuous_dim + len(hybrid.sizes or ())] if hybrid else spec.shape[1:]
        shape = [*state.batch_size, self.group.n_agents, *width]
        try:
            actions = torch.as_tensor(returned, device=observation.device)
        except (TypeError, ValueError, RuntimeError):
            raise self._wrong(f"return a tensor or array of shape {shape}", type(returned).__name__) from None
        if list(actions.shape) != shape:
            raise self._wrong(f"return actions of shape {shape}", list(actions.shape))
        if self.group.discrete is not None and actions.is_floating_point():
            raise self._wrong("return whole numbers, the choices", actions.dtype)
        actions = actions.to(spec.dtype)
        parts = list(self.group.split_action(actions).values())
        if hybrid and bool((actions[..., self.group.continuous_dim :] != parts[1]).any()):
            raise self._wrong("return whole numbers, the choices, after the continuous part", actions.dtype)
        if not spec.expand(parts[0].shape).is_in(parts[0]):
            got = f"{actions.min():g} to {actions.max():g}"
            raise self._wrong(f"return actions within their bounds ({self._bounds()})", got)
        choices = self.group.choices
        if choices is not None and (mask is not None or hybrid):
            sizes, alive = choices.sizes or (), alive_agents(state, self.group)
            vectors = choices.one_hot(parts[-1], (*state.batch_size, self.group.n_agents), sizes, torch.bool)
            legal = torch.ones_like(vectors) if mask is None else mask
            missing = agents_without_action(vectors, alive, sizes)  # the number of no choice
            found = first_agent(agents_with_illegal_action(vectors, legal, alive) | missing)
            if found is not None:
                (*row, _), agent = (*found[0], 0), found[1]
                raise self._wrong("return choices that the action mask allows", actions[(*row, agent)].tolist())
        return actions

    def _call(self, observation: Tensor, others: dict[str, Tensor]) -> Any:
        try:
            return self.function(observation, **others)
        except Exception as error:
            got, trace = f"{type(error).__name__}: {first_line(error)}", report_of(error).traceback
            raise ConfigError(
                f"{self.key} ({self.described}) must not fail; got {got}. Fix the function", traceback=trace
            ) from error

    def _bounds(self) -> str:
        if not isinstance(self.group.action_spec, Bounded):
            return self.group.actions
        low, high = action_bounds(self.group.action_spec)
        return f"{low.min():g} and {high.max():g}"

    def _wrong(self, rule: str, got: object) -> ConfigError:
        return ConfigError(f"{self.key} ({self.described}) must {rule}; got {got}. Fix the function")


def seen_as(plays: str, group: GroupSpec, state: TensorDictBase) -> TensorDict:
    """The state of a group under the name of another one, with the memory of the opponent that acts for it."""
    entries = {entry: state.get((group.name, entry)) for entry in group.seen}
    if (memory := state.get((group.name, "opponent_memory"), None)) is not None:
        # That of an actor there, which must be told that it belongs to this state, or of an opponent there.
        carried = torch.ones_like(memory[..., :1], dtype=torch.bool)
        entries |= {
            "memory": memory,
            "carried": carried,
            "opponent_memory": memory,
        }
    return TensorDict({plays: entries}, state.batch_size)


def memory_of(policy: Policy, group: str) -> GroupMemory | None:
    """The memory of a group's actor in a policy; None without one."""
    return cast(GroupMemory, policy.memories[group]) if group in policy.memories else None
