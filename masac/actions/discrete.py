"""Encodings of discrete actions, read from a spec or a name, and one-hot vectors from them.

Shape legend: ``*L`` leading dimensions, such as ``[*B, N]``, ``K`` factors of a multi-discrete action, ``D`` the
choices of all factors side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from tensordict import NestedKey
from torch import Tensor
from torchrl.data import Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, TensorSpec

from masac.keys import as_path

Encoding = Literal["categorical", "one-hot", "multi-discrete", "mult-one-hot"]
ENCODINGS = get_args(Encoding)
TORCHRL_NAMES: dict[Encoding, str] = {
    "categorical": "categorical",
    "one-hot": "one_hot",
    "multi-discrete": "multi_categorical",
    "mult-one-hot": "mult_one_hot",
}
"""The names of the encodings in TorchRL's losses."""
_ALIASES = {"multi-categorical": "multi-discrete", "multi-one-hot": "mult-one-hot"}


@dataclass(frozen=True, kw_only=True)
class DiscreteActions:
    """The encoding of one agent's discrete action.

    Args:
        encoding: ``"categorical"``, an index ``[*L]`` or ``[*L, 1]``; ``"one-hot"``, ``[*L, D]``; ``"multi-discrete"``,
            one index per factor ``[*L, K]``; ``"mult-one-hot"``, one-hot vectors of the factors side by side
            ``[*L, D]``.
        sizes: choices of each factor; None if not known yet.
    """

    encoding: Encoding
    sizes: tuple[int, ...] | None

    def factors(self, width: int) -> tuple[int, ...]:
        """The choices of each factor, given ``D``.

        Raises:
            ValueError: if they do not sum to ``D``, or are unknown.
        """
        sizes = self.sizes
        if sizes is None and self.encoding in ("categorical", "one-hot"):
            sizes = (width,)
        if sizes is None or sum(sizes) != width:
            raise ValueError(
                f"the actor's logits must have {'num_actions' if sizes is None else sum(sizes)} entries per agent "
                f"(sizes of the action's factors: {sizes}); got {width}. "
                "Pass num_actions=<choices>, or a list of the choices of each factor for multi-discrete actions."
            )
        return sizes

    def one_hot(self, action: Tensor, lead: Sequence[int], sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An action as one-hot vectors of the factors, side by side.

        Args:
            action: in this encoding.
            lead: ``*L``.
            sizes: choices of each factor.
            dtype: of the result.

        Returns:
            ``[*L, D]``; zeros for an index out of range.

        Raises:
            ValueError: for an action of another shape.
        """
        width = sum(sizes) if self.encoding in ("one-hot", "mult-one-hot") else len(sizes)
        shapes = [(*lead, width)] + ([tuple(lead)] if self.encoding == "categorical" else [])
        if tuple(action.shape) not in shapes:
            wanted = " or ".join(str(list(shape)) for shape in reversed(shapes))
            raise ValueError(
                f"an action in the encoding {self.encoding!r} must have shape {wanted}; got {list(action.shape)}. "
                f"Pass the encoding of the data as action_space: one of {', '.join(ENCODINGS)}."
            )
        if self.encoding in ("one-hot", "mult-one-hot"):
            return action.to(dtype)
        indices = action.reshape(*lead, width)
        vectors = [indices[..., k, None] == torch.arange(size, device=action.device) for k, size in enumerate(sizes)]
        return torch.cat(vectors, dim=-1).to(dtype)

    def from_one_hot(self, vectors: Tensor, sizes: Sequence[int]) -> Tensor:
        """The action in this encoding, ``[*L]``, ``[*L, D]`` or ``[*L, K]``, from one-hot vectors ``[*L, D]``."""
        if self.encoding in ("one-hot", "mult-one-hot"):
            return vectors
        indices = torch.stack([part.argmax(-1) for part in vectors.split(list(sizes), -1)], dim=-1)
        return indices.squeeze(-1) if self.encoding == "categorical" else indices


def read_discrete_actions(spec: TensorSpec) -> DiscreteActions | None:
    """The encoding of a leaf spec; None if its actions are not discrete, or differ between agents."""
    if isinstance(spec, MultiCategorical):
        nvec = cast(Any, spec).nvec.reshape(-1, spec.shape[-1])
        if bool((nvec != nvec[:1]).any()):
            return None
        return DiscreteActions(encoding="multi-discrete", sizes=tuple(nvec[0].tolist()))
    if isinstance(spec, MultiOneHot):
        return DiscreteActions(encoding="mult-one-hot", sizes=tuple(box.n for box in cast(Any, spec.space).boxes))
    if isinstance(spec, OneHot):
        return DiscreteActions(encoding="one-hot", sizes=(int(cast(Any, spec.space).n),))
    if isinstance(spec, Categorical):
        return DiscreteActions(encoding="categorical", sizes=(int(cast(Any, spec.space).n),))
    return None


def resolve_action_space(
    action_space: str | TensorSpec, num_actions: int | Sequence[int] | None, action_key: NestedKey
) -> DiscreteActions:
    """The encoding of a name (TorchRL's, or ``"multi-discrete"``) or a spec.

    Args:
        action_space: a name, a leaf spec, or a composite with the action at ``action_key``.
        num_actions: choices, or the choices of each factor; read from the spec, if there is one.
        action_key: key of the action.

    Raises:
        ValueError: for another name or spec, or a different ``num_actions`` in the spec.
    """
    given = None if num_actions is None else (num_actions,) if isinstance(num_actions, int) else tuple(num_actions)
    if not isinstance(action_space, TensorSpec):
        encoding = str(action_space).replace("_", "-")
        encoding = _ALIASES.get(encoding, encoding)
        if encoding == "binary":
            raise ValueError(
                "action_space='binary' is not taken, because a bit of 0 is a choice with a value too. Pass "
                "'multi-discrete' with num_actions=[2, 2, ...], whose indices are the bits."
            )
        if encoding not in ENCODINGS:
            raise ValueError(
                f"action_space must be one of {', '.join(ENCODINGS)}, or a spec of discrete actions; "
                f"got {action_space!r}."
            )
        if given is not None and len(given) != 1 and encoding in ("categorical", "one-hot"):
            raise ValueError(
                f"num_actions must be one number for action_space={encoding!r}; got {list(given)}. "
                "Pass action_space='multi-discrete' for actions of several factors."
            )
        return DiscreteActions(encoding=cast(Encoding, encoding), sizes=given)
    leaf = action_space.get(as_path(action_key), None) if isinstance(action_space, Composite) else action_space
    found = None if leaf is None else read_discrete_actions(leaf)
    if found is None:
        raise ValueError(
            f"action_space must be a spec of discrete actions, equal for all agents, with the action at {action_key!r} "
            f"if it is a composite; got {action_space}."
        )
    if given is not None and given != found.sizes:
        raise ValueError(f"num_actions must be {found.sizes}, as in the spec; got {list(given)}.")
    return found
