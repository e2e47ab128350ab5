"""How a network treats the agents of a group: shared or per-agent weights, independent or centralized."""

from __future__ import annotations

import abc
from typing import Literal

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import MultiAgentMLP

from masac.functional import expectation

ActorLayout = Literal["shared", "per_agent"]


class GroupNetwork(nn.Module):
    """Base of networks over the agents of a group, with attributes for how they treat the agents.

    Args:
        n_agents: the size of the group, or None if any size fits.
        share_params: whether all agents use the same weights.
        centralized: whether an agent's output depends on its teammates' inputs.
        position_dependent: whether the position of an agent in the group matters apart from weights, as with agent ids.
    """

    def __init__(
        self, *, n_agents: int | None, share_params: bool, centralized: bool, position_dependent: bool = False
    ) -> None:
        super().__init__()
        self.n_agents = n_agents
        self.share_params = share_params
        self.centralized = centralized
        self.position_dependent = position_dependent

    def check_agents(self, entries: Tensor) -> None:
        """Raise ValueError unless ``entries`` is ``[*B, N, F]`` of the group's size, if the size matters."""
        if self.share_params and not self.centralized and not self.position_dependent:
            return
        if entries.ndim < 2 or entries.shape[-2] != self.n_agents:
            raise ValueError(
                f"{type(self).__name__} must be given entries of shape [*B, {self.n_agents}, F]; "
                f"got {list(entries.shape)}. Build it with the group's n_agents."
            )


class StackedCritic(TensorDictModule, abc.ABC):
    """A critic that computes K critics in one pass, given their stacked parameters."""

    @property
    @abc.abstractmethod
    def hides_own_action(self) -> bool:
        """Whether an agent's value cannot depend on its own discrete action, though the critic reads all actions."""

    @abc.abstractmethod
    def stacked_values(self, inputs: TensorDictBase, params: TensorDictBase, *, own_gradient: bool = False) -> Tensor:
        """The values of K critics.

        Args:
            inputs: the entries ``in_keys``, batch size ``*B``.
            params: parameters with a leading K.
            own_gradient: let the gradient of agent i's value reach the action of agent i only.

        Returns:
            ``[K, *B, N, V]``, or ``[K, *B, 1]`` for a team.
        """

    def chosen_values(self, inputs: TensorDictBase, params: TensorDictBase, chosen: Tensor) -> Tensor:
        """The values that K critics give to one of an agent's discrete actions each.

        Args:
            inputs: the entries ``in_keys``, batch size ``*B``.
            params: parameters with a leading K.
            chosen: the actions, one-hot, ``[*B, N, V]``.

        Returns:
            ``[K, *B, N, 1]``.
        """
        return expectation(chosen, self.stacked_values(inputs, params))


def resolve_actor_layout(actor: nn.Module, layout: str) -> ActorLayout:
    """Whether the agent axis is a batch axis for this actor (``"shared"``) or not (``"per_agent"``).

    ``"auto"`` is shared only if every module with parameters or buffers is a masac network with shared weights that
    treats all agents alike, or ``MultiAgentMLP(share_params=True, centralized=False)``. Modules without parameters
    between them are unknown; the loss therefore tries every shared actor once before it runs it on pairs.

    Raises:
        ValueError: for another ``layout``, or if ``"shared"`` is claimed for an actor known not to be shared.
    """
    if layout not in ("auto", "shared", "per_agent"):
        raise ValueError(f"actor_layout must be 'auto', 'shared' or 'per_agent'; got {layout!r}.")
    if layout == "per_agent":
        return "per_agent"
    networks, unknown = _known_networks(actor)
    reason = next((reason for reason in map(_why_not_shared, networks) if reason), None)
    if layout == "shared" and reason:
        raise ValueError(
            "actor_layout='shared' must describe an actor for which the agent axis is a batch axis; "
            f"got one with {reason}. Pass actor_layout='per_agent' or 'auto'."
        )
    known_shared = bool(networks) and not unknown and reason is None
    return "shared" if layout == "shared" or known_shared else "per_agent"


def needs_agent_axis(actor: nn.Module) -> bool:
    """Whether the actor, though shared, requires an agent axis of size N in its input, as ``MultiAgentMLP`` does."""
    return any(isinstance(network, MultiAgentMLP) for network in _known_networks(actor)[0])


def group_size(module: nn.Module) -> int | None:
    """The number of agents, if the networks in ``module`` agree on it."""
    sizes = {network.n_agents for network in _known_networks(module)[0] if network.n_agents is not None}
    return sizes.pop() if len(sizes) == 1 else None


def resolve_critic_layout(critic: nn.Module, layout: str) -> bool:
    """Whether a critic is centralized: whether the value of one agent depends on its teammates' inputs.

    ``"auto"`` asks the modules with parameters; a critic with an unknown module counts as centralized. The only effect
    on one that is not: it sees zeros where an agent does not act, and those values are not used. Modules without
    parameters that mix agents, such as a mean over agents, are not detected: claim ``"centralized"`` for them.

    Raises:
        ValueError: for another ``layout``, or if ``"decentralized"`` is claimed for a critic known to be centralized.
    """
    if layout not in ("auto", "centralized", "decentralized"):
        raise ValueError(f"critic_layout must be 'auto', 'centralized' or 'decentralized'; got {layout!r}.")
    networks, unknown = _known_networks(critic)
    mixes = any(network.centralized for network in networks)
    if layout == "decentralized" and mixes:
        raise ValueError(
            "critic_layout='decentralized' must describe a critic that does not mix agents; got a centralized network. "
            "Pass critic_layout='centralized' or 'auto'."
        )
    if layout == "auto":
        return mixes or unknown or not networks
    return layout == "centralized"


def _known_networks(module: nn.Module) -> tuple[list[GroupNetwork | MultiAgentMLP], bool]:
    """The networks in ``module`` of a known layout, and whether there are parameters or buffers outside of them."""
    if isinstance(module, GroupNetwork | MultiAgentMLP):
        return [module], False
    networks: list[GroupNetwork | MultiAgentMLP] = []
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    unknown = bool(own)
    for child in module.children():
        child_networks, child_unknown = _known_networks(child)
        networks += child_networks
        unknown = unknown or child_unknown
    return networks, unknown


def _why_not_shared(network: GroupNetwork | MultiAgentMLP) -> str | None:
    name = type(network).__name__
    if not network.share_params:
        return f"weights per agent ({name})"
    if network.centralized:
        return f"a centralized network ({name})"
    if isinstance(network, GroupNetwork) and network.position_dependent:
        return f"agent ids ({name})"
    return None
