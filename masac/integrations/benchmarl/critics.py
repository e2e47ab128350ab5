"""Centralized critics with a value per agent, made of BenchMARL's models.

BenchMARL's own centralized critic with shared weights has one value for the group, repeated for its agents: if agents
have rewards of their own, it is trained on their mean. Here a model runs once for every agent instead, on the
observations and actions of all agents, the agent's own first (as in masac's centralized critic), so that shared weights
can distinguish agents.

Shape legend: ``*B`` batch, ``N`` agents, ``F`` features, ``V`` values per agent (1, or one per action).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from benchmarl.algorithms.common import Algorithm  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
from benchmarl.models import (  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
    DeepsetsConfig,
    EnsembleModelConfig,
    GnnConfig,
    ModelConfig,
    SequenceModelConfig,
)
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import Composite, Unbounded

from masac.compat import parameters_in
from masac.keys import as_path, get_entry
from masac.layouts import StackedCritic


class EgoCritic(StackedCritic):
    """A model of BenchMARL's, run for every agent on the entries of its whole group.

    Agent i's own entry comes first, then those of agents i+1, i+2, ... around the group: side by side, or with
    ``as_sets`` as a set, beside the agent's own entry. A global state is the same for all agents.

    Args:
        model: reads the entries of :func:`make_agent_critic`, and writes ``[*B, N, V]``.
        group: key of the agents' entries.
        observation_keys: the entries ``[*B, N, ..., F]`` of the group that it sees.
        state_keys: the entries of the row that it sees.
        shows_own_action: whether an agent's value may depend on the agent's own action (False for discrete actions).
        as_sets: whether the model takes sets.
    """

    def __init__(
        self,
        model: TensorDictModuleBase,
        *,
        group: str,
        observation_keys: Sequence[NestedKey],
        state_keys: Sequence[NestedKey],
        shows_own_action: bool,
        as_sets: bool,
    ) -> None:
        action_key = (group, "action")
        made = {_of_all(group, key) for key in (*observation_keys, action_key)}
        given = made | {_of_row(group, key) for key in state_keys} | set(map(as_path, (*observation_keys, action_key)))
        # Other inputs of the model, such as the starts of episodes for a recurrent one.
        besides = [key for key in model.in_keys if as_path(key) not in given]
        in_keys = [*observation_keys, action_key, *state_keys, *besides]
        super().__init__(model, in_keys=in_keys, out_keys=model.out_keys[-1:])
        self.group = group
        self.action_key = action_key
        self.observation_keys = list(observation_keys)
        self.state_keys = list(state_keys)
        self.besides = besides
        self.shows_own_action = shows_own_action
        self.as_sets = as_sets

    @property
    def hides_own_action(self) -> bool:
        """See :class:`masac.layouts.StackedCritic`."""
        return not self.shows_own_action

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Write the values of one critic into ``tensordict``."""
        return tensordict.set(self.out_keys[0], self._value(self._seen(tensordict, own_gradient=False)))

    def stacked_values(self, inputs: TensorDictBase, params: TensorDictBase, *, own_gradient: bool = False) -> Tensor:
        """See :class:`masac.layouts.StackedCritic`."""
        seen = self._seen(inputs, own_gradient=own_gradient)

        def one(critic_params: TensorDictBase) -> Tensor:
            with parameters_in(self, critic_params):
                return self._value(seen)

        return torch.vmap(one, randomness="different")(params)

    def _value(self, seen: TensorDict) -> Tensor:
        return self.module(seen.copy()).get(self.out_keys[0])

    def _seen(self, inputs: TensorDictBase, *, own_gradient: bool) -> TensorDict:
        """The inputs of the model."""
        dims = inputs.batch_dims
        action = get_entry(inputs, self.action_key, "the critic")
        lead = action.shape[: dims + 1]
        seen = TensorDict({self.group: TensorDict({}, lead)}, inputs.batch_size, device=inputs.device)
        entries = {as_path(key): get_entry(inputs, key, "the critic") for key in self.observation_keys}
        around = {key: ego_first(entry, dims) for key, entry in entries.items()}
        around[self.action_key] = self._actions_around(action, dims, own_gradient)
        for key, entry in around.items():
            seen.set(_of_all(self.group, key), entry if self.as_sets else side_by_side(entry, dims))
        if self.as_sets:
            for key, entry in entries.items():
                seen.set(key, entry)
            if self.shows_own_action:
                seen.set(self.action_key, action)
        for key in self.state_keys:
            state = get_entry(inputs, key, "the critic").unsqueeze(dims)
            seen.set(_of_row(self.group, key), state.expand(*lead, *state.shape[dims + 1 :]))
        for key in self.besides:
            entry = inputs.get(key, None)
            if entry is not None:
                seen.set(key, entry)
        return seen

    def _actions_around(self, action: Tensor, dims: int, own_gradient: bool) -> Tensor:
        """The actions that every agent's critic may see, ``[*B, N, N, A]``, from ``[*B, N, A]``."""
        own, others = ego_first(action, dims).split([1, action.shape[dims] - 1], dim=dims + 1)
        own = own if self.shows_own_action else torch.zeros_like(own)
        return torch.cat([own, others.detach() if own_gradient else others], dim=dims + 1)


def ego_first(entry: Tensor, batch_dims: int) -> Tensor:
    """``[*B, N, ..., F]`` as every agent sees it, ``[*B, N, N, ..., F]``: its own first, then the next agents'."""
    n_agents = entry.shape[batch_dims]
    places = torch.arange(n_agents, device=entry.device)
    order = (places[:, None] + places) % n_agents
    return entry.index_select(batch_dims, order.flatten()).unflatten(batch_dims, (n_agents, n_agents))


def side_by_side(around: Tensor, batch_dims: int) -> Tensor:
    """``[*B, N, N, ..., F]`` as ``[*B, N, ..., N F]``."""
    return around.movedim(batch_dims + 1, -2).flatten(-2)


def make_agent_critic(algorithm: Algorithm, group: str, n_actions: int | None) -> TensorDictModuleBase:
    """A centralized critic with a value per agent, from the algorithm's critic model.

    A graph network has the agents as nodes, each with its own observation and action (and no global state), and a value
    per node: an agent's value depends on the agents that its edges reach. Any other model is an :class:`EgoCritic`.

    Args:
        algorithm: BenchMARL's, with ``share_param_critic``.
        group: the name of the group.
        n_actions: D, values per agent for discrete actions; None for continuous ones.

    Raises:
        ValueError: for discrete actions and a graph network, whose nodes cannot hide an agent's own action from it.
    """
    n_agents = len(algorithm.group_map[group])
    first = _first_model(algorithm.critic_model_config, group)
    entries = _group_entries(algorithm, group, n_actions)
    observation_keys = [key for key in entries if key != (group, "action")]
    states = {} if algorithm.state_spec is None else dict(algorithm.state_spec.items(True, True))
    if isinstance(first, GnnConfig):
        if n_actions is not None:
            raise ValueError(
                "coupled_discrete_values must be True with a graph network as critic, whose nodes cannot hide an "
                "agent's own action from its value; got False."
            )
        return _build(algorithm, group, entries, values=1, name="state_action_value")
    as_sets = isinstance(first, DeepsetsConfig)
    shown = {_of_all(group, key): _around(shape, n_agents, as_sets) for key, shape in entries.items()}
    if as_sets:
        shown |= {key: entries[key] for key in (observation_keys if n_actions else entries)}
    shown |= {_of_row(group, key): torch.Size((n_agents, *spec.shape)) for key, spec in states.items()}
    name = "state_action_value" if n_actions is None else "action_value"
    return EgoCritic(
        _build(algorithm, group, shown, values=n_actions or 1, name=name),
        group=group,
        observation_keys=observation_keys,
        state_keys=list(states),
        shows_own_action=n_actions is None,
        as_sets=as_sets,
    )


def _build(
    algorithm: Algorithm, group: str, shapes: dict[tuple[str, ...], torch.Size], *, values: int, name: str
) -> TensorDictModuleBase:
    """A model that runs for every agent on entries of these shapes ``[N, ...]``."""
    n_agents = len(algorithm.group_map[group])
    inputs = Composite({group: Composite({}, shape=(n_agents,))})
    for key, shape in shapes.items():
        inputs[key] = Unbounded(shape=shape)
    outputs = Composite({group: Composite({name: Unbounded(shape=torch.Size((n_agents, values)))}, shape=(n_agents,))})
    return algorithm.critic_model_config.get_model(
        input_spec=inputs.to(algorithm.device),
        output_spec=outputs.to(algorithm.device),
        n_agents=n_agents,
        centralised=False,  # the inputs contain the entries of the other agents
        input_has_agent_dim=True,
        agent_group=group,
        share_params=algorithm.share_param_critic,
        device=algorithm.device,
        action_spec=algorithm.action_spec,
    )


def _group_entries(algorithm: Algorithm, group: str, n_actions: int | None) -> dict[tuple[str, ...], torch.Size]:
    """The entries of a group by key, with their shapes ``[N, ..., F]``; the action last, one-hot if discrete."""
    observations = algorithm.observation_spec[group].items(True, True)
    entries = {(group, *as_path(key)): spec.shape for key, spec in observations}
    shape = algorithm.action_spec[group, "action"].shape
    return {**entries, (group, "action"): shape if n_actions is None else torch.Size((shape[0], n_actions))}


def _around(shape: torch.Size, n_agents: int, as_sets: bool) -> torch.Size:
    """The shape in which every agent sees an entry ``[N, ..., F]`` of all agents."""
    if as_sets:
        return torch.Size((n_agents, *shape))
    return torch.Size((*shape[:-1], n_agents * shape[-1]))


def _first_model(config: ModelConfig, group: str) -> ModelConfig:
    """The model that reads the entries."""
    if isinstance(config, EnsembleModelConfig):
        config = config.model_configs_map[group]
    return config.model_configs[0] if isinstance(config, SequenceModelConfig) else config


def _of_all(group: str, key: NestedKey) -> tuple[str, ...]:
    return (group, f"{'_'.join(as_path(key)[1:])}_of_all")


def _of_row(group: str, key: NestedKey) -> tuple[str, ...]:
    return (group, f"{'_'.join(as_path(key))}_of_row")
