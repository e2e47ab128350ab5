"""Scripted opponents, right ones and wrong ones."""

import numpy as np
import torch


def pull(observation):
    """Pull as hard as possible, as an array."""
    return np.ones((*observation.shape[:-1], 1), np.float32)


def too_hard(observation):
    return 2.0 * torch.ones(*observation.shape[:-1], 1)


def wrong_shape(observation):
    return torch.zeros(observation.shape[0])


def words(observation):
    return "left"


def whole(observation):
    """The first choice, as a float."""
    return torch.zeros(observation.shape[:-1])


def broken(observation):
    raise ZeroDivisionError("the rope ran out")


def legal(observation, action_mask):
    """The first legal choice."""
    return action_mask.float().argmax(-1)


def illegal(observation, action_mask):
    """A choice that is not legal."""
    return action_mask.float().argmin(-1)


NOT_CALLABLE = 3
