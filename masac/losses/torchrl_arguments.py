"""What TorchRL's SAC losses take and a group loss has no use for: accepted where it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict


class TorchRLArguments(TypedDict, total=False):
    """Arguments of ``SACLoss`` and ``DiscreteSACLoss``, so that a call of theirs is one of a group loss too.

    Any other value than these is an error that says why it is not taken.

    Args:
        delay_actor: False.
        delay_value: of a value network, which there is none of; either way the same.
        priority_key: None.
        separate_losses: False.
        scalar_output_mode: with ``reduction="none"``, ``"non_tensor"`` puts ``alpha`` and ``entropy`` into the output
            as non-tensors; None or ``"exclude"`` leaves them out.
    """

    delay_actor: Literal[False]
    delay_value: bool
    priority_key: None
    separate_losses: Literal[False]
    scalar_output_mode: Literal["exclude", "non_tensor"] | None


_TAKEN: dict[str, tuple[Any, ...]] = {
    "value_network": (None,),
    "delay_actor": (False, None),
    "delay_value": (False, True, None),
    "priority_key": (None,),
    "separate_losses": (False, None),
    "scalar_output_mode": (None, "exclude", "non_tensor"),
}
_WHY_NOT = {
    "value_network": "it belongs to the first SAC (arXiv 1801.01290); the critics give the value here",
    "delay_actor": "targets take the actions of the current policies, so that nothing would read a delayed actor",
    "priority_key": "keys are set with set_keys(priority=...)",
    "separate_losses": (
        "the critics' loss trains all parameters of the critics; detach the features that a critic shares with the "
        "actor inside the critic"
    ),
    "scalar_output_mode": "the modes are 'exclude' and 'non_tensor'",
}


def check_torchrl_arguments(given: Mapping[str, Any], taker: str) -> None:
    """Check what a loss was given of :class:`TorchRLArguments`, and of ``value_network``.

    Args:
        given: the arguments by name.
        taker: the name of the loss.

    Raises:
        TypeError: if an argument is none of TorchRL's.
        ValueError: if a value would change something.
    """
    for name, value in given.items():
        if name not in _TAKEN:
            raise TypeError(f"{taker} has no argument {name!r}. Its arguments are in its docstring.")
        if not any(value is taken for taken in _TAKEN[name]):
            shown = repr(value) if isinstance(value, str | int | float | bool | tuple) else f"a {type(value).__name__}"
            raise ValueError(f"{name}={shown} is not taken, because {_WHY_NOT[name]}.")
