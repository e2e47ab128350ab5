"""Resetting the VMAS environments that ended in one go: states are drawn for all, those that ended get theirs.

VMAS resets all environments at once or one of them. A scenario keeps its state wherever it likes, and a reset writes
some of it; :func:`find_reset_state` learns which from a trial on copies, and tells if anything else is going on.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from vmas.simulator.environment.environment import Environment

Path = tuple[Any, ...]
"""From a scenario to something it holds: names of attributes, keys of dicts, indices of lists."""

TRIAL_ENVS = 7
"""Environments of a trial, a number that few other sizes are."""
TRIAL_RESETS = 8
"""Resets of a trial; a choice between two for all environments comes out alike in all of them once in 256 trials."""


class IrregularStateError(RuntimeError):
    """Environments of a scenario cannot be reset together."""


class FreshStates:
    """An initial state for every environment, drawn at once and handed out one by one.

    Each environment gets the state drawn in its own place. Once one ends whose state is used up, all are drawn anew.

    Args:
        scenario: whose world has E environments.
        paths: where a reset writes, of :func:`find_reset_state`; all of that are tensors ``[E, ...]``.

    Raises:
        IrregularStateError: if they are not.
    """

    def __init__(self, scenario: Any, paths: Sequence[Path]) -> None:
        self._scenario = scenario
        self._paths = tuple(paths)
        self._states: list[tuple[bool, Tensor]] = []
        self._unused = torch.zeros(scenario.world.batch_dim, dtype=torch.bool, device=scenario.world.device)
        if any(tensor.shape[:1] != self._unused.shape for tensor in self._read(self._holders())):
            raise IrregularStateError

    def cover(self, ended: Tensor) -> bool:
        """Whether there is a state for all that ended, bool ``[E]``."""
        return bool((self._unused | ~ended).all())

    def discard(self) -> None:
        """Forget all states."""
        self._unused.zero_()

    def draw(self, reset: Callable[[], None]) -> None:
        """Draw states for all environments, which themselves stay where they are.

        Args:
            reset: resets all environments.

        Raises:
            IrregularStateError: if a state is missing; nothing is changed then.
        """
        before = self._read(self._holders())
        kept = [(tensor.clone(), tensor._version) for tensor in before]
        reset()
        try:
            holders = self._holders()
            after = self._read(holders)
        except IrregularStateError:
            raise RuntimeError(
                f"resets of {type(self._scenario).__module__} must leave tensors where they did in a trial; they did "
                "not. Let reset_world_at write to the same attributes whatever is drawn."
            ) from None
        # A reset writes into a tensor or puts another one in its place; handing out a state does as the reset did.
        self._states = [
            (new is old, new.clone() if new is old else new) for old, new in zip(before, after, strict=True)
        ]
        for (holder, key), old, (value, version) in zip(holders, before, kept, strict=True):
            if old._version != version:
                old.copy_(value)
            if holder[key] is not old:
                holder[key] = old
        self._unused.fill_(True)

    def hand_out(self, ended: Tensor) -> None:
        """Put the environments that ended, bool ``[E]``, into their fresh states.

        Raises:
            IrregularStateError: if a state is missing or of another shape; nothing is changed then.
        """
        holders = self._holders()
        now = self._read(holders)
        if any(a.shape != b.shape or a.dtype != b.dtype for a, (_, b) in zip(now, self._states, strict=True)):
            raise IrregularStateError
        rows = {ndim: ended.view(-1, *[1] * (ndim - 1)) for ndim in {tensor.ndim for tensor in now}}
        merged: dict[tuple[int, int], Tensor] = {}  # what was one tensor under two names stays one
        for (holder, key), old, (in_place, fresh) in zip(holders, now, self._states, strict=True):
            same = (id(old), id(fresh))
            if same not in merged:
                merged[same] = torch.where(rows[old.ndim], fresh, old)
                if in_place:
                    old.copy_(merged[same])
            if not in_place:
                holder[key] = merged[same]
        self._unused &= ~ended

    def _holders(self) -> list[tuple[Any, Any]]:
        """What holds the states, and their names there."""
        found: dict[Path, Any] = {(): _inside(self._scenario)}
        return [(self._holder(path[:-1], found), path[-1]) for path in self._paths]

    def _holder(self, path: Path, found: dict[Path, Any]) -> Any:
        if path not in found:
            try:
                found[path] = _inside(self._holder(path[:-1], found)[path[-1]])
            except (KeyError, IndexError, TypeError):
                raise IrregularStateError from None
        return found[path]

    @staticmethod
    def _read(holders: list[tuple[Any, Any]]) -> list[Tensor]:
        try:
            values = [holder[key] for holder, key in holders]
        except (KeyError, IndexError, TypeError):
            raise IrregularStateError from None
        if not all(isinstance(value, Tensor) for value in values):
            raise IrregularStateError
        return values


@torch.no_grad()
def find_reset_state(make: Callable[[int], Environment]) -> list[Path]:
    """Where in a scenario a reset writes, found by trying.

    What must hold for :class:`FreshStates` to do as VMAS does: a reset writes to tensors with a row an environment,
    and to nothing else; what it writes does not depend on what was there; environments that get rows of a reset go on
    as if they had been reset, and the others as if nothing had happened.

    Args:
        make: makes environments of the scenario, as many as it is told, with VMAS's random numbers.

    Raises:
        IrregularStateError: if any of this does not hold, or trying it raises anything.
    """
    random_state = list(Environment.vmas_random_state)

    def make_again() -> Environment:
        Environment.vmas_random_state[:] = random_state
        return make(TRIAL_ENVS)

    try:
        return _try_resets(make_again)
    except Exception as error:  # scenarios are foreign code, which is used here in a way it may not have seen
        raise IrregularStateError(str(error)) from error
    finally:
        Environment.vmas_random_state[:] = random_state


def _try_resets(make: Callable[[], Environment]) -> list[Path]:
    stepped, fresh, mixed = make(), make(), make()
    actions = _draw_actions(stepped, seed=0)
    for env in (stepped, fresh, mixed):
        _play(env, actions)
    _play(fresh, actions)
    paths = _written_by_reset(fresh)
    states = FreshStates(mixed.scenario, paths)
    states.draw(lambda: _reset(mixed, seed=0))
    ended = torch.arange(TRIAL_ENVS, device=mixed.device) % 2 == 0
    states.hand_out(ended)
    actions = _draw_actions(stepped, seed=1)
    for before, reset, now in zip(*(_play(env, actions) for env in (stepped, fresh, mixed)), strict=True):
        if not _same(now, torch.where(ended.view(-1, *[1] * (now.ndim - 1)), reset, before)):
            raise IrregularStateError("environments must go on as if all or none had been reset")
    return paths


def _written_by_reset(env: Environment) -> list[Path]:
    """The paths of all that resets write, which must be tensors with a row an environment.

    One reset would not do: what is drawn for all environments together may come out as before.
    """
    written: dict[Path, None] = {}
    for seed in reversed(range(TRIAL_RESETS)):
        before = {path: (leaf, _snapshot(leaf)) for path, leaf in _leaves(env.scenario)}
        _reset(env, seed=seed)
        after = dict(_leaves(env.scenario))
        if before.keys() != after.keys():
            raise IrregularStateError(f"a reset must leave what there is; got {before.keys() ^ after.keys()}")
        for path, (old, (value, version)) in before.items():
            new = after[path]
            if new is old and (not isinstance(old, Tensor) or old._version == version):
                continue
            if isinstance(old, Tensor) and isinstance(new, Tensor) and _is_batch(old) and old.shape == new.shape:
                written[path] = None
            elif not _unchanged(value, new):
                raise IrregularStateError(f"a reset must write tensors [E, ...]; got {new!r} at {path}")
    return list(written)


def _is_batch(tensor: Tensor) -> bool:
    return tensor.ndim > 0 and tensor.shape[0] == TRIAL_ENVS


def _snapshot(leaf: Any) -> tuple[Any, int]:
    return (leaf.clone(), leaf._version) if isinstance(leaf, Tensor) else (leaf, 0)


def _unchanged(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape == new.shape and _same(old, new)
    return isinstance(old, numbers.Number | str) and type(old) is type(new) and old == new


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _draw_actions(env: Environment, *, seed: int) -> list[list[Tensor]]:
    """Of three steps."""
    env.seed(seed)
    return [list(env.get_random_actions()) for _ in range(3)]


def _play(env: Environment, actions: list[list[Tensor]]) -> list[Tensor]:
    """All that steps show to agents; two environments in the same state show the same."""
    env.seed(0)
    shown: list[Tensor] = []
    for step in actions:
        observations, rewards, done, _ = cast(Any, env.step([action.clone() for action in step]))
        shown += [*(tensor for _, tensor in _leaves(observations)), *rewards, done]
    return [tensor for tensor in shown if isinstance(tensor, Tensor)]


def _reset(env: Environment, *, seed: int) -> None:
    env.reset(seed=seed, return_observations=False)
    env.get_from_scenario(get_observations=True, get_rewards=False, get_infos=False, get_dones=True)


def _leaves(root: Any) -> Iterator[tuple[Path, Any]]:
    """All that an object holds, and how to get there; of what holds something itself, only mentions after the first."""
    seen: set[int] = set()
    todo: list[tuple[Path, Any]] = [((), root)]
    while todo:
        path, value = todo.pop()
        inside = _inside(value)
        if inside is None or id(value) in seen:
            yield path, value
        else:
            seen.add(id(value))
            keys = inside.keys() if isinstance(inside, dict) else range(len(inside))
            todo.extend(((*path, key), inside[key]) for key in keys)


def _inside(value: Any) -> Any:
    """The dict or sequence of what a value holds; None for what holds nothing that a reset of the world changes."""
    if isinstance(value, dict | list | tuple):
        return value
    if isinstance(value, Tensor | type) or callable(value) or not hasattr(value, "__dict__"):
        return None
    return vars(value)
