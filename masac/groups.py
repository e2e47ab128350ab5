"""The groups of agents of a TorchRL environment, read from its specs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, StackedComposite, TensorSpec
from torchrl.data.tensor_specs import ContinuousBox
from torchrl.envs import EnvBase

from masac.actions.discrete import DiscreteActions, read_discrete_actions
from masac.errors import ConfigError
from masac.images import ImageSpec, is_image, is_image_name
from masac.keys import as_path

DISCRETE_ACTION = "discrete_action"
"""The entry of the discrete part of a hybrid action."""

TAKEN_NAMES = frozenset(
    (
        *("next", "collector", "done", "terminated", "truncated", "reward", "mask", "action", "observation", "state"),
        *("step_count", "index", "td_error", "priority_weight", "train", "eval", "buffer", "collect", "time"),
    )
)
"""Names that a group must not have: other entries in collected data, and columns of metrics.csv."""


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """One group of agents.

    Args:
        name: key of the group's entries in a TensorDict.
        n_agents: N.
        observation_dim: features of one agent's observation vector; 0 where it observes images alone.
        images: that one agent observes beside the vector.
        action_spec: the group's action, ``[N, ...]``, without the environment's batch.
        discrete: the encoding of a discrete action; None for a continuous one.
        discrete_part: the choices of a hybrid action beside ``action_spec``, its continuous part; None for others. They
            are at ``(name, "discrete_action")``, one index per factor, ``[*B, N, K]``.
        has_action_mask: whether the environment has an action mask, at ``(name, "action_mask")``.
    """

    name: str
    n_agents: int
    observation_dim: int
    action_spec: TensorSpec
    discrete: DiscreteActions | None
    has_action_mask: bool
    images: tuple[ImageSpec, ...] = ()
    discrete_part: DiscreteActions | None = None

    @property
    def choices(self) -> DiscreteActions | None:
        """The encoding of a discrete action, or of the discrete part of a hybrid one."""
        return self.discrete or self.discrete_part

    @property
    def valued_choices(self) -> int | None:
        """How many discrete actions a critic values: those of all factors, or all combinations of a hybrid one."""
        if self.choices is None:
            return None
        sizes = self.choices.sizes or ()
        return sum(sizes) if self.discrete_part is None else prod(sizes)

    @property
    def continuous_dim(self) -> int:
        """Dimensions of one agent's continuous action, or of the continuous part of a hybrid one."""
        return 0 if self.discrete is not None else self.action_spec.shape[-1]

    @property
    def action_features(self) -> int:
        """Features of one agent's action for a critic: its dimensions, then the choices of all its factors."""
        return self.continuous_dim + (sum(self.choices.sizes or ()) if self.choices is not None else 0)

    @property
    def action_keys(self) -> list[NestedKey]:
        """The keys of the action; of a hybrid one, of its continuous and then of its discrete part."""
        names = ("action",) if self.discrete_part is None else ("action", DISCRETE_ACTION)
        return [(self.name, name) for name in names]

    def split_action(self, action: Tensor) -> dict[NestedKey, Tensor]:
        """The entries of an action ``[*B, N, ...]``, in which the indices of a hybrid one follow its dimensions."""
        if self.discrete_part is None:
            return {(self.name, "action"): action}
        continuous, indices = action.split([self.continuous_dim, len(self.discrete_part.sizes or ())], -1)
        return dict(zip(self.action_keys, (continuous, indices.round().long()), strict=True))

    def whole_action(self, data: TensorDictBase) -> Tensor:
        """The action in data of batch size ``*B``, ``[*B, N, ...]``: what :meth:`split_action` splits."""
        parts = [data.get(key) for key in self.action_keys]
        return parts[0] if len(parts) == 1 else torch.cat([parts[0], parts[1].to(parts[0].dtype)], -1)

    @property
    def actions(self) -> str:
        """The actions of one agent in words: their encoding, and the number of dimensions or of choices."""
        parts = [f"continuous {list(self.action_spec.shape[1:])}"] if self.discrete is None else []
        if self.choices is not None:
            parts.append(f"{self.choices.encoding} {list(self.choices.sizes or ())}")
        return " and ".join(parts)

    @property
    def bounds(self) -> str | None:
        """The bounds of the continuous actions in words; None for discrete actions."""
        if self.discrete is not None or not isinstance(self.action_spec, Bounded):
            return None
        return _in_words(*action_bounds(self.action_spec))

    @property
    def observations(self) -> str:
        """What one agent observes in words: the features of its vector, and its images."""
        vector = [f"{self.observation_dim} features"] if self.observation_dim or not self.images else []
        images = [f"{image.name} of {' x '.join(map(str, image.shape))} {image.dtype}" for image in self.images]
        return ", ".join([*vector, *images])

    @property
    def observation_key(self) -> NestedKey:
        """The key of the observation vectors ``[*B, N, F]``."""
        return (self.name, "observation")

    @property
    def seen(self) -> list[str]:
        """The names of the entries of a state that a policy sees."""
        masks = ["action_mask"] if self.has_action_mask else []
        return ["observation", *(image.name for image in self.images), *masks]

    @property
    def image_keys(self) -> list[NestedKey]:
        """The keys of the images ``[*B, N, *shape]``."""
        return [(self.name, image.name) for image in self.images]


def read_groups(env: EnvBase) -> list[GroupSpec]:
    """The groups of a TorchRL multi-agent environment: the composites of its action spec.

    Raises:
        ConfigError: if agents of one group differ in observation or action, an observation is not a vector, bounds of
            actions are not finite, or a group has a reserved name.
    """
    actions = env.full_action_spec_unbatched
    for name in actions:
        if not isinstance(actions[name], Composite):
            raise ConfigError(
                f"the environment must have the actions of its groups at (group, 'action'); got one at {name!r}. "
                "Use a multi-agent environment, or put its only agent into a group with an agent axis of size 1."
            )
    return [_read_group(env, name) for name in actions]


def group_name(group: NestedKey) -> str:
    """A group's key as one name for a module, an entry of losses and a metric.

    Raises:
        ValueError: for a reserved name.
    """
    name = "_".join(as_path(group))
    if not _names_a_module(name):
        raise ValueError(
            f"a group must have a name without a dot that is neither 'loss' nor a method of modules; got {name!r}. "
            "Rename the group in the environment."
        )
    return name


def check_group_name(name: str, agents: Sequence[object] = ()) -> None:
    """Raise :class:`~masac.errors.ConfigError` unless an environment's group may be called ``name``.

    Args:
        name: of modules, entries of data, columns of metrics and parts of file names.
        agents: its agents, if they have names.
    """
    if _names_a_module(name) and name not in TAKEN_NAMES and not set(name) & set("/\\"):
        return
    if agents:
        raise ConfigError(
            f"agents must have names with a part before the number that is not reserved: data, modules or metrics use "
            f"{name!r} for something else; got {', '.join(map(str, agents))}. Rename them in the environment, for "
            f"example {name}_agent_0."
        )
    raise ConfigError(
        "a group must have a name without dots and slashes that data, modules and metrics do not use for something "
        f"else; got {name!r}. Rename it in the environment, for example {_plain(name)}_agents."
    )


def _names_a_module(name: str) -> bool:
    return bool(name) and name != "loss" and "." not in name and not hasattr(nn.ModuleDict(), name)


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)


def action_bounds(spec: Bounded) -> tuple[Tensor, Tensor]:
    """The lowest and highest actions of a bounded spec, of its shape."""
    space = spec.space
    assert isinstance(space, ContinuousBox)
    return space.low, space.high


def check_bounds(spec: TensorSpec, group: NestedKey) -> None:
    """Raise :class:`ConfigError` unless continuous actions have bounds a finite distance apart, in their dtype."""
    got = "none"
    if isinstance(spec, Bounded) and spec.dtype.is_floating_point:
        low, high = action_bounds(spec)
        width = high - low
        if bool(((width > 0) & width.isfinite()).all()):
            return
        got = _in_words(low, high)
    elif isinstance(spec, Bounded):
        got = f"whole numbers ({spec.dtype})"
    raise ConfigError(
        f"actions of group {group!r} must be discrete, or floats with finite bounds, low below high, a finite distance "
        f"apart; got bounds: {got}. Change them where the environment is made (a Box in a task.factory, u_range in a "
        "VMAS scenario), or leave out a dimension that cannot move."
    )


def _read_group(env: EnvBase, name: str) -> GroupSpec:
    actions = env.full_action_spec_unbatched[name]
    observations = env.full_observation_spec_unbatched[name]
    if isinstance(observations, StackedComposite) or isinstance(actions, StackedComposite):
        raise ConfigError(
            f"the agents of group {name!r} must have equal observations and actions; got different shapes. "
            "Put agents that differ into groups of their own."
        )
    check_group_name(name)
    assert isinstance(observations, Composite)
    action, observation = actions["action"], observations["observation"]
    n_agents = action.shape[0]
    if len(observation.shape) != 2:
        raise ConfigError(
            f"observations of group {name!r} must be vectors, [{n_agents}, F]; got shape {list(observation.shape)}. "
            "Flatten them in the environment."
        )
    discrete, part = read_discrete_actions(action), None
    if discrete is None:
        check_bounds(action, name)
    if DISCRETE_ACTION in actions.keys():  # noqa: SIM118  a spec is no dict
        part = _read_discrete_part(actions[DISCRETE_ACTION], discrete, name)
    return GroupSpec(
        name=name,
        n_agents=n_agents,
        observation_dim=observation.shape[-1],
        action_spec=action,
        discrete=discrete,
        has_action_mask="action_mask" in observations.keys(),  # noqa: SIM118  a spec is no dict
        images=_read_images(observations),
        discrete_part=part,
    )


def _read_discrete_part(spec: TensorSpec, action: DiscreteActions | None, name: str) -> DiscreteActions:
    """The encoding of the discrete part of a hybrid action."""
    part = read_discrete_actions(spec)
    if action is not None or part is None or part.encoding != "multi-discrete":
        raise ConfigError(
            f"a hybrid action of group {name!r} must have its continuous part at 'action' and the choices of all "
            f"factors at {DISCRETE_ACTION!r}, a MultiCategorical [N, K]; got {type(spec).__name__} of shape "
            f"{list(spec.shape)}{' beside a discrete action' if action is not None else ''}. Change the action spec."
        )
    return part


def reaches_255(spec: TensorSpec) -> bool:
    """Whether numbers go up to 255, as in images."""
    space = spec.space
    return isinstance(space, ContinuousBox) and bool((space.high == 255).any())


def _read_images(observations: Composite) -> tuple[ImageSpec, ...]:
    """The images among the entries of a group, each ``[N, *shape]``."""
    found = []
    for name, spec in observations.items():
        shape = () if isinstance(spec, Composite) else tuple(spec.shape[1:])
        dtype = str(spec.dtype).removeprefix("torch.")
        if is_image_name(str(name)) and is_image(shape, dtype):
            divide_by = 255.0 if reaches_255(spec) else 1.0
            found.append(ImageSpec(name=str(name), shape=shape, dtype=dtype, divide_by=divide_by))
    return tuple(found)


def _in_words(low: Tensor, high: Tensor) -> str:
    return f"low {_bounds(low)}, high {_bounds(high)}"


def _bounds(bound: Tensor) -> str:
    """The bounds of one agent, if all have the same."""
    agents = bound.tolist()
    return str(agents[0] if all(agent == agents[0] for agent in agents) else agents)
