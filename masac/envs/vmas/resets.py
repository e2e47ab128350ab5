"""Resetting the VMAS environments that ended jointly: states are drawn for all, and those that ended take theirs.

VMAS resets all environments at once or one of them, and resetting many one by one is its bottleneck. A scenario keeps
its state wherever it likes, and a reset writes some of it. :func:`find_reset_state` finds out which by resetting
copies, and whether joint resets give the same episodes. ``task.joint_resets=false`` does without all of this.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from vmas.simulator.environment import Environment

from masac.envs.vmas.private import RandomStream, contents, times_written
from masac.errors import RunFailedError

Path = tuple[Any, ...]
"""From a scenario to something it holds: names of attributes, keys of dicts, indices of lists."""

T = TypeVar("T")

TRIAL_ENVS = 7
"""Environments of a trial, a number that few other sizes are: what has as many rows counts as ``[E, ...]``."""
TRIAL_RESETS = 8
"""Resets of a trial. A binary draw shared by all environments goes unnoticed with probability 1/256."""


class IrregularStateError(RuntimeError):
    """Environments of a scenario cannot be reset jointly."""


class FreshStates:
    """An initial state for every environment, drawn at once and handed out as environments end.

    Each environment gets the state drawn in its place. When one ends whose state has been used, all are drawn again.

    Args:
        scenario: its world has E environments.
        paths: where a reset writes, from :func:`find_reset_state`; all of it are tensors ``[E, ...]``.

    Raises:
        RunFailedError: if they are not.
    """

    def __init__(self, scenario: Any, paths: Sequence[Path]) -> None:
        self._scenario = scenario
        self._paths = tuple(paths)
        self._states: list[tuple[bool, Tensor]] = []
        self._unused = torch.zeros(scenario.world.batch_dim, dtype=torch.bool, device=scenario.world.device)
        if any(tensor.shape[:1] != self._unused.shape for tensor in self._read()[1]):
            raise self._changed()

    def cover(self, ended: Tensor) -> bool:
        """Whether there is an unused state for all environments that ended, bool ``[E]``."""
        return bool((self._unused | ~ended).all())

    def discard(self) -> None:
        """Forget all states."""
        self._unused.zero_()

    def draw(self, reset: Callable[[], T]) -> T:
        """Draw states for all environments, which themselves stay where they are.

        Args:
            reset: resets all environments.

        Returns:
            What ``reset`` returned.

        Raises:
            RunFailedError: if the scenario's tensors are not where they were in the trial.
        """
        before = self._read()[1]
        kept = [(tensor.clone(), times_written(tensor)) for tensor in before]
        result = reset()
        holders, after = self._read()
        # A reset writes into a tensor or replaces it; handing out a state does the same.
        self._states = [
            (new is old, new.clone() if new is old else new) for old, new in zip(before, after, strict=True)
        ]
        for (holder, key), old, (value, written) in zip(holders, before, kept, strict=True):
            if times_written(old) != written:
                old.copy_(value)
            if holder[key] is not old:
                holder[key] = old
        self._unused.fill_(True)
        return result

    def hand_out(self, ended: Tensor) -> None:
        """Put the environments that ended, bool ``[E]``, into their fresh states.

        Raises:
            RunFailedError: if the scenario's tensors are not where, or not of the shape, that they were in the trial.
        """
        holders, now = self._read()
        if any(a.shape != b.shape or a.dtype != b.dtype for a, (_, b) in zip(now, self._states, strict=True)):
            raise self._changed()
        masks = {ndim: ended.view(-1, *[1] * (ndim - 1)) for ndim in {tensor.ndim for tensor in now}}
        merged: dict[tuple[int, int], Tensor] = {}  # one tensor under two names stays one tensor
        for (holder, key), old, (in_place, fresh) in zip(holders, now, self._states, strict=True):
            same = (id(old), id(fresh))
            if same not in merged:
                merged[same] = torch.where(masks[old.ndim], fresh, old)
                if in_place:
                    old.copy_(merged[same])
            if not in_place:
                holder[key] = merged[same]
        self._unused &= ~ended

    def _read(self) -> tuple[list[tuple[Any, Any]], list[Tensor]]:
        """The tensors at the paths, and what holds each under which name."""
        found: dict[Path, Any] = {(): contents(self._scenario)}

        def holder(path: Path) -> Any:
            if path not in found:
                found[path] = contents(holder(path[:-1])[path[-1]])
            return found[path]

        try:
            holders = [(holder(path[:-1]), path[-1]) for path in self._paths]
            tensors = [holding[key] for holding, key in holders]
        except (KeyError, IndexError, TypeError):
            raise self._changed() from None
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise self._changed()
        return holders, tensors

    @staticmethod
    def _changed() -> RunFailedError:
        return RunFailedError(
            "a VMAS scenario must keep its state in the same attributes, with the same shapes, for joint resets; this "
            "one changed them after its trial. Set task.joint_resets=false."
        )


@torch.no_grad()
def find_reset_state(make: Callable[[int], Environment]) -> list[Path]:
    """Find where in a scenario a reset writes, by trying.

    :class:`FreshStates` does what VMAS does if three things hold: a reset writes to tensors ``[E, ...]`` and to nothing
    else; what it writes does not depend on what was there; environments that take over rows of a reset continue as if
    they had been reset, and the others as if nothing had happened.

    Args:
        make: makes environments of the scenario, as many as it is given, with VMAS's random numbers and
            ``dict_spaces``.

    Raises:
        IrregularStateError: if any of this does not hold, or trying it raises anything.
    """

    def make_alike() -> Environment:
        with RandomStream().used_by_vmas():
            return make(TRIAL_ENVS)

    try:
        with torch.inference_mode(False), RandomStream().used_by_vmas():
            return _try_resets(make_alike)
    except Exception as error:  # scenarios may not expect to be used in this way
        raise IrregularStateError(str(error)) from error


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
            raise IrregularStateError("environments must continue as if all or none had been reset")
    return paths


def _written_by_reset(env: Environment) -> list[Path]:
    """The paths of all that resets write, which must be tensors ``[E, ...]``.

    One reset is not enough: a value drawn for all environments together may come out as it was.
    """
    written: dict[Path, None] = {}
    for seed in reversed(range(TRIAL_RESETS)):
        before = {path: (leaf, _snapshot(leaf)) for path, leaf in _leaves(env.scenario)}
        _reset(env, seed=seed)
        after = dict(_leaves(env.scenario))
        if before.keys() != after.keys():
            raise IrregularStateError(f"a reset must neither add nor remove state; got {before.keys() ^ after.keys()}")
        for path, (old, (value, times)) in before.items():
            new = after[path]
            if new is old and (not isinstance(old, Tensor) or times_written(old) == times):
                continue
            if isinstance(old, Tensor) and isinstance(new, Tensor) and _is_batch(old) and old.shape == new.shape:
                written[path] = None
            elif not _unchanged(value, new):
                raise IrregularStateError(f"a reset must write tensors [E, ...]; got {new!r} at {path}")
    return list(written)


def _is_batch(tensor: Tensor) -> bool:
    return tensor.ndim > 0 and tensor.shape[0] == TRIAL_ENVS


def _snapshot(leaf: Any) -> tuple[Any, int]:
    return (leaf.clone(), times_written(leaf)) if isinstance(leaf, Tensor) else (leaf, 0)


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
    """All that agents see of some steps; two environments in the same state show the same."""
    env.seed(0)
    shown: list[Tensor] = []
    for step in actions:
        observations, rewards, done, _ = cast(Any, env.step([action.clone() for action in step]))
        shown += [tensor for _, tensor in _leaves([observations, rewards, done]) if isinstance(tensor, Tensor)]
    return shown


def _reset(env: Environment, *, seed: int) -> None:
    env.reset(seed=seed, return_dones=True)


def _leaves(root: Any) -> Iterator[tuple[Path, Any]]:
    """All values that an object holds, with their paths. An object that was visited before is itself a value."""
    seen: set[int] = set()
    todo: list[tuple[Path, Any]] = [((), root)]
    while todo:
        path, value = todo.pop()
        inside = contents(value)
        if inside is None or id(value) in seen:
            yield path, value
        else:
            seen.add(id(value))
            keys = inside.keys() if isinstance(inside, dict) else range(len(inside))
            todo.extend(((*path, key), inside[key]) for key in keys)
