"""Messages between a collector and its workers: plain data and NumPy arrays, which are fast to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from masac.keys import as_path
from masac.process.tracebacks import ErrorReport
from masac.training.policies.policy import Policy

Arrays = dict[str, np.ndarray]


class WorkerDiedError(RuntimeError):
    """The process of a worker ended. The message says how, if that is known."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to collect a part of a batch.

    Args:
        ticket: number of the request; answers come in this order.
        version: of the weights to act with.
        updates: that these weights have had.
        random_groups: the groups that act at random.
        seed: reset the environments and all random numbers with this seed first; None to continue.
    """

    ticket: int
    version: int
    updates: int
    random_groups: frozenset[str]
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A complete part of a batch.

    Args:
        request: that it answers.
        arrays: the entries by path, such as ``"next/agents/reward"``, ``[environments, steps, ...]``.
        batch_dims: number of batch dimensions of each nested TensorDict, by path.
    """

    request: Request
    arrays: Arrays
    batch_dims: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An exception in a worker.

    Args:
        request: that it answers.
        report: about the exception.
    """

    request: Request
    report: ErrorReport


def make_part(request: Request, collected: TensorDictBase) -> Part:
    """The message with a collected batch ``[environments, steps]``."""
    entries = {"/".join(as_path(key)): value for key, value in collected.items(include_nested=True)}
    return Part(
        request=request,
        arrays={path: value.numpy() for path, value in entries.items() if isinstance(value, Tensor)},
        batch_dims={path: value.ndim for path, value in entries.items() if isinstance(value, TensorDictBase)},
    )


def join_parts(parts: Sequence[Part]) -> TensorDict:
    """Concatenate parts to a batch ``[environments, steps]``."""
    joined = {path: torch.from_numpy(np.concatenate([part.arrays[path] for part in parts])) for path in parts[0].arrays}
    out = TensorDict(joined, next(iter(joined.values())).shape[:2]).unflatten_keys("/")
    for path, n_dims in parts[0].batch_dims.items():
        nested = out.get(tuple(path.split("/")))
        nested.batch_size = next(iter(nested.values(True, True))).shape[:n_dims]
    return out


def read_weights(policy: Policy) -> Arrays:
    """The weights of a policy and its normalizers, by name. On the CPU they share its memory, so send them at once."""
    return {name: value.detach().cpu().numpy() for name, value in policy.state_dict().items()}


def set_weights(policy: Policy, weights: Arrays) -> None:
    """Load the weights of :func:`read_weights` into a policy."""
    policy.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
