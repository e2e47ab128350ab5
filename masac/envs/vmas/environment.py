"""A batch of VMAS environments as a TorchRL environment."""

from __future__ import annotations

from typing import Any

import torch
from gym.spaces import Box, Discrete, MultiDiscrete  # VMAS's
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, MultiCategorical, TensorSpec, Unbounded
from torchrl.envs import EnvBase
from vmas import make_env
from vmas.simulator.scenario import BaseScenario

from masac.envs.agent_groups import check_alike, vmas_groups
from masac.envs.vmas.private import RandomStream
from masac.envs.vmas.resets import FreshStates, IrregularStateError, Path, find_reset_state


class VmasVectorEnv(EnvBase):
    """A VMAS ``Environment`` with TorchRL's interface; keys and specs are those of TorchRL's ``VmasEnv``.

    - The horizon truncates episodes; ``step_count`` counts steps as TorchRL's ``StepCounter`` does. (VMAS's own
      ``max_steps`` would be reported as a termination.)
    - Random numbers are independent of other environments in the process and of the process itself.
    - Scenarios are not asked for infos.
    - Environments that end are reset jointly: initial states are drawn for all environments at once and used when
      needed. Where :func:`~masac.envs.vmas.resets.find_reset_state` finds that a scenario does not allow it, they are
      reset one by one, as VMAS does. Both have the same distribution, and both follow from the seed.

    Args:
        scenario: the name of a VMAS scenario, or a scenario.
        num_envs: E.
        horizon: steps after which an episode is truncated.
        continuous_actions: whether actions are vectors, else indices.
        device: where VMAS computes.
        seed: of everything random.
        scenario_kwargs: keywords of the scenario.
        joint_resets: whether to reset environments jointly if the scenario allows it.

    Attributes:
        vmas: the VMAS environment.
        group_map: the names of the agents of each group.
        asked_joint_resets: whether joint resets were asked for.
        random_stream: its random numbers.
        steps: of the running episodes so far, int64 ``[E, 1]``.
    """

    def __init__(
        self,
        scenario: str | BaseScenario,
        *,
        num_envs: int,
        horizon: int,
        continuous_actions: bool = True,
        device: str = "cpu",
        seed: int | None = None,
        scenario_kwargs: dict[str, Any] | None = None,
        joint_resets: bool = True,
    ) -> None:
        super().__init__(device=torch.device(device), batch_size=torch.Size([num_envs]), allow_done_after_reset=True)
        kwargs = {"continuous_actions": continuous_actions, "dict_spaces": True}

        def make(scenario: str | BaseScenario, num_envs: int, **options: Any) -> Any:
            return make_env(scenario, num_envs, **kwargs, **options, **(scenario_kwargs or {}))

        self.random_stream = RandomStream(seed or 0)
        with self.random_stream.used_by_vmas():
            self.vmas = make(scenario, num_envs, device=self.device, max_steps=None, seed=seed)
        self.vmas.scenario.info = lambda agent: {}  # not read, and some scenarios take long to compute them
        self._make_trial = lambda envs: make(scenario if isinstance(scenario, str) else type(scenario)(), envs)
        self.asked_joint_resets = joint_resets
        self._joint_resets = None if joint_resets else False
        self._reset_paths: list[Path] = []
        self._fresh: FreshStates | None = None
        self._stepped = False
        self._horizon = horizon
        self.group_map = vmas_groups([agent.name for agent in self.vmas.agents])
        self._set_specs()
        self.steps = torch.zeros(num_envs, 1, dtype=torch.int64, device=self.device)
        self._state: dict[str, Tensor] = {}  # what the next step begins with: flags, and observations by group
        self._fresh_state: dict[str, Tensor] = {}  # what environments that are reset begin with

    @property
    def joint_resets(self) -> bool:
        """Whether environments that end are reset jointly. The first use tries out the scenario."""
        if self._joint_resets is None:
            try:
                self._reset_paths = find_reset_state(self._make_trial)
            except IrregularStateError:
                self._joint_resets = False
            else:
                self._joint_resets = True
        return self._joint_resets

    def to(self, device: Any) -> VmasVectorEnv:
        """Move the environment, which must be reset after that."""
        self.vmas.to(device)
        super().to(device)
        self.steps, self._fresh = self.steps.to(device), None
        return self

    # -- what TorchRL calls -------------------------------------------------------------------------------------------

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Step all environments, and reset those whose episode ends."""
        after = self._step(tensordict)
        tensordict.set("next", after)
        ended = after.get("done")
        if ended.any():
            self._reset_some(ended)
        return tensordict, self._as_tensordict(self._state)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        actions: dict[str, Tensor] = {}
        for group, names in self.group_map.items():
            action = tensordict.get((group, "action"))
            action = action.unsqueeze(-1) if action.ndim == 2 else action  # indices
            actions.update(zip(names, action.unbind(1), strict=True))
        with self.random_stream.used_by_vmas():
            observations, rewards, terminated, _ = self.vmas.step(actions)
        self._stepped = True
        self.steps = self.steps + 1
        self._state = self._read(observations, terminated, self.steps)
        return self._as_tensordict(self._state, rewards)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDict:
        ended = None if tensordict is None else tensordict.get("_reset", None)
        if ended is not None and not self._state:  # the first reset after seeding is of all, also to TorchRL
            ended[:] = True
        self._reset_some(torch.ones_like(self.steps, dtype=torch.bool) if ended is None else ended)
        return self._as_tensordict(self._state)

    def _set_seed(self, seed: int | None) -> None:
        with self.random_stream.used_by_vmas():
            self.vmas.seed(seed)
        if self._fresh is not None:
            self._fresh.discard()
        self._state = {}

    # -- resets -------------------------------------------------------------------------------------------------------

    def _reset_some(self, ended: Tensor) -> None:
        """Reset the environments that ended, bool ``[E, 1]``; the others stay as they are."""
        if ended.all() or not self._state:  # the first reset after seeding is of all
            self._state = self._reset_all()
        else:
            # Before the first step VMAS's agents have no actions, which joint resets copy.
            if self._stepped and self.joint_resets:
                self._reset_jointly(ended.squeeze(-1))
            else:
                self._reset_one_by_one(ended.squeeze(-1))
            self._state = {
                name: torch.where(ended.view(-1, *[1] * (now.ndim - 1)), self._fresh_state[name], now)
                for name, now in self._state.items()
            }
        self.steps = self._state["step_count"]

    def _reset_all(self) -> dict[str, Tensor]:
        with self.random_stream.used_by_vmas():
            observations, terminated = self.vmas.reset(return_dones=True)
        return self._read(observations, terminated, torch.zeros_like(self.steps))

    def _reset_jointly(self, ended: Tensor) -> None:
        if self._fresh is None:
            self._fresh = FreshStates(self.vmas.scenario, self._reset_paths)
        if not self._fresh.cover(ended):
            self._fresh_state = self._fresh.draw(self._reset_all)
        self._fresh.hand_out(ended)

    def _reset_one_by_one(self, ended: Tensor) -> None:
        with self.random_stream.used_by_vmas():
            for index in ended.nonzero().squeeze(-1).tolist():
                self.vmas.reset_at(index, return_observations=False)
            observations, terminated = self.vmas.get_from_scenario(
                get_observations=True, get_rewards=False, get_infos=False, get_dones=True
            )
        self._fresh_state = self._read(observations, terminated, torch.zeros_like(self.steps))

    # -- data ---------------------------------------------------------------------------------------------------------

    def _read(self, observations: dict[str, Tensor], terminated: Tensor, steps: Tensor) -> dict[str, Tensor]:
        """Flags, and observations by group; ``terminated`` is ``[E]``."""
        terminated = terminated.unsqueeze(-1)
        truncated = steps >= self._horizon
        flags = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated, "step_count": steps}
        return flags | {group: self._stacked(observations, group) for group in self.group_map}

    def _stacked(self, values: dict[str, Tensor], group: str) -> Tensor:
        """The values of a group's agents, ``[E, N, ...]``."""
        return torch.stack([values[name] for name in self.group_map[group]], 1).float()

    def _as_tensordict(self, state: dict[str, Tensor], rewards: dict[str, Tensor] | None = None) -> TensorDict:
        entries: dict[str, Any] = dict(state)
        for group, names in self.group_map.items():
            inner = {"observation": state[group]}
            if rewards is not None:
                inner["reward"] = self._stacked(rewards, group).view(*self.batch_size, len(names), 1)
            entries[group] = TensorDict(inner, [*self.batch_size, len(names)], device=self.device)
        return TensorDict(entries, self.batch_size, device=self.device)

    def _set_specs(self) -> None:
        seen, acted = self.vmas.observation_space, self.vmas.action_space
        one = torch.Size([1])
        flag = Categorical(2, shape=one, dtype=torch.bool, device=self.device)
        observations, actions, rewards = (Composite(device=self.device) for _ in range(3))
        for group, names in self.group_map.items():
            check_alike(group, {name: seen[name] for name in names}, {name: acted[name] for name in names})
            size = torch.Size([len(names)])
            observation = Unbounded(size + seen[names[0]].shape, device=self.device)
            observations[group] = Composite(observation=observation, shape=size, device=self.device)
            action = _action_spec(acted[names[0]], self.device)
            actions[group] = Composite(action=action.expand(size + action.shape), shape=size, device=self.device)
            reward = Unbounded(size + one, device=self.device)
            rewards[group] = Composite(reward=reward, shape=size, device=self.device)
        observations["step_count"] = Unbounded(one, dtype=torch.int64, device=self.device)
        self.full_observation_spec_unbatched = observations
        self.full_action_spec_unbatched = actions
        self.full_done_spec_unbatched = Composite(
            done=flag, terminated=flag.clone(), truncated=flag.clone(), device=self.device
        )
        self.full_reward_spec_unbatched = rewards


def _action_spec(space: Box | Discrete | MultiDiscrete, device: torch.device | None) -> TensorSpec:
    """Of one agent."""
    if isinstance(space, Discrete):
        return Categorical(space.n, dtype=torch.int64, device=device)
    if isinstance(space, MultiDiscrete):
        return MultiCategorical(space.nvec.tolist(), dtype=torch.int64, device=device)
    return Bounded(torch.as_tensor(space.low), torch.as_tensor(space.high), device=device)
