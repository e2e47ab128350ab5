"""One PettingZoo parallel environment, read into arrays with one entry per agent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pettingzoo import ParallelEnv
from torchrl.data import Categorical, Composite, Unbounded

from masac.envs.agent_groups import read_agent_groups
from masac.envs.environment_warnings import warn_of_agents_kept_after_termination
from masac.envs.pettingzoo.actions import ActionReader, read_action_mask
from masac.envs.pettingzoo.encoding import ACTION_MASK, ObservationWriter
from masac.envs.pettingzoo.returned_values import Step, read_agents, read_reset, read_step
from masac.envs.single_environment import EnvironmentSpecs, Row
from masac.errors import ConfigError

FLAGS = ("terminated", "truncated", "done")


@dataclass(frozen=True, kw_only=True)
class _Agent:
    """Where an agent's entries are: position ``index`` of the arrays of ``group``."""

    name: Any
    group: str
    index: int
    observation: ObservationWriter
    action: ActionReader


class PettingZooEnvironment:
    """A PettingZoo environment whose agents may die, arrive late, return and leave without a flag.

    - ``(group, "mask")`` is True for the agents that are there. Agents that come later are False until then.
    - Agents that are gone have zero observations and rewards, and both flags set: they ended in an earlier step.
    - An agent that ends in a step has its last observation, its reward and its flag in that step.
    - The episode is over when every agent is terminated or truncated.
    - ``(group, "action_mask")`` exists where observations or infos have masks of discrete actions; all True for
      agents that are gone. Other infos are not read.

    What ``reset`` and ``step`` return is checked as :mod:`masac.envs.pettingzoo.returned_values` describes.

    Args:
        raw: an environment that lists its ``possible_agents``. It is reset once, to see whether its infos have action
            masks.

    Attributes:
        raw: the environment.
        specs: of its entries.

    Raises:
        ConfigError: for agents, observations or actions that cannot be written as tensors.
    """

    def __init__(self, raw: ParallelEnv[Any, Any, Any]) -> None:
        self.raw = raw
        self._groups = read_agent_groups(raw)
        self._agents: dict[Any, _Agent] = {}
        for group, names in self._groups.items():
            for index, name in enumerate(names):
                self._agents[name] = _Agent(
                    name=name,
                    group=group,
                    index=index,
                    observation=ObservationWriter(raw.observation_space(name), name),
                    action=ActionReader(raw.action_space(name), name),
                )
        actions = {group: self._agents[names[0]].action.specs(len(names)) for group, names in self._groups.items()}
        self._keys = {group: [(group, name) for name in specs] for group, specs in actions.items()}
        self._masked_by_info = self._find_masks()
        self.specs = self._make_specs(actions)
        self._present: list[Any] = []  # the agents that are there now
        self._over: Collection[Any] = ()  # who terminated in the last step and is still among the agents
        self._warned = False

    def reset(self, row: Row, *, seed: int | None) -> None:
        """Begin an episode; writes observations, masks, and flags that are all False."""
        returned = self.raw.reset(seed=seed, options=None)
        self._present = read_agents(self.raw, self._agents)
        observations, infos = read_reset(returned, self._present, self._agents)
        self._over = ()
        for group in self._groups:
            for name in FLAGS:
                row[group, name][:] = False
        for name in FLAGS:
            row[name,][:] = False
        self._write_state(row, observations, infos)

    def step(self, actions: Row, row: Row) -> None:
        """Let the agents that are there act; writes observations, masks, rewards and flags."""
        acting = [self._agents[name] for name in self._present]
        chosen = {one.name: one.action([actions[key][one.index] for key in self._keys[one.group]]) for one in acting}
        returned = self.raw.step(chosen)
        acted, self._present = self._present, read_agents(self.raw, self._agents)
        step = read_step(returned, acted, self._present, self._agents)
        self._warn_of_kept(step)
        self._write_rewards_and_flags(row, step)
        self._write_state(row, step.observations, step.infos)

    def close(self) -> None:
        """Close the environment."""
        self.raw.close()

    def _write_rewards_and_flags(self, row: Row, step: Step) -> None:
        all_terminated = all_truncated = all_done = True
        for group, names in self._groups.items():
            rewards, terminated, truncated, done = (row[group, name] for name in ("reward", *FLAGS))
            for index, name in enumerate(names):
                took_part = name in step.terminated  # else the agent ended earlier, or has not arrived yet
                rewards[index] = step.rewards[name] if took_part else 0.0
                is_terminated = step.terminated[name] if took_part else True
                is_truncated = step.truncated[name] if took_part else True
                is_done = is_terminated or is_truncated
                terminated[index], truncated[index], done[index] = is_terminated, is_truncated, is_done
                all_terminated, all_truncated = all_terminated and is_terminated, all_truncated and is_truncated
                all_done = all_done and is_done
        for name, value in zip(FLAGS, (all_terminated, all_truncated, all_done), strict=True):
            row[name,][0] = value

    def _write_state(self, row: Row, observations: Mapping[Any, Any], infos: Mapping[Any, Any]) -> None:
        """Write observations, agent masks and action masks; zeros for agents without an observation."""
        here = set(self._present)
        for group, names in self._groups.items():
            vectors, present = row[group, "observation"], row[group, "mask"]
            images = [row[group, leaf.image.name] for leaf in self._agents[names[0]].observation.images]
            choices = row.get((group, ACTION_MASK))
            for entries in (vectors, *images):
                entries[:] = 0
            if choices is not None:
                choices[:] = True
            for index, name in enumerate(names):
                present[index] = name in here
                if name not in observations:
                    continue
                agent, info = self._agents[name], infos[name]
                vector, pictures = vectors[index], [one[index] for one in images]
                if name not in here:
                    _write_last(agent.observation, observations[name], vector, pictures)
                    continue
                mask = agent.observation.write(observations[name], vector, pictures)
                self._check_info(agent, info)
                mask = info.get(ACTION_MASK) if mask is None else mask
                if choices is not None and mask is not None:
                    choices[index] = read_action_mask(mask, agent.action.sizes, name)

    def _find_masks(self) -> frozenset[Any]:
        """The agents whose infos have action masks: all of a group in which one has."""
        returned = self.raw.reset()
        _, infos = read_reset(returned, read_agents(self.raw, self._agents), self._agents)
        masked = {agent for agent, info in infos.items() if ACTION_MASK in info}
        return frozenset(agent for names in self._groups.values() if masked & set(names) for agent in names)

    def _check_info(self, agent: _Agent, info: Mapping[Any, Any]) -> None:
        """Action masks are in the infos always or never."""
        always = agent.name in self._masked_by_info
        if always != (ACTION_MASK in info) and agent.action.sizes:
            raise ConfigError(
                f"the infos must have an {ACTION_MASK} of agent {agent.name!r} either in every step or in none; got "
                f"{'one after a reset without' if not always else 'none after a reset with one'}. Return it from "
                "reset() on, all True if every action is legal."
            )

    def _warn_of_kept(self, step: Step) -> None:
        over = {agent for agent in self._present if step.terminated[agent]}
        if not self._warned and over.intersection(self._over):
            self._warned = True
            warn_of_agents_kept_after_termination(over.intersection(self._over))
        self._over = over

    def _make_specs(self, actions: Mapping[str, Any]) -> EnvironmentSpecs:
        observation, action, reward, done = (Composite() for _ in range(4))
        for group, names in self._groups.items():
            n_agents, first = len(names), self._agents[names[0]]
            entries: dict[str, Any] = {
                "observation": Unbounded(torch.Size([n_agents, first.observation.size]), dtype=torch.float32),
                **{leaf.image.name: leaf.spec(n_agents) for leaf in first.observation.images},
                "mask": _flag(n_agents),
            }
            masked = first.observation.has_mask or first.name in self._masked_by_info
            if masked and first.action.sizes:
                entries[ACTION_MASK] = _flag(n_agents, sum(first.action.sizes))
            observation[group] = Composite(entries, shape=(n_agents,))
            action[group] = Composite(actions[group], shape=(n_agents,))
            reward[group] = Composite(
                reward=Unbounded(torch.Size([n_agents, 1]), dtype=torch.float32), shape=(n_agents,)
            )
            done[group] = Composite({name: _flag(n_agents, 1) for name in FLAGS}, shape=(n_agents,))
        for name in FLAGS:
            done[name] = _flag(1)
        return EnvironmentSpecs(
            action=action, observation=observation, reward=reward, done=done, agents=dict(self._groups)
        )


def _flag(*shape: int) -> Categorical:
    return Categorical(2, shape=torch.Size(shape), dtype=torch.bool)


def _write_last(writer: ObservationWriter, observation: Any, vector: Any, images: list[Any]) -> None:
    """Write the last observation of an agent that ended; zeros where it is not in the observation space."""
    try:
        writer.write(observation, vector, images)
    except ConfigError:
        for entries in (vector, *images):
            entries[:] = 0
