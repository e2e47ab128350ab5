"""What a collector and its workers tell each other, as plain data and NumPy arrays, which travel fast."""

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
    """The process of a worker is gone. The message says how, as far as is known."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Collect a part of a batch.

    Args:
        ticket: its number; answers come in order.
        version: of the weights to act with.
        updates: that had been applied to these weights.
        random_groups: the groups that act at random meanwhile.
        seed: begin new episodes first, everything random with this seed; None to go on.
    """

    ticket: int
    version: int
    updates: int
    random_groups: frozenset[str]
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A whole part of a batch.

    Args:
        request: which it answers.
        arrays: the entries by path, ``"next/agents/reward"`` say, ``[environments, steps, ...]``.
        batch_dims: by path of every TensorDict, how many dimensions its batch size has.
    """

    request: Request
    arrays: Arrays
    batch_dims: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An exception that collecting raised.

    Args:
        request: which it answers.
        report: what is known of it.
    """

    request: Request
    report: ErrorReport


def make_part(request: Request, collected: TensorDictBase) -> Part:
    """What a worker sends of a collected batch ``[environments, steps]``."""
    arrays: Arrays = {}
    batch_dims = {"": collected.ndim}
    for key, value in collected.items(include_nested=True):
        path = "/".join(as_path(key))
        if isinstance(value, TensorDictBase):
            batch_dims[path] = value.ndim
        elif isinstance(value, Tensor):
            arrays[path] = value.numpy()
    return Part(request=request, arrays=arrays, batch_dims=batch_dims)


def join_parts(parts: Sequence[Part]) -> TensorDict:
    """Parts of a batch, one below the other, as a batch ``[environments, steps]``."""
    joined = {path: torch.from_numpy(np.concatenate([part.arrays[path] for part in parts])) for path in parts[0].arrays}

    def nested(path: str, n_dims: int) -> TensorDict:
        start = f"{path}/" if path else ""
        inside = [one for one in joined if one.startswith(start)]
        batch = joined[inside[0]].shape[:n_dims]
        out = TensorDict({}, batch)
        for one in inside:
            name, _, deeper = one.removeprefix(start).partition("/")
            if not deeper:
                out.set(name, joined[one])
            elif name not in out.keys():  # noqa: SIM118  a TensorDict is no dict
                out.set(name, nested(f"{start}{name}", parts[0].batch_dims[f"{start}{name}"]))
        return out

    return nested("", parts[0].batch_dims[""])


def read_weights(policy: Policy) -> Arrays:
    """All a policy knows, normalizers too, by name; on the CPU they are its own memory, to be sent at once."""
    return {name: value.detach().cpu().numpy() for name, value in policy.state_dict().items()}


def set_weights(policy: Policy, weights: Arrays) -> None:
    """Act with the weights of :func:`read_weights`."""
    policy.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
