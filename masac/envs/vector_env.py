"""Many single environments as one TorchRL environment with a batch axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import ActionMask, EnvBase

from masac.envs.arrays import NO_SEED, Arrays
from masac.envs.episode import STEP_COUNT, Episode
from masac.envs.pettingzoo.encoding import ACTION_MASK
from masac.envs.single_environment import EnvironmentSpecs, Key, SingleEnvironment


class Stepper(Protocol):
    """Steps the environments whose entries are in arrays, in this process or in others."""

    def step(self, *, resets: bool) -> None:
        """Step all environments; with ``resets`` those whose episode is over begin another, or rest."""
        ...

    def begin(self) -> None:
        """Begin an episode where ``arrays.begins`` is True, with ``arrays.seeds``."""
        ...

    def close(self) -> None:
        """Close the environments."""
        ...


class EpisodeStepper:
    """Steps environments of this process one after another.

    Args:
        arrays: of all environments.
        episodes: of those that are stepped here.
        first: the index of the first of them in the arrays.
    """

    def __init__(self, arrays: Arrays, episodes: Sequence[Episode], *, first: int = 0) -> None:
        self._arrays, self.episodes, self._first = arrays, episodes, first

    def step(self, *, resets: bool) -> None:
        """Step them."""
        for index, episode in enumerate(self.episodes, start=self._first):
            self._arrays.over[index] = over = episode.step()
            if over and resets:
                self._begin(index, episode)

    def begin(self) -> None:
        """Begin episodes where that is asked for."""
        for index, episode in enumerate(self.episodes, start=self._first):
            if self._arrays.begins[index]:
                self._begin(index, episode)

    def close(self) -> None:
        """Close the environments."""
        episodes, self.episodes = self.episodes, []
        with ExitStack() as stack:  # all of them, also if one raises
            for episode in episodes:
                stack.callback(episode.environment.close)

    def _begin(self, index: int, episode: Episode) -> None:
        """Begin an episode, with a new seed if one was set since the last one."""
        seed, self._arrays.seeds[index] = int(self._arrays.seeds[index]), NO_SEED
        episode.begin(None if seed == NO_SEED else seed)


class VectorEnv(EnvBase):
    """E environments stepped side by side, as a TorchRL environment of batch size ``[E]``.

    Environments write into NumPy arrays, which become tensors once per step. :meth:`step_and_maybe_reset` begins new
    episodes where one is over, and keeps the terminal observations in ``next``.

    Args:
        specs: of one environment.
        num_envs: E.
        arrays: with the entries of the environments.
        stepper: steps them.
        horizon: steps after which an episode is truncated, for every agent; None leaves its end to the environments.
        device: of the tensors; environments compute on the CPU.

    Attributes:
        group_map: the names of the agents of each group, in order; empty where the environments do not say.
        stepper: steps the environments.
    """

    def __init__(
        self,
        specs: EnvironmentSpecs,
        num_envs: int,
        *,
        arrays: Arrays,
        stepper: Stepper,
        horizon: int | None,
        device: str = "cpu",
    ) -> None:
        super().__init__(device=torch.device(device), batch_size=torch.Size([num_envs]))
        self.is_closed = False
        self.group_map, self.stepper, self._arrays = specs.agents, stepper, arrays
        observation = specs.observation.clone()
        if horizon is not None:
            observation[STEP_COUNT] = Unbounded(torch.Size([1]), dtype=torch.int64)
        batched = {
            name: spec.expand(torch.Size([num_envs])).to(self.device)
            for name, spec in (
                ("observation", observation),
                ("action", specs.action),
                ("reward", specs.reward),
                ("done", specs.done),
            )
        }
        self.observation_spec, self.action_spec = batched["observation"], batched["action"]
        self.reward_spec, self.done_spec = batched["reward"], batched["done"]
        self._state = _Tree.of(batched["observation"], batched["done"])
        self._returned = _Tree.of(batched["observation"], batched["reward"], batched["done"])
        self._stepped = False  # since `current` was complete
        self._masks = {
            key: (key[0], ACTION_MASK)
            for key in arrays.actions
            if (key[0], ACTION_MASK) in arrays.current and isinstance(batched["action"][key], ActionMask.ACCEPTED_SPECS)
        }

    @classmethod
    def of(
        cls,
        environments: Sequence[SingleEnvironment],
        *,
        horizon: int | None = None,
        rests: bool = False,
        device: str = "cpu",
    ) -> VectorEnv:
        """Environments of equal specs, stepped in this process.

        Args:
            environments: E of them.
            horizon: steps after which an episode is truncated; None leaves its end to the environments.
            rests: whether environments rest once their episode is over (:class:`~masac.envs.episode.Episode`).
            device: of the tensors.
        """
        specs, num_envs = environments[0].specs, len(environments)
        arrays = Arrays(specs, num_envs, counts_steps=horizon is not None)
        episodes = [arrays.episode(index, one, horizon=horizon, rests=rests) for index, one in enumerate(environments)]
        stepper = EpisodeStepper(arrays, episodes)
        return cls(specs, num_envs, arrays=arrays, stepper=stepper, horizon=horizon, device=device)

    @property
    def raw(self) -> Any:
        """The first environment as its library has it; None where others step it."""
        return self.stepper.episodes[0].environment.raw if isinstance(self.stepper, EpisodeStepper) else None

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """A step of all environments, and the first states of those whose episode is over."""
        returned = self._advance(tensordict, resets=True)
        tensordict.set("next", self._returned.fill(returned))
        return tensordict, self._state.fill(self._current() if self._arrays.over.any() else returned)

    def rand_action(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        """Random actions, legal ones where ``tensordict`` has action masks."""
        tensordict = TensorDict({}, self.batch_size, device=self.device) if tensordict is None else tensordict
        for key in self._arrays.actions:
            spec = self.full_action_spec[key]
            if key in self._masks and (mask := tensordict.get(self._masks[key], None)) is not None:
                spec = spec.clone()
                cast(Any, spec).update_mask(mask)
            tensordict.set(key, spec.rand())
        return tensordict

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environments; nothing happens the second time."""
        if not self.is_closed:
            self.stepper.close()
            super().close(raise_if_closed=raise_if_closed)

    # -- what TorchRL calls -------------------------------------------------------------------------------------------

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        returned = self._advance(tensordict, resets=False)
        self._arrays.over[:] = False  # none has begun another episode
        return self._returned.fill(returned)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        which = None if tensordict is None else tensordict.get("_reset", None)
        self._arrays.begins[:] = True if which is None else which.flatten(1).any(-1).cpu().numpy()
        self._refresh_current()
        self.stepper.begin()
        return self._state.fill(self._as_tensors(self._arrays.current))

    def _set_seed(self, seed: int | None) -> None:
        """Seed each environment with a seed of its own, at its next reset, which then begins an episode."""
        if seed is not None:
            self._arrays.seeds[:] = np.random.SeedSequence(seed).generate_state(self.batch_size[0])

    # -- data ---------------------------------------------------------------------------------------------------------

    def _advance(self, tensordict: TensorDictBase, *, resets: bool) -> dict[Key, Tensor]:
        """Step all environments; what they returned, as tensors."""
        for key, array in self._arrays.actions.items():
            np.copyto(array, tensordict.get(key).detach().cpu().numpy())
        self.stepper.step(resets=resets)
        self._stepped = True
        return self._as_tensors(self._arrays.following)

    def _current(self) -> dict[Key, Tensor]:
        """What the next step begins with where some environments have begun an episode."""
        self._refresh_current()
        return self._as_tensors(self._arrays.current)

    def _refresh_current(self) -> None:
        """Copy what the last step returned to where the next one begins, except where an episode has begun since."""
        if self._stepped:
            goes_on = ~self._arrays.over
            for key, current in self._arrays.current.items():
                current[goes_on] = self._arrays.following[key][goes_on]
            self._stepped = False

    def _as_tensors(self, arrays: Mapping[Key, np.ndarray[Any, Any]]) -> dict[Key, Tensor]:
        """Copies, as the arrays are written to again."""
        tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
        return tensors if self.device == torch.device("cpu") else {k: v.to(self.device) for k, v in tensors.items()}


@dataclass(frozen=True)
class _Tree:
    """The nesting of a TensorDict, known from specs: which entry belongs where, and the batch sizes.

    Args:
        batch_size: of this level.
        device: of the tensors.
        entries: by name, the keys of the tensors here.
        below: by name, the levels below.
    """

    batch_size: torch.Size
    device: torch.device | None
    entries: dict[str, Key] = field(default_factory=dict)
    below: dict[str, _Tree] = field(default_factory=dict)

    @classmethod
    def of(cls, *specs: Composite, path: Key = ()) -> _Tree:
        """The nesting of data that has all entries of some specs."""
        tree = cls(specs[0].shape, cast("torch.device | None", specs[0].device))
        levels: dict[str, list[Composite]] = {}
        for spec in specs:
            for name, part in spec.items():
                if isinstance(part, Composite):
                    levels.setdefault(str(name), []).append(part)
                else:
                    tree.entries[str(name)] = (*path, str(name))
        tree.below.update({name: cls.of(*parts, path=(*path, name)) for name, parts in levels.items()})
        return tree

    def fill(self, tensors: Mapping[Key, Tensor]) -> TensorDict:
        """The tensors as a TensorDict."""
        content: dict[str, Any] = {name: tensors[key] for name, key in self.entries.items()}
        content |= {name: tree.fill(tensors) for name, tree in self.below.items()}
        return TensorDict(content, self.batch_size, device=self.device)
