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
    for name, tensor in expected.items():
        shape = list(tensor.shape)
        if name not in found:
            return f"{_place(name)}: expected {shape}, found nothing. The run has another model, normalization or group"
        if found[name].shape != tensor.shape:
            return f"{_place(name)}: expected {shape}, found {list(found[name].shape)}{_reason(name, known)}"
    return None


def _place(name: str) -> str:
    """``group 'agents', parameter actor mlp.hidden.0.weight`` for the name of a tensor of a policy."""
    kind, group, rest = name.split(".", 2)
    parameter = rest.removeprefix("module.0.module.")
    return f"group {group!r}, parameter {kind.removesuffix('s')} {parameter}"


def _reason(name: str, groups: Mapping[str, GroupSpec]) -> str:
    group = groups.get(name.split(".", 2)[1])
    if group is None:
        return ""
    return f" (here it has n_agents={group.n_agents}, observation features={group.observation_dim})"
