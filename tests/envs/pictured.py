"""Environments of a user's own that can be drawn, and some that cannot."""

import random

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from tests.envs.factories import Spaces


class Counting(Spaces):
    """Three steps long; its pictures, of odd sizes, are as bright as the number of the step."""

    metadata = {"name": "counting_v0", "render_fps": 4}  # noqa: RUF012  as PettingZoo has it

    def __init__(self, render_mode=None, channels=3):
        super().__init__({"a_0": Box(-1, 1, (2,)), "a_1": Box(-1, 1, (2,))}, {"a_0": Discrete(2), "a_1": Discrete(2)})
        self.render_mode, self.channels = render_mode, channels

    def render(self):
        return np.full((31, 45, self.channels), 20 * self.step_count, np.uint8)


def counting(render_mode=None):
    return Counting(render_mode)


def passing_on(**kwargs):
    return Counting(**kwargs)


def never_drawn():
    return Counting()


def gray(render_mode=None):
    return Counting(render_mode, channels=1)


class Careless(Counting):
    """Draws with the random numbers that the whole process shares, and cannot draw its third picture."""

    def __init__(self, render_mode=None, fails=False):
        super().__init__(render_mode)
        self.fails = fails

    def render(self):
        if self.fails and self.step_count == 2:
            raise ZeroDivisionError("no third picture")
        shared = random.random() + np.random.rand() + torch.rand(()).item()
        return super().render() + np.uint8(shared)


def careless(render_mode=None, fails=False):
    return Careless(render_mode, fails)
