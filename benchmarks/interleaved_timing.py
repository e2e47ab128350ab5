"""Times contenders in turn within one process, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from tensordict import TensorDict
from torchrl.objectives import SACLoss, SoftUpdate

from masac import GroupSACLoss, UpdateStep
from masac.training.update import UpdateMode

LR, TAU = 3e-4, 0.005


def time_interleaved(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float, device: str
) -> dict[str, list[float]]:
    """Milliseconds per call, for every contender and round.

    Args:
        contenders: the timed functions, by name.
        rounds: how often each has its turn.
        seconds: length of a turn.
        device: the device they compute on.
    """

    def synchronize() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        for _ in range(3):  # the first call may trace or compile
            contender()
    for _ in range(rounds):
        for name, contender in contenders.items():
            synchronize()
            started, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - started < seconds:
                contender()
                count += 1
            synchronize()
            times[name].append(1e3 * (time.perf_counter() - started) / count)
    return times


def torchrl_update(loss: SACLoss, data: TensorDict) -> Callable[[], object]:
    """One update as in TorchRL's recipes: loss, backward pass, Adam, soft target update."""
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
