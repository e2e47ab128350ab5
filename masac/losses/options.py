"""The arguments of every group loss, declared and explained once.

:class:`GroupSACLoss`, :class:`GroupDiscreteSACLoss`, ``AlgorithmConfig`` and the options of BenchMARL's algorithms take
them from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from tensordict import NestedKey

from masac.group_signals import RewardReduction, TerminatedReduction
from masac.networks.memory import GroupMemory
from masac.skipping import TerminalFill

LossFunction = Literal["smooth_l1", "l2", "l1"]
Reduction = Literal["mean", "sum", "none"]
ActorGradient = Literal["own", "joint"]


class TorchRLOptions(TypedDict, total=False):
    """Arguments of ``SACLoss`` and ``DiscreteSACLoss`` that a group loss has no use for.

    They are accepted so that a call of theirs also works for a group loss. Other values are errors with the reason.

    Attributes:
        delay_actor: False.
        delay_value: has no effect, since there is no value network.
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


class GroupLossOptions(TorchRLOptions, total=False):
    """The arguments that all group losses take, and those of :class:`TorchRLOptions`.

    Attributes:
        group: where the agents' entries live. Default: ``"agents"``.
        n_agents: N; found in the networks or the data if None. Default: None.
        num_qvalue_nets: number of critics, of which the smallest value counts. Default: 2.
        loss_function: distance of critic and target: ``"smooth_l1"``, ``"l2"`` or ``"l1"``. Default: ``"smooth_l1"``.
        gamma: discount per step. Default: 0.99.
        alpha_init: initial temperature, the weight of one nat of entropy in units of the reward. Default: 1.0.
        min_alpha: lower bound of the temperature, or None. Default: None.
        max_alpha: upper bound of the temperature, or None. Default: None.
        fixed_alpha: keep the temperature at ``alpha_init``. Default: False.
        alpha_per_agent: one temperature per agent instead of one for the group. Default: False.
        skip_done_states: what the networks see at the next states of agents that do not act there. False: the data.
            True or ``"fill"``: something valid instead, see ``terminal_fill``. ``"drop"``: nothing; a shared actor
            runs only on agents that act, a per-agent actor and the target critics only on rows with such an agent. The
            critic targets are the same. Default: False.
        terminal_fill: ``"current"``, the current observation of the same row; a number; or a function of (key, current
            entry) that returns a valid entry. Default: ``"current"``.
        actor_layout: ``"shared"`` if the agent axis is a batch axis of the actor, ``"per_agent"`` if it must stay;
            ``"auto"`` chooses shared only for modules known to be. Default: ``"auto"``.
        critic_layout: ``"centralized"`` if the value of an agent depends on inputs of its teammates, else
            ``"decentralized"``; ``"auto"`` asks the modules. A centralized critic sees zeros for an agent that does not
            act. Default: ``"auto"``.
        terminated_reduction: ``"none"``: the value of an agent ends with its own flag. ``"any"``: with the first end in
            the group (games that one mistake loses). ``"all"``: with the last one, which takes a team critic or
            ``posthumous``. Default: ``"none"``.
        posthumous: with ``terminated_reduction="all"`` and a value per agent: train the value of a dead agent on the
            team reward while its team lives, so that its last state bootstraps from something. Default: False.
        reward_reduction: ``"mean"`` or ``"sum"`` over all agents for a team reward, None for the reward of each agent.
            Default: None.
        delay_qvalue: target critics, to be updated by ``SoftUpdate`` or ``HardUpdate``. Default: True.
        reduction: ``"mean"`` or ``"sum"`` over living agents, or ``"none"``: values of shape ``[*B, N]`` (team critic:
            ``[*B]``), 0 for the dead, and no other entries in the output. Default: ``"mean"``.
        deactivate_vmap: loop over the critics, for modules that vmap cannot handle. Default: False.
        use_prioritized_weights: whether to apply importance weights ``[*B]`` where the data has them. Default:
            ``"auto"``.
        actor_memory: a recurrent memory of observations; the actor reads its output at ``(group, "actor_memory")``. The
            data must be sequences, batch size ``[*B, T]``. Default: None.
        critic_memory: likewise of the critics, one for all of them, with a target: they read
            ``(group, "critic_memory")``. Default: None.
        burn_in: the first steps of every sequence, on which memories are unrolled without gradient; no term sees them.
            Networks with a memory of their own, which read ``is_init`` (such as TorchRL's ``GRUModule``), run over them
            with a gradient; their weight in every term is 0. Default: 0.
    """

    group: NestedKey
    n_agents: int | None
    num_qvalue_nets: int
    loss_function: LossFunction
    gamma: float | None
    alpha_init: float
    min_alpha: float | None
    max_alpha: float | None
    fixed_alpha: bool
    alpha_per_agent: bool
    skip_done_states: bool | Literal["fill", "drop"]
    terminal_fill: TerminalFill
    actor_layout: Literal["auto", "shared", "per_agent"]
    critic_layout: Literal["auto", "centralized", "decentralized"]
    terminated_reduction: TerminatedReduction
    posthumous: bool
    reward_reduction: RewardReduction | None
    delay_qvalue: bool
    reduction: Reduction | None
    deactivate_vmap: bool
    use_prioritized_weights: bool | Literal["auto"]
    actor_memory: GroupMemory | None
    critic_memory: GroupMemory | None
    burn_in: int


def taken_options(loss: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are arguments of a loss, by name."""
    return {name: values[name] for name in inspect.signature(loss).parameters if name in values}


_TAKEN: dict[str, tuple[Any, ...]] = {
    "value_network": (None,),
    "delay_actor": (False, None),
    "delay_value": (False, True, None),
    "priority_key": (None,),
    "separate_losses": (False, None),
    "scalar_output_mode": (None, "exclude", "non_tensor"),
}
_WHY_NOT = {
    "value_network": "it belongs to the first SAC (arXiv 1801.01290); here the critics give the value",
    "delay_actor": "critic targets take the actions of the current policies, so nothing would read a delayed actor",
    "priority_key": "keys are set with set_keys(priority=...)",
    "separate_losses": (
        "the critic loss trains all parameters of the critics; detach the features that a critic shares with the "
        "actor inside the critic"
    ),
    "scalar_output_mode": "the modes are 'exclude' and 'non_tensor'",
}


def check_torchrl_options(given: Mapping[str, Any], taker: str) -> None:
    """Check values of :class:`TorchRLOptions` and ``value_network`` that were passed to a loss.

    Args:
        given: the arguments by name.
        taker: the name of the loss.

    Raises:
        TypeError: for an argument that TorchRL's losses do not have.
        ValueError: for a value that would change something.
    """
    for name, value in given.items():
        if name not in _TAKEN:
            raise TypeError(f"{taker} has no argument {name!r}. Its docstring lists the arguments.")
        if not any(value is taken for taken in _TAKEN[name]):
            shown = repr(value) if isinstance(value, str | int | float | bool | tuple) else f"a {type(value).__name__}"
            raise ValueError(f"{name}={shown} is not taken, because {_WHY_NOT[name]}.")
