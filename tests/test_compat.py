"""What differs between TorchRLs; .ci/versions trains with the oldest and the newest."""

import pytest
import torch
from torch import nn

from masac.compat import load_state_tensors, state_tensors


class WithMore(nn.Linear):
    """A state that is not all tensors, as that of TensorDict 0.11's parameters."""

    def get_extra_state(self):
        return torch.Size([2])

    def set_extra_state(self, state):
        assert state == torch.Size([2])


def test_the_tensors_of_a_state_that_holds_more_load_back():
    one, other = WithMore(1, 2), WithMore(1, 2)
    tensors = state_tensors(one)
    assert tensors.keys() == {"weight", "bias"}
    load_state_tensors(other, tensors)
    assert torch.equal(other.weight, one.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_state_tensors(other, {"weight": one.weight})
