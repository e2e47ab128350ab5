"""Contenders that take turns in one process, so that what else the machine does hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.objectives import SoftUpdate


def take_turns(
    updates: dict[str, Callable[[], None]], rounds: int, seconds: float, device: str
) -> dict[str, list[float]]:
    """Milliseconds an update of every contender in every round."""

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {name: [] for name in updates}
    for update in updates.values():
        for _ in range(3):
            update()
    for _ in range(rounds):
        for name, update in updates.items():
            wait()
            started, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - started < seconds:
                update()
                count += 1
            wait()
            times[name].append(1e3 * (time.perf_counter() - started) / count)
    return times


def updater(loss: Any, data: TensorDict, tau: float) -> Callable[[], None]:
    """One update: loss, backward pass, optimizer step (Adam), target update."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)
    target = SoftUpdate(loss, tau=tau)

    def update() -> None:
        losses = loss(data.copy())
        optimizer.zero_grad(set_to_none=True)
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        optimizer.step()
        target.step()

    return update
