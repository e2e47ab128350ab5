"""Memories in a loss: the states that networks read, computed for sequences with the rule of acting.

A state is a function of the weights, so it is computed anew from the observations in every update. Only where a
sequence begins it is taken from the data, as the acting policy had it.

Shape legend: ``*B, T`` batch, time last, ``N`` agents, ``S`` numbers of one agent's state, ``H`` size of a memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from masac.compat import parameters_in
from masac.group_signals import begins_next, read_alive
from masac.keys import as_path, get_entry, in_group
from masac.losses.loss_keys import GroupKeys
from masac.networks.memory import GroupMemory
from masac.signals import expand_to_agents


class _Lives(NamedTuple):
    """Who lives in a sequence.

    Args:
        begins: the agents that begin anew at a step, bool ``[*B, T, N, 1]``.
        alive: the agents that act in a step, bool ``[*B, T, N, 1]``; None for all.
    """

    begins: Tensor
    alive: Tensor | None

    def steps(self, which: slice) -> _Lives:
        """Some of the steps."""
        return _Lives(self.begins[..., which, :, :], None if self.alive is None else self.alive[..., which, :, :])


class RecurrentLoss(GroupKeys):
    """Base of group losses: the memories of actors and critics, and the entries that networks read of them.

    A loss computes the entries ``(group, "actor_memory")`` and ``(group, "critic_memory")``, ``[*B, T, N, H]``: what a
    memory holds once it saw the observation of a state. An actor or a critic reads them like any other entry.
    """

    actor_memory: GroupMemory | None
    critic_memory: GroupMemory | None
    actor_memory_params: TensorDictParams | None
    critic_memory_params: TensorDictParams | None
    target_actor_memory_params: TensorDictParams  # a name that TorchRL asks for
    target_critic_memory_params: TensorDictParams
    actor_network_params: TensorDictParams
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams
    log_alpha: Tensor
    burn_in: int

    def _set_memories(
        self, actor_memory: GroupMemory | None, critic_memory: GroupMemory | None, burn_in: int, *, delay: bool
    ) -> None:
        if burn_in < 0:
            raise ValueError(f"burn_in must be a number of steps, at least 0; got {burn_in}.")
        self.burn_in = burn_in
        readers = {"actor_memory": self.actor_network, "critic_memory": self.qvalue_network}
        for name, memory in (("actor_memory", actor_memory), ("critic_memory", critic_memory)):
            _check_reader(readers[name], self._computed(name), memory, name)
            if memory is None:
                setattr(self, name, None)
                setattr(self, f"{name}_params", None)
            else:
                target = delay and name == "critic_memory"
                self.convert_to_functional(memory, name, create_target_params=target)  # pyright: ignore

    # -- what is trained -----------------------------------------------------------------------------------------------

    @property
    def actor_parameters(self) -> list[nn.Parameter]:
        """What the actor loss trains: the actor, and its memory."""
        return [*self.actor_network_params.parameters(), *_parameters(self.actor_memory_params)]

    @property
    def critic_parameters(self) -> list[nn.Parameter]:
        """What the critic loss trains: the critics, and their memory."""
        return [*self.qvalue_network_params.parameters(), *_parameters(self.critic_memory_params)]

    @property
    def critics_and_targets(self) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors of the critics and their memory, and those of the targets that follow them, in the same order."""
        names = ["qvalue_network_params", *(["critic_memory_params"] if self.critic_memory is not None else [])]
        critics = [value for name in names for value in getattr(self, name).values(True, True)]
        return critics, [value for name in names for value in getattr(self, f"target_{name}").values(True, True)]

    # -- the data ------------------------------------------------------------------------------------------------------

    def _computed(self, name: str) -> tuple[str, ...]:
        """The key of an entry that the loss computes."""
        return (*as_path(self.group), name)

    def _seen_by(self, memory: GroupMemory) -> list[tuple[str, ...]]:
        """The keys of what a memory sees."""
        return [(*as_path(self.group), name) for name in ("observation", *memory.image_names)]

    @property
    def _has_memories(self) -> bool:
        return self.actor_memory is not None or self.critic_memory is not None

    @property
    def _runs_over_burn_in(self) -> bool:
        """Whether a network has a memory of its own, as those that read ``is_init`` do, and must see burn-in, too."""
        networks = (self.actor_network, self.qvalue_network)
        recurrent = any(as_path(key)[-1] == "is_init" for network in networks for key in network.in_keys)
        return bool(self.burn_in) and recurrent and not self._has_memories

    def _state_keys(self) -> list[tuple[str, ...]]:
        if not self._has_memories:
            return super()._state_keys()
        computed = {self._computed("actor_memory"), self._computed("critic_memory")}
        others = [key for key in super()._state_keys() if key not in computed]
        seen = [key for memory in (self.actor_memory, self.critic_memory) if memory for key in self._seen_by(memory)]
        return list(dict.fromkeys([*others, *seen]))

    @property
    def optional_in_keys(self) -> list[NestedKey]:
        """The entries that ``forward`` reads where present: keep them too when selecting data for the loss."""
        if not self._has_memories:
            return super().optional_in_keys
        begins = as_path(self.tensor_keys.is_init)
        flags = [("next", *path, name) for path in (as_path(self.group), ()) for name in ("done", "truncated")]
        return [*super().optional_in_keys, as_path(self.tensor_keys.memory), begins, begins[-1:], *flags]

    def _with_memories(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The data with the entries that the networks read of memories, without the steps of burn-in.

        Current states: the memories are unrolled from the state in the data (the critics' from zeros). Next states: one
        more step, from the state before; so a step after which the episode ended, in the middle of a sequence, also
        bootstraps from a memory of the same episode. Target critics have their own memory, unrolled from the start.
        """
        if not self.burn_in and not self._has_memories:
            return tensordict
        self._check_sequences(tensordict)
        if self._runs_over_burn_in:
            return tensordict
        data: Any = tensordict[..., self.burn_in :] if self.burn_in else tensordict.copy()
        if not self._has_memories:
            return data
        lives = self._lives(tensordict)
        if self.actor_memory is not None:
            assert self.actor_memory_params is not None
            start = tensordict.get(as_path(self.tensor_keys.memory), None)
            start = None if start is None else start[..., 0, :, :]
            now = self._unroll(self.actor_memory, self.actor_memory_params, tensordict, lives, start)
            self._set_entries(data, "actor_memory", self.actor_memory, now, self.actor_memory_params, now)
        if self.critic_memory is not None:
            assert self.critic_memory_params is not None
            now = self._unroll(self.critic_memory, self.critic_memory_params, tensordict, lives, None)
            with torch.no_grad():
                slow = self._unroll(self.critic_memory, self.target_critic_memory_params, tensordict, lives, None)
            self._set_entries(data, "critic_memory", self.critic_memory, now, self.target_critic_memory_params, slow)
        return data

    def _unroll(
        self,
        memory: GroupMemory,
        params: TensorDictBase,
        tensordict: TensorDictBase,
        lives: _Lives,
        start: Tensor | None,
    ) -> Tensor:
        """The states after every step but those of burn-in, ``[*B, T, N, S]``; burn-in has no gradient."""
        observation, *images = (get_entry(tensordict, key, "a memory") for key in self._seen_by(memory))
        if start is None:
            *batch, _, n_agents, _ = observation.shape
            start = observation.new_zeros(*batch, n_agents, memory.state_dim)
        time_dim = start.ndim - 2
        cuts = [self.burn_in, observation.shape[time_dim] - self.burn_in]
        early, late = zip(*(one.split(cuts, time_dim) for one in (observation, *images)), strict=True)
        with parameters_in(memory, params):
            if self.burn_in:
                with torch.no_grad():
                    then = lives.steps(slice(None, self.burn_in))
                    start = memory.unroll(memory.see(*early, alive=then.alive), start, *then)[..., -1, :, :]
            now = lives.steps(slice(self.burn_in, None))
            return memory.unroll(memory.see(*late, alive=now.alive), start, *now)

    def _lives(self, tensordict: TensorDictBase) -> _Lives:
        n_agents = get_entry(tensordict, (*as_path(self.group), "observation"), "a memory").shape[-2]
        rows = self._read_row_mask(tensordict)
        alive = read_alive(tensordict, n_agents, mask_key=self.tensor_keys.agent_mask, rows=rows)
        return _Lives(self._begins(tensordict, n_agents, alive), alive)

    def _begins(self, tensordict: TensorDictBase, n_agents: int, alive: Tensor | None) -> Tensor:
        """The agents that begin anew at a step, bool ``[*B, T, N, 1]``: as the data says, or by the step before."""
        batch = tensordict.batch_size
        key = as_path(self.tensor_keys.is_init)
        for path in (key, key[-1:]) if in_group(key, self.group) else (key,):
            given = tensordict.get(path, None)
            if given is not None:
                return expand_to_agents(given.bool(), batch, n_agents, name="is_init")
        if alive is None:
            alive = torch.ones(*batch, n_agents, 1, dtype=torch.bool, device=self.log_alpha.device)
        after = begins_next(tensordict, self.group, alive)
        return torch.cat([torch.zeros_like(after[..., :1, :, :]), after[..., :-1, :, :]], -3)

    def _set_entries(
        self,
        data: TensorDictBase,
        name: str,
        memory: GroupMemory,
        now: Tensor,
        next_params: TensorDictBase,
        before_next: Tensor,
    ) -> None:
        """Set what networks read in both states; the next one has no gradient.

        Args:
            data: where to set it.
            name: of the entries.
            memory: the memory.
            now: its states in the current states, ``[*B, T, N, S]``.
            next_params: its weights in the next states.
            before_next: its states in the current states with these weights.
        """
        data.set(self._computed(name), memory.output(now))
        with torch.no_grad(), parameters_in(memory, next_params):
            seen = memory.see(*(get_entry(data, ("next", *key), "a memory") for key in self._seen_by(memory)))
            data.set(("next", *self._computed(name)), memory.output(memory.step(seen, before_next.detach())))

    def _check_sequences(self, tensordict: TensorDictBase) -> None:
        batch = tensordict.batch_size
        if len(batch) < 2 or batch[-1] <= self.burn_in:
            raise ValueError(
                "a loss with memories or burn_in must be given sequences, batch size [..., T] with T greater than "
                f"burn_in={self.burn_in}; got {list(batch)}. Sample slices of consecutive steps and reshape them to "
                "[B, T]."
            )
        if self._has_memories and tensordict.get(as_path(self.tensor_keys.steps_to_next_obs), None) is not None:
            raise ValueError(
                "a loss with memories must be given data of single steps, since a memory sees every observation; got "
                f"the entry {self.tensor_keys.steps_to_next_obs!r} of n-step data. Leave out the n-step transform, or "
                "use λ-returns."
            )

    def _held_fixed(self, inputs: TensorDict) -> TensorDict:
        """The inputs of critics that are held fixed: their memory gets no gradient."""
        if self.critic_memory is not None:
            key = self._computed("critic_memory")
            inputs.set(key, inputs.get(key).detach())
        return inputs

    def _without_burn_in(self, weights: Tensor | None, batch: torch.Size) -> Tensor | None:
        """Importance weights ``[*B, T]``, 0 in burn-in if the networks run over it."""
        if not self._runs_over_burn_in:
            return weights
        ones = torch.ones(batch, device=self.log_alpha.device)
        return self._of_all_steps(ones if weights is None else weights.reshape(batch), batch)

    def _of_all_steps(self, values: Tensor, batch: torch.Size) -> Tensor:
        """Values of the trained steps, after zeros for the steps of burn-in, ``[*B, T, ...]``.

        Args:
            values: of the trained steps; of all steps if the networks run over burn-in.
            batch: ``[*B, ...]``, the batch size of the data, with the time last.
        """
        if not self.burn_in:
            return values
        time_dim = len(batch) - 1
        if self._runs_over_burn_in:
            values = values.narrow(time_dim, self.burn_in, values.shape[time_dim] - self.burn_in)
        before = torch.zeros_like(values.narrow(time_dim, 0, 1)).expand(
            *values.shape[:time_dim], self.burn_in, *values.shape[time_dim + 1 :]
        )
        return torch.cat([before, values], time_dim)


def _parameters(params: TensorDictParams | None) -> list[nn.Parameter]:
    return [] if params is None else list(params.parameters())


def _check_reader(network: TensorDictModuleBase, key: tuple[str, ...], memory: GroupMemory | None, name: str) -> None:
    reads = key in map(as_path, network.in_keys)
    if reads and memory is None:
        raise ValueError(f"a network that reads {key!r} must come with that memory; got none. Pass {name}=.")
    if memory is not None and not reads:
        raise ValueError(
            f"{name} must be read: add {key!r} to the in_keys of the network that it is for; got "
            f"{[as_path(one) for one in network.in_keys]}."
        )
