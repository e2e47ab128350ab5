"""Episodes of one environment: horizon, end, and rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from masac.envs.single_environment import Key, Row, SingleEnvironment

STEP_COUNT: Key = ("step_count",)


class Episode:
    """The running episode of one environment, at one place of the arrays of many.

    Args:
        environment: takes the steps.
        actions: read in every step.
        following: what a step returns, written here: observations, rewards, flags and ``step_count``.
        current: what the next step begins with, written here where an episode begins.
        horizon: steps after which the episode is truncated, for every agent; None leaves its end to the environment.
        rests: whether the environment stays as it is once its episode is over, until it is seeded again. Its entries
            are those of its first state then, without rewards, so that a policy has something valid to look at.
    """

    def __init__(
        self,
        environment: SingleEnvironment,
        *,
        actions: Row,
        following: Row,
        current: Row,
        horizon: int | None,
        rests: bool,
    ) -> None:
        self.environment = environment
        self._actions, self._following, self._current = actions, following, current
        self._horizon, self._rests = horizon, rests
        self._steps = 0
        self._resting = False
        self._first: dict[Key, np.ndarray[Any, Any]] = {}
        every = [key for key in following if key[-1] == "done"]
        self._done = [("done",)] if ("done",) in every else every

    def begin(self, seed: int | None = None) -> None:
        """Begin an episode, or rest.

        Args:
            seed: of everything random from now on; None to continue with the random numbers there are.
        """
        if seed is None and self._rests and self._first:
            self._resting = True
            for key, value in self._first.items():
                self._current[key][...] = value
            return
        self._resting, self._steps = False, 0
        self.environment.reset(self._current, seed=seed)
        if self._horizon is not None:
            self._current[STEP_COUNT][...] = 0
        if self._rests:
            self._first = {key: value.copy() for key, value in self._current.items()}

    def step(self) -> bool:
        """Take a step; returns whether the episode is over."""
        if self._resting:
            for key, value in self._following.items():
                value[...] = self._first.get(key, 0)
            return False
        self.environment.step(self._actions, self._following)
        self._steps += 1
        row = self._following
        if self._horizon is not None:
            row[STEP_COUNT][...] = self._steps
            if self._steps >= self._horizon:
                for key, value in row.items():
                    if key[-1] in ("truncated", "done"):
                        value[...] = True
        return all(bool(row[key].all()) for key in self._done)
