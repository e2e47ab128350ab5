"""Ranks: the processes that train together, and the collective operations between them.

``torchrun`` starts the processes; ``torch.distributed`` connects them.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from masac.errors import ConfigError, RunFailedError

T = TypeVar("T")

STEP_TIMEOUT = timedelta(minutes=30)
"""How long an all-reduce of tensors may take. All ranks start it within the same iteration."""

IDLE_TIMEOUT = timedelta(days=7)
"""How long ranks wait for one that evaluates, writes or collects. They notice at once when a process ends."""


class RankLostError(RunFailedError):
    """Another rank can no longer be reached."""


class OtherRankFailedError(RunFailedError):
    """Another rank reported that it failed."""

    def __init__(self) -> None:
        super().__init__("every rank must run to the end; another one failed and prints the reason.")


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One of ``world_size`` processes. Rank 0 evaluates, prints and writes files.

    Args:
        index: of this rank.
        world_size: number of ranks.
        local_index: index among the ranks of its machine.
        local_world_size: number of ranks on its machine.
        link: the connection to the others; None for a single process.
    """

    index: int = 0
    world_size: int = 1
    local_index: int = 0
    local_world_size: int = 1
    link: Link | None = field(default=None, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process evaluates and writes files."""
        return self.index == 0

    def seed(self, seed: int, *more: int) -> int:
        """A seed for this rank.

        Args:
            seed: of the run.
            more: numbers that tell this seed from others of the rank.
        """
        return int(np.random.SeedSequence([seed, self.index, *more]).generate_state(1)[0] % 2**31)

    def device(self, device: str) -> str:
        """Resolve ``cuda`` to this rank's device; other devices stay.

        Raises:
            ConfigError: if there are fewer GPUs than ranks, or all ranks would take the same one of several.
        """
        if self.link is None or torch.device(device).type != "cuda":
            return device
        there, here = torch.cuda.device_count(), self.local_world_size
        if device == "cuda":
            if here > there:
                raise ConfigError(
                    f"every rank must have its own GPU; got {here} ranks on a machine with {there}. Start fewer with "
                    "torchrun --nproc-per-node=..., share one with training.device=cuda:0, or use training.device=cpu"
                )
            device = f"cuda:{self.local_index}"
        elif 1 < here <= there:
            raise ConfigError(
                f"training.device must be cuda, which gives each rank its own GPU; got {device!r} for {here} ranks. "
                "Change it with training.device=cuda"
            )
        torch.cuda.set_device(device)
        return device

    def all_reduce(self, values: Tensor) -> None:
        """Sum a tensor over all ranks, in place: the same bits in all of them."""
        if self.link is not None:
            with _connected():
                dist.all_reduce(values, group=self.link.tensor_group)

    def broadcast(self, value: T) -> T:
        """The value of rank 0, on all ranks."""
        if self.link is None:
            return value
        values: list[Any] = [value if self.is_main else None]
        with _connected():
            dist.broadcast_object_list(values, src=0, group=self.link.cpu_group)
        return values[0]

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks, in the order of the ranks, on all of them."""
        if self.link is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _connected():
            dist.all_gather_object(values, value, group=self.link.cpu_group)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag of any rank is set, on all ranks."""
        if self.link is None:
            return flag
        flags = torch.tensor(int(flag))
        with _connected():
            dist.all_reduce(flags, group=self.link.cpu_group)
        return bool(flags)

    def barrier(self, *, failed: bool = False) -> None:
        """Wait for all ranks.

        Args:
            failed: whether this one failed.

        Raises:
            OtherRankFailedError: if another one failed.
        """
        if self.any(failed) and not failed:
            raise OtherRankFailedError

    def send(self, value: object, to: int) -> None:
        """Send a value to one other rank."""
        assert self.link is not None
        with _connected():
            dist.send_object_list([value], dst=to, group=self.link.cpu_group)

    def receive(self, source: int) -> Any:
        """Wait for the value that another rank sends."""
        assert self.link is not None
        values: list[Any] = [None]
        with _connected():
            dist.recv_object_list(values, src=source, group=self.link.cpu_group)
        return values[0]

    def close(self) -> None:
        """Disconnect from the other ranks."""
        if self.link is not None:
            self.link.close()

    def is_first_with(self, message: str) -> bool:
        """Whether no other rank called this with the same message before."""
        if self.link is None or self.link.store is None:
            return True
        with suppress(RuntimeError):  # the process with the store may have ended
            return self.link.store.add(f"masac/message/{hashlib.sha256(message.encode()).hexdigest()}", 1) == 1
        return True


@dataclass(kw_only=True)
class Link:
    """The connection of a rank to the others.

    Args:
        tensor_group: the process group for sums of tensors, NCCL for those on GPUs.
        cpu_group: the process group for everything else, on the CPU.
        store: the key-value store of all ranks.
    """

    tensor_group: dist.ProcessGroup | None
    cpu_group: dist.ProcessGroup | None
    store: Any

    def close(self) -> None:
        """End the connection and its threads, which live as long as the groups or the store are referenced."""
        if self.store is not None:
            self.tensor_group = self.cpu_group = self.store = None
            dist.destroy_process_group()


ALONE = Rank()


def current_rank() -> Rank:
    """The rank of this process under torchrun, connected to the others; without torchrun rank 0 of 1."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    return _connect() if several else ALONE


@cache
def _connect() -> Rank:
    from torch.distributed.rendezvous import rendezvous  # imported where it is used: not every PyTorch has it

    store, index, world_size = next(rendezvous("env://", timeout=STEP_TIMEOUT))
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    # Ranks that share a GPU cannot use NCCL; gloo takes tensors there too.
    nccl = dist.is_nccl_available() and torch.cuda.device_count() >= local_world_size
    backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
    dist.init_process_group(backend, store=store, rank=index, world_size=world_size, timeout=STEP_TIMEOUT)
    cpu_group: Any = dist.new_group(backend="gloo", timeout=IDLE_TIMEOUT)
    rank = Rank(
        index=index,
        world_size=world_size,
        local_index=int(os.environ.get("LOCAL_RANK", index)),
        local_world_size=local_world_size,
        link=Link(tensor_group=dist.group.WORLD, cpu_group=cpu_group, store=store),
    )
    # Its threads abort the process if they still run while the interpreter shuts down.
    atexit.register(rank.close)
    return rank


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the only error that torch.distributed raises
        raise RankLostError("every rank must run to the end; this one lost the connection to another one.") from error
