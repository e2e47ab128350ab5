"""Contenders that take turns in one process, so that what else the machine does hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from tensordict import TensorDict
from torchrl.objectives import SACLoss, SoftUpdate

from masac import GroupSACLoss, UpdateStep
from masac.training.update import UpdateMode

LR, TAU = 3e-4, 0.005


def take_turns(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float, device: str
) -> dict[str, list[float]]:
    """Milliseconds a call of every contender in every round.

    Args:
        contenders: what is timed, by name.
        rounds: turns of every contender.
        seconds: length of a turn.
        device: where they compute.
    """

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        for _ in range(3):  # some trace or compile at first
            contender()
    for _ in range(rounds):
        for name, contender in contenders.items():
            wait()
            started, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - started < seconds:
                contender()
                count += 1
            wait()
            times[name].append(1e3 * (time.perf_counter() - started) / count)
    return times


def torchrl_update(loss: SACLoss, data: TensorDict) -> Callable[[], object]:
    """One update as TorchRL's recipes write it: loss, backward pass, Adam, soft target update."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=LR)
    target = SoftUpdate(loss, tau=TAU)

    def update() -> None:
        losses = loss(data.copy())
        optimizer.zero_grad(set_to_none=True)
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        optimizer.step()
        target.step()

    return update


def masac_update(loss: GroupSACLoss, data: TensorDict, mode: UpdateMode) -> Callable[[], object]:
    """One update of masac."""
    update = UpdateStep(loss, torch.optim.Adam(loss.parameters(), lr=LR, fused=True), tau=TAU, mode=mode)
    return lambda: update(data.copy())
