"""Reads BenchMARL's actor from plain tensors, as a policy for masac's evaluation."""

from __future__ import annotations

from pathlib import Path

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

from masac.groups import GroupSpec
from masac.training.policies.policy import Policy

TOLERANCE = 1e-5


class BenchmarlActor(nn.Module):
    """BenchMARL's MLP actor without noise: tanh of its output, scaled to the bounds.

    Of a tanh-normal actor's output this is the mean, and TorchRL's deterministic sample, which BenchMARL also
    evaluates; it does not use the standard deviation, which is the second half of the output.

    Args:
        tensors: content of a file of ``benchmarl/run.py``: ``layer.INDEX.weight`` and ``.bias``, ``low``, ``high``.
        activation: the name of a module of ``torch.nn``.
    """

    low: Tensor
    high: Tensor

    def __init__(self, tensors: dict[str, Tensor], activation: str) -> None:
        super().__init__()
        indices = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layer.")})
        layers: list[nn.Module] = []
        for index in indices:
            weight, bias = tensors[f"layer.{index}.weight"], tensors[f"layer.{index}.bias"]
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.load_state_dict({"weight": weight, "bias": bias})
            layers += [linear, getattr(nn, activation)()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.register_buffer("low", tensors["low"])
        self.register_buffer("high", tensors["high"])

    def forward(self, observation: Tensor) -> Tensor:
        """``[*B, N, F]`` to actions ``[*B, N, d]``."""
        mean = self.mlp(observation)[..., : self.low.shape[-1]]
        return (self.high + self.low) / 2 + (self.high - self.low) / 2 * torch.tanh(mean)


def read_benchmarl_policy(file: Path, activation: str, groups: list[GroupSpec]) -> Policy:
    """Read the policy from a file of ``benchmarl/run.py``.

    Args:
        file: the actor, with some observations and BenchMARL's actions for them.
        activation: the name of a module of ``torch.nn``.
        groups: those of masac's environment; there must be exactly one.

    Raises:
        RuntimeError: if the actions differ from BenchMARL's.
    """
    (group,) = groups
    tensors = torch.load(file, weights_only=True)
    actor = BenchmarlActor(tensors, activation).eval().requires_grad_(False)
    off = (actor(tensors["observation"]) - tensors["action"]).abs().max().item()
    if not off <= TOLERANCE:
        raise RuntimeError(
            f"the actor read from {file.name} must act as BenchMARL's, to {TOLERANCE}; got a difference of {off}. "
            "Check what BenchMARL changed in its MLP or its distribution."
        )
    module = TensorDictModule(actor, in_keys=[group.observation_key], out_keys=[(group.name, "action")])
    return Policy(groups, {group.name: module}, {})  # pyright: ignore[reportArgumentType]
