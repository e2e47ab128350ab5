"""Read entries of a TensorDict by key, with errors that list the existing keys."""

from __future__ import annotations

from tensordict import NestedKey, TensorDictBase
from torch import Tensor


def as_path(key: NestedKey) -> tuple[str, ...]:
    """The key as a flat tuple of names."""
    if isinstance(key, str):
        return (key,)
    return tuple(name for part in key for name in as_path(part))


def in_group(key: NestedKey, group: NestedKey) -> bool:
    """Whether an entry is inside a group, with one value per agent; any other entry belongs to the whole row."""
    path, prefix = as_path(key), as_path(group)
    return len(path) > len(prefix) and path[: len(prefix)] == prefix


def get_entry(tensordict: TensorDictBase, key: NestedKey, needed_by: str) -> Tensor:
    """The tensor at ``key``.

    Raises:
        KeyError: if there is none; the message lists the existing keys.
    """
    value = tensordict.get(as_path(key), None)
    if value is None:
        raise KeyError(
            f"{needed_by} needs the entry {key!r}; the data has {present_keys(tensordict)}. "
            "Rename the entry, or name yours with set_keys(...) or the network's in_keys."
        )
    return value


def present_keys(tensordict: TensorDictBase) -> str:
    """The keys of all leaves, for an error message."""
    return str(sorted(tensordict.keys(include_nested=True, leaves_only=True), key=as_path))
