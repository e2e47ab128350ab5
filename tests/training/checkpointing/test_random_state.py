"""The state of the random number generators."""

import random

import numpy as np
import torch

from masac.training.checkpointing.random_state import random_state, seed_everything, set_random_state


def test_random_numbers_go_on_from_their_state():
    seed_everything(3)
    random.gauss(0, 1)
    np.random.normal()  # both keep a second number back
    state = random_state()
    expected = [
        torch.rand(2).tolist(),
        random.random(),
        random.gauss(0, 1),
        np.random.rand(2).tolist(),
        np.random.normal(),
    ]
    set_random_state(state)
    assert expected == [
        *(torch.rand(2).tolist(), random.random(), random.gauss(0, 1)),
        *(np.random.rand(2).tolist(), np.random.normal()),
    ]
