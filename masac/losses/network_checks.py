"""Checks of the networks passed to a loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tensordict import NestedKey
from tensordict.nn import (
    CompositeDistribution,
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)

from masac.keys import in_group
from masac.layouts import ActorLayout, needs_agent_axis, resolve_actor_layout


def check_actor(actor: object, *, number: int = 1) -> None:
    """Raise TypeError for an actor without a distribution, ValueError for more than ``number`` actions per agent."""
    if not isinstance(actor, ProbabilisticTensorDictSequential):
        raise TypeError(
            "actor_network must be a ProbabilisticActor (or another ProbabilisticTensorDictSequential), which has "
            f"a distribution to sample from; got {type(actor).__name__}."
        )
    kinds = [m.distribution_class for m in actor.modules() if isinstance(m, ProbabilisticTensorDictModule)]
    kinds = [kind.func if isinstance(kind, partial) else kind for kind in kinds]
    composite = any(isinstance(kind, type) and issubclass(kind, CompositeDistribution) for kind in kinds)
    if composite or len(actor.dist_sample_keys) > number:
        raise ValueError(
            f"a composite action ({', '.join(map(repr, actor.dist_sample_keys))}) is not taken, because critics and "
            "temperature need one action tensor per agent, [*B, N, d]; draw one tensor that holds all parts, or for "
            "continuous and discrete parts take GroupHybridSACLoss."
        )


def check_critics(critics: TensorDictModule | Sequence[TensorDictModule], number: int) -> TensorDictModule:
    """The only critic, or the first of a list.

    Raises:
        ValueError: for a list of another length than ``num_qvalue_nets``, or of critics that share weights.
    """
    if not isinstance(critics, list | tuple):
        return critics  # pyright: ignore[reportReturnType]
    if len(critics) != number:
        raise ValueError(
            f"qvalue_network must be one critic or a list of num_qvalue_nets={number}; "
            f"got {len(critics)}. Pass num_qvalue_nets={len(critics)}."
        )
    trained = [weight for critic in critics for weight in critic.parameters() if weight.requires_grad]
    if len(set(trained)) < len(trained):
        raise ValueError(
            "the critics in qvalue_network must have weights of their own; got some that share them, which would not "
            "be trained. Make each anew, or pass one critic, which is copied."
        )
    return critics[0]


def layout_in_drop_mode(actor: ProbabilisticTensorDictSequential, actor_layout: str, group: NestedKey) -> ActorLayout:
    """Whether an actor may run on (row, agent) pairs (``"shared"``), as ``skip_done_states="drop"`` would run it.

    Raises:
        ValueError: if ``"shared"`` is claimed for an actor with weights per agent, or for a ``MultiAgentMLP`` that also
            reads entries of the row.
    """
    layout = resolve_actor_layout(actor, actor_layout)
    row_keys = [key for key in actor.in_keys if not in_group(key, group)]
    if layout == "per_agent" or not row_keys or not needs_agent_axis(actor):
        return layout
    # Pairs of different rows share a repacked row, which then has no one entry for the whole row.
    if actor_layout == "shared":
        raise ValueError(
            f"a MultiAgentMLP actor with actor_layout='shared' must read entries of the group {group!r} only; "
            f"got {row_keys}. Pass actor_layout='per_agent'."
        )
    return "per_agent"
