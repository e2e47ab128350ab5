"""PettingZoo's parallel environments, several at once, as one TorchRL environment.

TorchRL's ``PettingZooWrapper`` in a ``SerialEnv`` says the same of the same environments (the tests compare them), with
a TensorDict an environment and step; this one writes all of them into one, which takes a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from masac.checks import ConfigError
from masac.envs.agent_groups import AgentGroup, read_agent_groups
from masac.envs.spaces import ACTION_MASK

FLAGS = ("done", "terminated", "truncated")


class ParallelEnvBatch(EnvBase):
    """``E`` PettingZoo environments side by side.

    What it says of who lives and what ended:

    - ``(group, "mask")``: the agents that act in the coming step. The others have zero observations, zero rewards and
      all actions legal; what they are told to do is not passed on.
    - ``(group, "terminated")``, ``(group, "truncated")``: what the environment said when the agent ended, from then on.
      An agent that left without a word has terminated.
    - ``done`` at the root: no agent acts any more; ``terminated`` if all agents terminated, else ``truncated``. An
      environment that is over may be stepped on: nothing happens in it until it is reset.

    Every episode gets a seed of its own from the environment's stream, so that what an environment does depends on
    nothing else, as far as it keeps to its seed.

    Args:
        raw_envs: E environments made alike.
        device: where the tensors are.

    Raises:
        ConfigError: for agents, observations or actions that cannot be written as tensors.
    """

    def __init__(self, raw_envs: Sequence[ParallelEnv[Any, Any, Any]], *, device: str = "cpu") -> None:
        super().__init__(device=torch.device(device), batch_size=torch.Size([len(raw_envs)]))
        self.raw_envs = list(raw_envs)
        self.groups = read_agent_groups(self.raw_envs[0])
        self._arrays = [_GroupArrays(group, len(raw_envs)) for group in self.groups]
        self._place = {
            agent: (arrays, i)
            for group, arrays in zip(self.groups, self._arrays, strict=True)
            for i, agent in enumerate(group.agents)
        }
        self._make_specs()
        self.set_seed(0)

    def set_seed(self, seed: int | None = None, static_seed: bool = False) -> int | None:
        """Seed every environment; returns the seed for one that would come next, as TorchRL does."""
        self._streams: list[np.random.Generator] = []
        for _ in self.raw_envs:
            self._streams.append(np.random.default_rng(seed))
            if seed is not None and not static_seed:
                seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        return seed

    def _set_seed(self, seed: int | None) -> None:
        self.set_seed(seed)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close all environments."""
        for raw in self.raw_envs:
            raw.close()
        super().close(raise_if_closed=raise_if_closed)

    def _make_specs(self) -> None:
        batch = (len(self.raw_envs),)
        actions: dict[str, TensorSpec] = {}
        observations: dict[str, TensorSpec] = {}
        rewards: dict[str, TensorSpec] = {}
        dones: dict[str, TensorSpec] = {flag: _bool_spec(*batch, 1) for flag in FLAGS}
        for group in self.groups:
            lead = (*batch, len(group.agents))
            seen = {
                "observation": Unbounded(torch.Size([*lead, group.observation.size]), dtype=torch.float32),
                "mask": _bool_spec(*lead),
            }
            if group.masked:
                seen[ACTION_MASK] = _bool_spec(*lead, group.action.choices)
            actions[group.name] = Composite({"action": group.action.spec(lead)}, shape=lead)
            observations[group.name] = Composite(seen, shape=lead)
            rewards[group.name] = Composite(
                {"reward": Unbounded(torch.Size([*lead, 1]), dtype=torch.float32)}, shape=lead
            )
            dones[group.name] = Composite({flag: _bool_spec(*lead, 1) for flag in FLAGS}, shape=lead)
        self.action_spec = Composite(actions, shape=batch, device=self.device)
        self.observation_spec = Composite(observations, shape=batch, device=self.device)
        self.reward_spec = Composite(rewards, shape=batch, device=self.device)
        self.done_spec = Composite(dones, shape=batch, device=self.device)

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        chosen = None if tensordict is None else tensordict.get("_reset", None)
        envs = range(len(self.raw_envs)) if chosen is None else chosen.reshape(-1).nonzero().reshape(-1).tolist()
        for e in envs:
            raw = self.raw_envs[e]
            observations, infos = raw.reset(seed=int(self._streams[e].integers(2**31)))
            for arrays in self._arrays:
                arrays.reset(e)
            for agent in raw.agents:
                arrays, i = self._find(agent)
                arrays.enter(e, i, observations[agent], infos.get(agent, {}))
        return self._now(after_step=False)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        actions = {
            group.name: group.action.translate(tensordict[group.name, "action"].cpu().numpy()) for group in self.groups
        }
        for e, raw in enumerate(self.raw_envs):
            acted = {agent for agent, (arrays, i) in self._place.items() if arrays.mask[e, i]}
            for arrays in self._arrays:
                arrays.clear(e)
            if acted:
                self._step_one(e, raw, acted, actions)
        return self._now(after_step=True)

    def _step_one(
        self, e: int, raw: ParallelEnv[Any, Any, Any], acted: set[Any], actions: Mapping[str, NDArray[Any]]
    ) -> None:
        chosen = {}
        for agent in raw.agents:
            arrays, i = self._find(agent)
            chosen[agent] = actions[arrays.group.name][e, i]
        observations, rewards, terminations, truncations, infos = raw.step(chosen)
        here = set(raw.agents)
        for agent, (arrays, i) in self._place.items():
            gone = agent not in here
            if gone and agent not in acted:
                continue
            truncated = bool(truncations.get(agent, False))
            terminated = bool(terminations.get(agent, False)) or (gone and not truncated)
            if agent in acted:
                arrays.reward[e, i] = rewards.get(agent, 0.0)
            elif terminated or truncated:
                continue  # it ended before, and the environment still lists it
            arrays.terminated[e, i], arrays.truncated[e, i] = terminated, truncated
            if not (gone or terminated or truncated):
                arrays.enter(e, i, observations[agent], infos.get(agent, {}))
            elif agent in observations:
                arrays.group.observation.write(observations[agent], arrays.observation[e, i])

    def _find(self, agent: Any) -> tuple[_GroupArrays, int]:
        if agent not in self._place:
            raise ConfigError(
                f"possible_agents of the environment must list every agent; got {agent!r} among its agents, but only "
                f"{', '.join(map(repr, self._place))} in the list. Complete the list in the environment."
            )
        return self._place[agent]

    def _now(self, *, after_step: bool) -> TensorDictBase:
        batch, device = self.batch_size, self.device
        out: dict[str, Tensor | TensorDict] = {
            arrays.group.name: TensorDict(
                arrays.tensors(device, after_step=after_step), (*batch, len(arrays.group.agents)), device=device
            )
            for arrays in self._arrays
        }
        over = ~np.concatenate([arrays.mask for arrays in self._arrays], axis=1).any(1, keepdims=True)
        terminated = over & np.concatenate([arrays.terminated for arrays in self._arrays], axis=1).all(1)
        root = {"done": over, "terminated": terminated, "truncated": over & ~terminated}
        out.update({flag: torch.from_numpy(value).to(device) for flag, value in root.items()})
        return TensorDict(out, batch, device=device)


class _GroupArrays:
    """What the agents of a group see and get now, in all environments; written in place.

    Args:
        group: N agents.
        num_envs: E.
    """

    def __init__(self, group: AgentGroup, num_envs: int) -> None:
        lead = (num_envs, len(group.agents))
        self.group = group
        self.observation = np.zeros((*lead, group.observation.size), np.float32)
        self.reward = np.zeros((*lead, 1), np.float32)
        self.terminated = np.ones((*lead, 1), bool)
        self.truncated = np.zeros((*lead, 1), bool)
        self.mask = np.zeros(lead, bool)
        self.action_mask = np.ones((*lead, group.action.choices), bool)

    def reset(self, e: int) -> None:
        """Nobody is there."""
        self.clear(e)
        self.terminated[e], self.truncated[e] = True, False

    def clear(self, e: int) -> None:
        """Nobody acts or sees anything; who ended stays so."""
        self.observation[e], self.reward[e] = 0.0, 0.0
        self.mask[e], self.action_mask[e] = False, True

    def enter(self, e: int, i: int, observation: Any, info: Mapping[str, Any]) -> None:
        """An agent acts in the coming step."""
        self.group.observation.write(observation, self.observation[e, i])
        self.mask[e, i], self.terminated[e, i] = True, False
        if not self.group.masked:
            return
        legal = observation[ACTION_MASK] if self.group.observation.has_action_mask else info.get(ACTION_MASK)
        if legal is not None:
            parts = legal if isinstance(legal, tuple | list) else (legal,)
            legal = np.concatenate([np.asarray(part).reshape(-1) for part in parts]).astype(bool)
            # An agent that may do nothing could not be given an action at all.
            self.action_mask[e, i] = legal if legal.any() else True

    def tensors(self, device: torch.device | None, *, after_step: bool) -> dict[str, Tensor]:
        """Copies of everything; the reward only after a step."""
        arrays = {
            "observation": self.observation,
            "mask": self.mask,
            "done": self.terminated | self.truncated,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }
        if after_step:
            arrays["reward"] = self.reward
        if self.group.masked:
            arrays[ACTION_MASK] = self.action_mask
        return {key: torch.from_numpy(array.copy()).to(device) for key, array in arrays.items()}


def _bool_spec(*shape: int) -> Categorical:
    return Categorical(2, shape=torch.Size(shape), dtype=torch.bool)
