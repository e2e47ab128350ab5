"""Where saved weights do not fit the groups of an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from masac.groups import GroupSpec


def misfit(
    groups: Sequence[GroupSpec],
    saved: Mapping[str, Mapping[str, Any]],
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
) -> str | None:
    """The first thing that stands in the way of loading saved weights, as one line; None if they fit.

    Args:
        groups: of the environment.
        saved: what :func:`~masac.training.policies.saved_policy.save_policy` wrote about the groups to be loaded.
        expected: the tensors to be loaded, by name, such as ``actors.GROUP.module...``.
        found: the saved ones; others among them are of no interest.
    """
    known = {group.name: group for group in groups}
    for name, about in saved.items():
        if name not in known:
            return f"the environment has no group {name!r}. Its groups: {', '.join(known)}"
        before, here = about.get("actions"), known[name].actions
        if before not in (None, here):
            return f"group {name!r} has {here} actions, the policy {before} ones"
    wrong = shape_misfit(expected, found)
    if wrong is None:
        return None
    name, what = wrong
    group = known[name.split(".", 2)[1]]
    return (
        f"{_place(name)}: {what} (here group {group.name!r} has {group.n_agents} agents that observe "
        f"{group.observations} each)"
    )


def shape_misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The name of the first tensor that is missing or has another shape, and both shapes in words; None without one."""
    for name, tensor in expected.items():
        here = list(found[name].shape) if name in found else "nothing"
        if here != list(tensor.shape):
            return name, f"expected {list(tensor.shape)}, found {here}"
    return None


def _place(name: str) -> str:
    """``group 'agents', parameter actor mlp.hidden.0.weight`` for the name of a tensor of a policy."""
    kind, group, rest = name.split(".", 2)
    parameter = rest.removeprefix("module.0.module.")
    return f"group {group!r}, parameter {kind.removesuffix('s')} {parameter}"
