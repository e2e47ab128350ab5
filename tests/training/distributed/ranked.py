"""Functions that run in several processes, connected as torchrun connects them."""

from __future__ import annotations

import atexit
import os
import socket
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict

from masac import GroupSACLoss, MultiGroupLoss
from masac.errors import RunFailedError
from masac.training.distributed.ranks import ALONE, Rank, current_rank
from masac.training.distributed.replica_check import check_same
from masac.training.update import NonFiniteError, UpdateStep
from tests.losses.common import GROUP, N, critic_of, make_batch, noisy_actor, noisy_loss
from tests.processes import FORKED

STEPS, ROWS = 8, 8
CASES: dict[str, dict[str, Any]] = {
    "shared": {},
    "per agent, clipped": {"share": False, "kind": "centralized", "max_grad_norm": 0.01, "alpha_per_agent": True},
    "team, weighed": {
        "kind": "team",
        "terminated_reduction": "all",
        "reward_reduction": "mean",
        "weighed": True,
    },
    "nobody ever dies": {"masked": False},
    "several groups": {"several": True},
    "traced": {"mode": "graph"},
}


def in_ranks(function: Any, folder: Path, *arguments: Any, ranks: int = 2) -> list[Any]:
    """What a function returns in every one of several new processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(
        _run, (function, folder, port, ranks, arguments), nprocs=ranks, start_method=FORKED.get_start_method()
    )
    return [torch.load(folder / f"returned{index}.pt", weights_only=False) for index in range(ranks)]


def _run(index: int, function: Any, folder: Path, port: int, ranks: int, arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(index), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.save(function(current_rank(), *arguments), folder / f"returned{index}.pt")


def whole_batch(number: int, *, masked: bool = True, weighed: bool = False, several: bool = False) -> TensorDict:
    """Rows of which the second half has fewer living agents than the first."""
    generator = torch.Generator().manual_seed(number)
    lives = torch.rand(ROWS, N, 1, generator=generator) < torch.linspace(0.9, 0.1, ROWS)[:, None, None]
    ends = torch.rand(ROWS, N, 1, generator=generator) < 0.3
    batch = make_batch(batch=(ROWS,), mask=lives if masked else None, terminated=ends, seed=number)
    if weighed:
        batch["priority_weight"] = torch.rand(ROWS, generator=generator, dtype=torch.get_default_dtype())
    if several:
        batch["others"] = batch[GROUP].clone()
        batch["next", "others"] = batch["next", GROUP].clone()
        batch["others", "mask"] = ~lives.squeeze(-1)
    return batch


def updates(rank: Rank, case: str) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """What a loss has learned after updates on this rank's part of every batch, and what they said."""
    torch.set_default_dtype(torch.float64)
    options = dict(CASES[case])
    masked, weighed, several, share, kind, mode, max_grad_norm = (
        options.pop(name, default)
        for name, default in (
            *(("masked", True), ("weighed", False), ("several", False), ("share", True), ("kind", "independent")),
            *(("mode", "eager"), ("max_grad_norm", None)),
        )
    )
    torch.manual_seed(1)
    loss: Any = noisy_loss(noisy_actor(share), critic_of(False, share, kind), skip_done_states="fill", **options)
    if several:
        loss = MultiGroupLoss([loss, second_group()])
    step = UpdateStep(
        loss, torch.optim.Adam(loss.parameters(), lr=1e-2), tau=0.1, max_grad_norm=max_grad_norm, mode=mode, rank=rank
    )
    said = []
    for number in range(STEPS):
        batch = whole_batch(number, masked=masked, weighed=weighed, several=several)
        said.append(step(batch[rank.index :: rank.world_size] if number % 2 else _half(batch, rank)))
    return loss.state_dict(), said


def _half(batch: TensorDict, rank: Rank) -> TensorDict:
    """Halves differ in who lives; every second row does less."""
    return batch.chunk(rank.world_size)[rank.index]  # pyright: ignore[reportReturnType]


def second_group() -> GroupSACLoss:
    """A loss of the group ``others``."""
    from tests.losses import common

    common.GROUP, before = "others", common.GROUP
    try:
        return noisy_loss(noisy_actor(True), critic_of(False, True, "independent"), group="others")
    finally:
        common.GROUP = before


def all_cases(rank: Rank) -> dict[str, Any]:
    return {case: updates(rank, case) for case in CASES}


def trouble(rank: Rank) -> dict[str, str]:
    """What is said where one rank's batch or networks are wrong."""
    said = {}
    loss = noisy_loss(noisy_actor(True), critic_of(False, True, "independent"))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    step = UpdateStep(loss, torch.optim.Adam(loss.parameters(), lr=1e-2), tau=0.1, mode="eager", rank=rank)
    batch = make_batch(seed=rank.index)
    if rank.index == 1:
        batch["next", GROUP, "reward"][2] = torch.nan
    try:
        step(batch)
    except NonFiniteError as error:
        said["not finite"] = str(error)
    critics = [name for name in before if name.startswith("qvalue_network_params")]
    said["applied"] = str(any(not torch.equal(loss.state_dict()[name], before[name]) for name in critics))
    torch.manual_seed(0)
    same = {"critic": torch.randn(5, dtype=torch.float64), "alpha": torch.tensor(0.5), "count": torch.tensor([3])}
    check_same(same, rank, when="at first")
    if rank.index == 1:
        same["alpha"] = torch.nextafter(same["alpha"], torch.tensor(1.0))
    try:
        check_same(same, rank, when="after update 7")
    except RunFailedError as error:
        said["drift"] = str(error)
    return said


def threads_at_exit(rank: Rank) -> tuple[list[str], list[str]]:
    """The threads of a connection, before and after what runs when an interpreter ends."""
    rank.barrier()
    before = _threads()
    atexit._run_exitfuncs()
    return before, _threads()


def _threads() -> list[str]:
    names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
    return [name for name in names if "gloo" in name or "store" in name]


def alone() -> dict[str, Any]:
    return all_cases(ALONE)
