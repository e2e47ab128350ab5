"""The acting policy: an actor per group, normalized observations, and random actions where requested."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import cast

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase
from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, exploration_type

from masac import functional
from masac.errors import ConfigError, RunFailedError
from masac.group_signals import alive_agents, begins_next
from masac.groups import GroupSpec
from masac.networks.memory import GroupMemory
from masac.training.distributed.ranks import ALONE, Rank
from masac.training.policies.direct_actions import direct_actions
from masac.training.policies.memory_transform import CarriedMemories
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.opponent_names import learns, read_opponents


class Opponent(ABC):
    """Acts for a group in place of an actor of the policy.

    Attributes:
        described: what it is, in words.
        weights_of: the group of the policy whose weights act; None for others.
        memory: that it acts with, as a policy does (:meth:`Policy.begin`); None without one.
    """

    described: str
    weights_of: str | None = None
    memory: GroupMemory | None = None

    @abstractmethod
    def __call__(self, state: TensorDictBase) -> Tensor:
        """The actions ``[*B, N, ...]`` in a state of batch size ``*B``, with TorchRL's exploration type."""

    def begin_episodes(self, which: Tensor | None = None) -> None:  # noqa: B027  for those that change with the episode
        """Note that environments begin new episodes.

        Args:
            which: bool ``[E]``; None in other environments, whose episodes are not followed.
        """

    def to(self, device: str) -> None:  # noqa: B027  for those with tensors
        """Move what the opponent acts with to a device."""


class Policy(TensorDictModuleBase):
    """Writes the actions of all groups into the data.

    With memories (``model.memory``) a state has those of its agents too: :meth:`begin` writes them into the first state
    of episodes, and :meth:`carry` into every following one.

    ::

        state = policy.begin(env.reset())
        for _ in range(steps):
            transition, state = env.step_and_maybe_reset(policy(state))
            state = policy.carry(transition, state)

    Args:
        groups: all groups of the environment.
        actors: by group, from the (normalized) observation to the action; groups without one act uniformly at random.
        normalizers: of observations, by group.
        opponents: what acts for groups that no actor here acts for, by group.
        memories: of actors that read one, by group.

    Attributes:
        random_groups: groups that currently act uniformly at random (among their legal actions), with an actor or not.
    """

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        actors: Mapping[str, ProbabilisticTensorDictSequential],
        normalizers: Mapping[str, RunningNormalizer],
        opponents: Mapping[str, Opponent] | None = None,
        memories: Mapping[str, GroupMemory] | None = None,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.actors = nn.ModuleDict(dict(actors))
        self.normalizers = nn.ModuleDict(dict(normalizers))
        self.memories = nn.ModuleDict(dict(memories or {}))
        self.opponents = dict(opponents or {})
        self.random_groups: frozenset[str] = frozenset()
        self._direct = {
            group.name: direct
            for group in groups
            if group.name in actors and (direct := direct_actions(actors[group.name], group)) is not None
        }
        self._seen_keys: list[NestedKey] = [(group.name, name) for group in groups for name in group.seen]
        self.in_keys: list[NestedKey] = [  # pyright: ignore[reportIncompatibleMethodOverride]
            *self._seen_keys,
            *((name, "memory") for name in self.memories),
        ]
        self.out_keys: list[NestedKey] = [  # pyright: ignore[reportIncompatibleMethodOverride]
            key for group in groups for key in group.action_keys
        ]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act on data of batch size ``*B``.

        With memories it also writes ``(group, "memory_after")``, what the agents remember from now on, for
        :meth:`carry`, and takes ``(group, "carried")`` out, so that no state after a step has memories of the step.

        Raises:
            KeyError: if the state has no memories of its own.
        """
        if not isinstance(tensordict, TensorDictBase):
            raise TypeError(
                f"the argument of a policy must be a TensorDict with {self.in_keys}; got {type(tensordict).__name__}. "
                "Stack the observations of each group, for example TensorDict({'agents': {'observation': stacked}})."
            )
        seen = self.normalize(tensordict.select(*self._seen_keys))
        for group, entry, memory in self.memory_entries():
            if entry == "memory" and tensordict.pop((group.name, "carried"), None) is None:
                raise KeyError(
                    f"the state must have the memories that agents of group {group.name!r} have now; got none. Begin "
                    "episodes with state = policy.begin(state), go on with state = policy.carry(transition, state), or "
                    "in TorchRL's loops use env = TransformedEnv(env, policy.make_tensordict_primer())."
                )
            if entry == "memory":
                sees = memory.see(*(seen.get(key) for key in (group.observation_key, *group.image_keys)))
                after = memory.step(sees, tensordict.get((group.name, entry)))
                seen.set((group.name, "actor_memory"), memory.output(after))
                tensordict.set((group.name, "memory_after"), after)
        for group in self.groups:
            for key, part in group.split_action(self._action(group, tensordict, seen)).items():
                tensordict.set(key, part)
        return tensordict

    def _action(self, group: GroupSpec, state: TensorDictBase, seen: TensorDictBase) -> Tensor:
        """The whole action of a group, given the state as it is and as its networks see it."""
        if group.name not in self.random_groups:
            if group.name in self.opponents:
                return self.opponents[group.name](state)
            if group.name in self.actors:
                return self._act(group, seen)
        return random_action(group, seen)

    def _act(self, group: GroupSpec, seen: TensorDictBase) -> Tensor:
        """The action of the group's actor, with the exploration type of TorchRL's context."""
        how = exploration_type()
        actor = cast(ProbabilisticTensorDictSequential, self.actors[group.name])
        try:
            if group.name not in self._direct or how not in (ExplorationType.RANDOM, ExplorationType.DETERMINISTIC):
                return group.whole_action(actor(seen))
            mask = seen.get((group.name, "action_mask")) if group.has_action_mask else None
            images = [seen.get(key) for key in group.image_keys]
            remembered = [seen.get((group.name, "actor_memory"))] if group.name in self.memories else []
            noisy = how == ExplorationType.RANDOM
            observation = seen.get(group.observation_key)
            return self._direct[group.name](observation, *remembered, *images, mask=mask, noisy=noisy)
        except Exception:
            _check_outputs(actor, group, seen)  # distributions refuse them, but do not say whose they are
            raise

    def memory_entries(self) -> Iterator[tuple[GroupSpec, str, GroupMemory]]:
        """The group, the name of the entry and the network of every memory, also of what acts in place of actors."""
        for group in self.groups:
            if group.name in self.memories:
                yield group, "memory", cast(GroupMemory, self.memories[group.name])
            opponent = self.opponents.get(group.name)
            if opponent is not None and opponent.memory is not None:
                yield group, "opponent_memory", opponent.memory

    def begin(self, state: TensorDictBase) -> TensorDictBase:
        """Give the first state of episodes, of batch size ``*B``, empty memories; returns it.

        The entries are ``(group, "memory")``, zeros ``[*B, N, S]``, and ``(group, "is_init")``, bool ``[*B, N, 1]``,
        which is True; ``(group, "carried")`` says that both belong to this state. Without memories nothing is written.
        """
        for group, entry, memory in self.memory_entries():
            lead, weight = (*state.batch_size, group.n_agents), memory.from_state.weight
            begins = torch.ones(*lead, 1, dtype=torch.bool, device=weight.device)
            _set_memory(state, group, entry, weight.new_zeros(*lead, memory.state_dim), begins)
        return state

    def carry(self, transition: TensorDictBase, state: TensorDictBase) -> TensorDictBase:
        """Give the state that follows a step the memories of its agents; returns it.

        The memory of an agent begins anew where :func:`masac.group_signals.begins_next` says so: where its episode or
        its own life ended, and where it did not act.

        Args:
            transition: the step, as the policy and the environment wrote it, batch size ``*B``.
            state: that follows; where the environment was reset, the first one of the next episode.
        """
        for group, entry, _ in self.memory_entries():
            begins = begins_next(transition, group.name, alive_agents(transition, group).unsqueeze(-1))
            after = transition.pop((group.name, f"{entry}_after"), None)
            if after is None:  # the group acted at random in place of its opponent, which has seen nothing
                after, begins = transition.get((group.name, entry)), torch.ones_like(begins)
            _set_memory(state, group, entry, torch.where(begins, torch.zeros_like(after), after), begins)
        return state

    def make_tensordict_primer(self) -> CarriedMemories:
        """The transform with which memories are carried in TorchRL's loops, such as ``env.rollout(steps, policy)``.

        ``env = TransformedEnv(env, policy.make_tensordict_primer())``; :func:`masac.load_env` does so itself.
        """
        return CarriedMemories(self)

    def begin_episodes(self, which: Tensor | None = None) -> None:
        """Note that environments begin new episodes; see :meth:`Opponent.begin_episodes`."""
        for opponent in self.opponents.values():
            opponent.begin_episodes(which)

    def describe(self, name: str) -> str | None:
        """What acts for a group besides an actor that learns, or in its place, in words; None for nothing else."""
        if name in self.opponents:
            return self.opponents[name].described
        return None if name in self.actors else "random"

    def explorers(self, loaded: Collection[str]) -> frozenset[str]:
        """The groups that act at random before learning begins: those whose weights are new.

        Args:
            loaded: groups with weights of another run.
        """
        acts = {
            name for name, one in self.opponents.items() if one.weights_of is None or one.weights_of in loaded
        } | set(loaded)
        return self.group_names - acts

    def of_group(self, name: str) -> Policy:
        """The policy of one group alone, with the same networks."""
        actors, normalizers = ({name: part[name]} if name in part else {} for part in (self.actors, self.normalizers))
        opponents = {name: self.opponents[name]} if name in self.opponents else {}
        memories = {name: self.memories[name]} if name in self.memories else {}
        groups = [group for group in self.groups if group.name == name]
        return Policy(groups, actors, normalizers, opponents, memories)  # pyright: ignore[reportArgumentType]

    @property
    def group_names(self) -> frozenset[str]:
        """The names of all groups."""
        return frozenset(group.name for group in self.groups)

    @property
    def operations(self) -> int:
        """Multiplications and additions per step of one environment, counted as if all agents shared every weight."""
        agents = {group.name: group.n_agents for group in self.groups}
        networks = (*self.actors.items(), *self.memories.items())
        sizes = [(name, sum(p.numel() for p in network.parameters())) for name, network in networks]
        return sum(2 * size * agents[name] for name, size in sizes)

    def observe(self, collected: TensorDictBase, rank: Rank = ALONE) -> None:
        """Add the observations of living agents in a batch ``[E, T]`` of each rank to the normalizers."""
        for group in self.groups:
            if group.name in self.normalizers:
                normalizer = self.normalizers[group.name]
                assert isinstance(normalizer, RunningNormalizer)
                alive = alive_agents(collected, group).unsqueeze(-1)
                number, mean, m2 = normalizer.moments(collected[group.observation_key], alive)
                for moments in rank.all_gather((number, mean.cpu(), m2.cpu())):
                    normalizer.merge(*moments)

    def normalize(self, tensordict: TensorDictBase) -> TensorDictBase:
        """A shallow copy with normalized observations (also at ``next``), if normalization is enabled."""
        if not self.normalizers:
            return tensordict
        out = tensordict.copy()
        for group in self.groups:
            if group.name in self.normalizers:
                for state in (out, out.get("next", None)):
                    if state is not None:
                        observation = state.get(group.observation_key)
                        state.set(group.observation_key, self.normalizers[group.name](observation))
        return out


def _set_memory(state: TensorDictBase, group: GroupSpec, entry: str, memory: Tensor, begins: Tensor) -> None:
    state.set((group.name, entry), memory)
    if entry == "memory":
        state.set((group.name, "is_init"), begins)
        state.set((group.name, "carried"), torch.ones_like(begins))


def random_action(group: GroupSpec, tensordict: TensorDictBase) -> Tensor:
    """A uniformly random legal action for each agent.

    Args:
        group: of the agents.
        tensordict: the state, batch size ``*B``.

    Returns:
        ``[*B, N, ...]`` in the form of the group's action spec; of a hybrid one the whole action.
    """
    observation = tensordict.get(group.observation_key)
    lead = observation.shape[:-1]
    spec, parts = group.action_spec, []
    if group.discrete is None:
        parts.append(spec.expand(torch.Size([*tensordict.batch_size, *spec.shape])).to(observation.device).rand())
    if group.choices is not None:
        sizes = group.choices.sizes or ()
        legal = tensordict.get((group.name, "action_mask"), None)
        logits = torch.zeros(*lead, sum(sizes), device=observation.device)
        _, probs, _ = functional.discrete_policy(logits, legal, sizes)
        parts.append(group.choices.from_one_hot(functional.draw_one_hot(probs, sizes), sizes).to(spec.dtype))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def learning_groups(
    groups: list[GroupSpec], names: tuple[str, ...] | None, opponents: Mapping[str, str] | None = None
) -> list[GroupSpec]:
    """The learning groups: the named ones, or all that have no opponent in their place.

    Raises:
        ConfigError: for an unknown name, a group that has an opponent in its place, or if no group learns.
    """
    known, played = [group.name for group in groups], read_opponents(opponents or {})
    for name in played:
        if name not in known:
            raise ConfigError(
                f"training.opponents must name groups of the task; got {name!r}. There are: {', '.join(known)}."
            )
    if names is None:
        found = [group for group in groups if learns(group.name, played)]
        if not found:
            raise ConfigError(
                f"a group must learn; training.opponents has one in the place of {', '.join(played)}. Leave one out"
            )
        return found
    for name in names:
        if name not in known:
            raise ConfigError(
                f"training.learning_groups must name groups of the task; got {name!r}. There are: {', '.join(known)}."
            )
        if not learns(name, played):
            raise ConfigError(
                f"a group must either learn or have an opponent in its place; {name!r} is in training.learning_groups "
                f"and has training.opponents.{name}={(opponents or {})[name]}. Leave one out"
            )
    return [group for group in groups if group.name in names]


@torch.no_grad()
def _check_outputs(actor: ProbabilisticTensorDictSequential, group: GroupSpec, seen: TensorDictBase) -> None:
    """Raise RunFailedError if what an actor computes for an agent with finite observations is not finite.

    A network that fails itself says why; then nothing is raised here.
    """
    agents = len(seen.batch_size) + 1
    networks = [module for module in actor if not hasattr(module, "distribution_class")]
    distributions = [module for module in actor if hasattr(module, "distribution_class")]
    computed = seen.copy()
    for network in networks:
        try:
            network(computed)
        except Exception:
            return
    keys = (group.observation_key, *group.image_keys)
    sees = torch.stack([computed.get(key).isfinite().flatten(agents).all(-1) for key in keys]).all(0)
    for key in (key for module in distributions for key in module.in_keys):
        parameter = computed.get(key)
        wrong = sees & ~parameter.isfinite().flatten(agents).all(-1)
        if bool(wrong.any()):
            *_, agent = first = tuple(wrong.nonzero()[0].tolist())
            raise RunFailedError(
                f"the actor of group {group.name!r} must compute finite {key!r}; got {parameter[first].tolist()} for a "
                f"finite observation of agent {agent}. Lower training.actor_lr, set training.max_grad_norm=10, or mend "
                "the network in model.actor"
            )
