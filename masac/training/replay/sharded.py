"""Access from rank 0, which alone reads and writes files, to the replay buffers of all ranks.

Every rank keeps its own rows. While rank 0 saves or restores all buffers, the other ranks serve its requests. So no
disk needs to be shared, and no rank holds more than its own rows and one segment of another rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.keys import as_path
from masac.training.distributed.ranks import Rank
from masac.training.replay.buffer import Replay


class RemoteReplay:
    """The replay buffer of another rank.

    Args:
        own: the buffer of this rank, which has the same kind of rows.
        rank: of this process.
        index: of the other rank.
    """

    def __init__(self, own: Replay, rank: Rank, index: int) -> None:
        self.own = own
        self.rank = rank
        self.index = index
        self.size = own.size
        self._read_numbers()

    def __len__(self) -> int:
        return self._rows

    def rows(self, first: int, end: int) -> TensorDictBase:
        """See :meth:`Replay.rows`."""
        self.rank.send(("rows", first, end), self.index)
        return self.rows_from(self.rank.receive(self.index))

    def rows_from(self, tensors: Mapping[str, Tensor]) -> TensorDictBase:
        """See :meth:`Replay.rows_from`."""
        return self.own.rows_from(tensors)

    def restore(self, parts: Iterable[TensorDictBase], *, written: int) -> None:
        """See :meth:`Replay.restore`."""
        self.rank.send(("restore", written), self.index)
        try:
            for rows in parts:
                self.rank.send(as_tensors(rows), self.index)
        finally:  # a damaged part must not leave the other rank waiting
            self.rank.send(None, self.index)
        self._read_numbers()

    def _read_numbers(self) -> None:
        self.rank.send(("numbers",), self.index)
        self.written, self._rows = self.rank.receive(self.index)


AnyReplay = Replay | RemoteReplay


@contextmanager
def all_replays(own: Replay, rank: Rank) -> Iterator[Sequence[AnyReplay]]:
    """On rank 0, the buffers of all ranks. On another rank, serve rank 0 until it is done, then yield nothing."""
    if not rank.is_main:
        _serve(own, rank)
        yield []
        return
    others = range(1, rank.world_size)
    yield [own, *(RemoteReplay(own, rank, index) for index in others)]
    for index in others:  # not after an error, which ends this rank, as the others notice
        rank.send(("done",), index)


def whole_batch(batch: TensorDictBase, rank: Rank) -> TensorDictBase:
    """The rows of all ranks."""
    return torch.cat(rank.all_gather(batch.cpu())) if rank.world_size > 1 else batch  # pyright: ignore[reportArgumentType, reportReturnType]


def as_tensors(rows: TensorDictBase) -> dict[str, Tensor]:
    """Rows as tensors on the CPU by name, for :meth:`Replay.rows_from`."""
    return {"/".join(as_path(key)): value.cpu() for key, value in rows.items(True, True)}


def _serve(own: Replay, rank: Rank) -> None:
    """Serve the requests of rank 0 for this rank's buffer."""
    while True:
        what, *about = rank.receive(0)
        if what == "done":
            return
        if what == "numbers":
            rank.send((own.written, len(own)), 0)
        elif what == "rows":
            rank.send(as_tensors(own.rows(*about)), 0)
        else:
            parts = iter(lambda: rank.receive(0), None)
            own.restore((own.rows_from(tensors) for tensors in parts), written=about[0])
