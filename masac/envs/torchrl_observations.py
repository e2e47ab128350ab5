"""Checks of multi-agent TorchRL environments, and their observations as vectors and images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase, Transform, TransformedEnv

from masac.errors import ConfigError
from masac.groups import reaches_255
from masac.images import MIN_SIDE, image_name, is_image, is_image_name

MAX_FEATURES = 20_000
"""Longer vectors are too large for a dense layer."""


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
    """``env`` with :class:`VectorObservations`; itself if its observations are float32 vectors already.

    Raises:
        ConfigError: for a vector too long to learn from.
    """
    transform = VectorObservations(env)
    for group, spec in transform.vectors(env.full_observation_spec).items():
        _check_features(group, spec.shape[-1], name, has_images=bool(transform.images[group]))
    return TransformedEnv(env, transform) if transform.needed else env


def check_size(observations: Composite, name: str) -> None:
    """Raise :class:`ConfigError` for observation vectors too long to learn from, or empty ones.

    Args:
        observations: specs of vectors at ``(group, "observation")``.
        name: the override that names the environment.
    """
    for group, entries in observations.items():
        if isinstance(entries, Composite) and "observation" in entries.keys():  # noqa: SIM118  a spec is no dict
            has_images = any(map(is_image_name, map(str, entries.keys())))
            _check_features(str(group), entries["observation"].shape[-1], name, has_images=has_images)


def _check_features(group: str, size: int, name: str, *, has_images: bool) -> None:
    if not (0 if has_images else 1) <= size <= MAX_FEATURES:
        raise ConfigError(
            f"an observation must have 1 to {MAX_FEATURES:,} features beside its images; that of group {group!r} of "
            f"{name} has {size:,}. Unsigned bytes or floats [height, width, channels], at least {MIN_SIDE} high and "
            "wide, are an image, which convolutions read (model.cnn): give it that shape in a task.factory of your "
            "own, or choose another kind of observation in task.kwargs."
        )


class VectorObservations(Transform):
    """Everything below ``(group, "observation")`` as one vector per agent, ``[*B, N, F]`` in float32, and images.

    Images (see :func:`masac.images.is_image`) become entries of the group, as they are. The other leaves of an
    observation (nested ones in the order of their keys) are flattened, cast to float32 and concatenated. Unsigned bytes
    up to 255 are divided by 255, and a choice becomes a one-hot vector.

    Args:
        env: its observations have an agent axis.

    Attributes:
        leaves: the parts of each group's vector, by path.
        images: the paths of each group's images, by the name of their entry.
    """

    def __init__(self, env: EnvBase) -> None:
        super().__init__()
        self.n_batch_dims = len(env.batch_size)
        self.leaves: dict[str, dict[tuple[str, ...], TensorSpec]] = {}
        self.images: dict[str, dict[str, tuple[str, ...]]] = {}
        for group in map(str, env.full_action_spec.keys()):
            vector, images = self.leaves.setdefault(group, {}), self.images.setdefault(group, {})
            for path, spec in _leaves(env.full_observation_spec):
                if path[:2] == (group, "observation"):
                    if is_image(spec.shape[self.n_batch_dims + 1 :], _dtype_name(spec)):
                        images[image_name(path[2:], images)] = path
                    else:
                        vector[path] = spec

    @property
    def needed(self) -> bool:
        """Whether any observation is not a float32 vector."""
        return any(self.images.values()) or any(
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
            images = {name: observation_spec[path] for name, path in self.images[group].items()}
            for name, image in images.items():
                observation_spec[group, name] = image
            observation_spec[group, "observation"] = spec
        return observation_spec

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        for group in self.leaves:
            vector = self._vector(next_tensordict, group)
            for name, path in self.images[group].items():
                next_tensordict.set((group, name), next_tensordict.get(path))
            next_tensordict.set((group, "observation"), vector)
        return next_tensordict

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)

    def _vector(self, data: TensorDictBase, group: str) -> Tensor:
        parts = [self._part(data.get(path), spec) for path, spec in self.leaves[group].items()]
        if not parts:
            image = data.get(next(iter(self.images[group].values())))
            return torch.zeros(*image.shape[: self.n_batch_dims + 1], 0, device=image.device)
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
        return 255.0 if spec.dtype == torch.uint8 and reaches_255(spec) else 1.0


def _dtype_name(spec: TensorSpec) -> str:
    return str(spec.dtype).removeprefix("torch.")


def _leaves(spec: Composite, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TensorSpec]]:
    for key, part in spec.items():
        if isinstance(part, Composite):
            yield from _leaves(part, (*path, str(key)))
        elif part is not None:
            yield (*path, str(key)), part


def _shapes(spec: Composite) -> dict[tuple[str, ...], list[int]]:
    return {path: list(leaf.shape) for path, leaf in _leaves(spec)}
