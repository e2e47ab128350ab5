"""The entropy that a temperature aims at, read from an action spec."""

from __future__ import annotations

from tensordict import NestedKey
from torchrl.data import Composite, TensorSpec

from masac.keys import as_path


def auto_target_entropy(action_spec: TensorSpec | None, action_key: NestedKey, n_agents: int | None) -> float:
    """-(dimensions of the action of ONE agent), however the spec is nested (Haarnoja et al. 2018, appendix D).

    Args:
        action_spec: a leaf ``[..., d]``, or a composite with the action at ``action_key``.
        action_key: key of the action.
        n_agents: the size of the group, where known.

    Raises:
        ValueError: without a spec, or if it is ambiguous which dimensions are one agent's.
    """
    advice = "Pass action_spec=<the environment's action spec>, or target_entropy=<a number>."
    if action_spec is None:
        raise ValueError(f"target_entropy='auto' must be given an action spec; got none. {advice}")
    if not isinstance(action_spec, Composite):
        if not action_spec.shape:
            raise ValueError(f"the action spec must have the dimensions of an action; got shape []. {advice}")
        return -float(action_spec.shape[-1])
    container, leaf = action_spec, action_spec.get(as_path(action_key), None)
    if leaf is None or isinstance(leaf, Composite):
        keys = sorted(action_spec.keys(True, True), key=as_path)
        raise ValueError(f"the action spec must have the action at {action_key!r}; got {keys}. {advice}")
    if len(as_path(action_key)) > 1:
        container = action_spec[as_path(action_key)[:-1]]
    event = leaf.shape[len(container.shape) :]
    if len(event) == 1:
        return -float(event[0])
    # Two dimensions past the container: those of [N, d] if the container has no agent axis, else of one agent.
    has_agent_axis = n_agents is not None and bool(container.shape) and container.shape[-1] == n_agents
    if len(event) == 2 and not has_agent_axis and n_agents in (None, event[0]):
        return -float(event[1])
    if has_agent_axis and event and event[0] != n_agents:
        return -float(event.numel())
    raise ValueError(
        f"the action spec must show which dimensions are one agent's; got shape {list(leaf.shape)} in a container of "
        f"shape {list(container.shape)} for n_agents={n_agents}. {advice}"
    )
