"""Checks of multi-agent TorchRL environments, and their observations as vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
from torchrl.data.tensor_specs import ContinuousBox
from torchrl.envs import EnvBase, Transform, TransformedEnv

from masac.errors import ConfigError

MAX_FEATURES = 20_000
"""Longer observations are images, which are too large for a dense layer."""


def check_groups(env: EnvBase, name: str) -> None:
    """Raise :class:`ConfigError` unless every group has actions and observations with an agent axis.

    Args:
        env: one environment or a batch.
        name: the override that names it.
    """
    actions, observations = env.full_action_spec_unbatched, env.full_observation_spec_unbatched
    for group in list(actions.keys()):
        leaves = [spec for path, spec in _leaves(actions) if path == (group, "action")]
        seen = [spec for path, spec in _leaves(observations) if path[:2] == (group, "observation")]
        sizes = {tuple(spec.shape[:1]) for spec in leaves + seen}
        if not leaves or not seen or len(sizes) != 1 or () in sizes:
            raise ConfigError(
                f"{name} must make a multi-agent environment, with actions [N, ...] at (group, 'action') and "
                f"observations [N, ...] at (group, 'observation') for groups of N agents; got actions "
                f"{_shapes(actions)} and observations {_shapes(observations)}. Group them in your own task.factory."
            )


def with_vectors(env: EnvBase, name: str) -> EnvBase:
    """``env`` with :class:`VectorObservations`; itself if its observations are float32 vectors.

    Raises:
        ConfigError: for a vector too long to learn from.
    """
    transform = VectorObservations(env)
    for group, spec in transform.vectors(env.full_observation_spec).items():
        _check_features(group, spec.shape[-1], name)
    return TransformedEnv(env, transform) if transform.needed else env


def check_size(observations: Composite, name: str) -> None:
    """Raise :class:`ConfigError` for observation vectors too long to learn from, or empty ones.

    Args:
        observations: specs of vectors at ``(group, "observation")``.
        name: the override that names the environment.
    """
    for group, entries in observations.items():
        if isinstance(entries, Composite) and "observation" in entries.keys():  # noqa: SIM118  a spec is no dict
            _check_features(str(group), entries["observation"].shape[-1], name)


def _check_features(group: str, size: int, name: str) -> None:
    if not 1 <= size <= MAX_FEATURES:
        raise ConfigError(
            f"an observation must have 1 to {MAX_FEATURES:,} features; that of group {group!r} of {name} has "
            f"{size:,}. Shrink images in a task.factory of your own, with SuperSuit's resize_v1 and "
            "color_reduction_v0 for example, or choose another kind of observation in task.kwargs."
        )


class VectorObservations(Transform):
    """Everything below ``(group, "observation")`` as one vector per agent, ``[*B, N, F]`` in float32.

    The leaves of an observation (nested ones in the order of their keys) are flattened, cast to float32 and
    concatenated. Unsigned bytes up to 255 (images) are divided by 255, and a choice becomes a one-hot vector.

    Args:
        env: its observations have an agent axis.
    """

    def __init__(self, env: EnvBase) -> None:
        super().__init__()
        self.n_batch_dims = len(env.batch_size)
        self.leaves: dict[str, dict[tuple[str, ...], TensorSpec]] = {}
        for group in map(str, env.full_action_spec.keys()):
            self.leaves[group] = {
                path: spec for path, spec in _leaves(env.full_observation_spec) if path[:2] == (group, "observation")
            }

    @property
    def needed(self) -> bool:
        """Whether any observation is not a float32 vector."""
        return any(
            list(leaves) != [(group, "observation")]
            or any(spec.dtype != torch.float32 or spec.ndim != self.n_batch_dims + 2 for spec in leaves.values())
            for group, leaves in self.leaves.items()
        )

    def vectors(self, spec: Composite) -> dict[str, TensorSpec]:
        """The specs of the vectors, by group."""
        zero = spec.zero()
        out: dict[str, TensorSpec] = {}
        for group in self.leaves:
            vector = self._vector(zero, group)
            out[group] = Unbounded(vector.shape, dtype=torch.float32, device=spec.device)
        return out

    def transform_observation_spec(self, observation_spec: TensorSpec) -> TensorSpec:
        """The observation spec with vectors."""
        assert isinstance(observation_spec, Composite)
        observation_spec = observation_spec.clone()
        for group, spec in self.vectors(observation_spec).items():
            observation_spec[group, "observation"] = spec
        return observation_spec

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        for group in self.leaves:
            next_tensordict.set((group, "observation"), self._vector(next_tensordict, group))
        return next_tensordict

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)

    def _vector(self, data: TensorDictBase, group: str) -> Tensor:
        parts = [self._part(data.get(path), spec) for path, spec in self.leaves[group].items()]
        return torch.cat(parts, dim=-1)

    def _part(self, value: Tensor, spec: TensorSpec) -> Tensor:
        lead = value.shape[: self.n_batch_dims + 1]
        if self.is_choice(spec):
            value = F.one_hot(value.long(), int(cast(Categorical, spec).space.n))
        value, divisor = value.reshape(*lead, -1).float(), self.divisor(spec)
        return value if divisor == 1 else value / divisor

    @staticmethod
    def is_choice(spec: TensorSpec) -> bool:
        """Whether a leaf becomes a one-hot vector."""
        return isinstance(spec, Categorical) and spec.dtype != torch.bool

    @staticmethod
    def divisor(spec: TensorSpec) -> float:
        """The divisor of the numbers of a leaf."""
        space = spec.space
        is_image = spec.dtype == torch.uint8 and isinstance(space, ContinuousBox) and bool((space.high == 255).any())
        return 255.0 if is_image else 1.0


def _leaves(spec: Composite, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TensorSpec]]:
    for key, part in spec.items():
        if isinstance(part, Composite):
            yield from _leaves(part, (*path, str(key)))
        elif part is not None:
            yield (*path, str(key)), part


def _shapes(spec: Composite) -> dict[tuple[str, ...], list[int]]:
    return {path: list(leaf.shape) for path, leaf in _leaves(spec)}
