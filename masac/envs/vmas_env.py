"""VMAS as a TorchRL environment with little around it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded
from torchrl.envs.libs.vmas import VmasEnv
from vmas.simulator.environment import Environment
from vmas.simulator.scenario import BaseScenario

from masac.envs.agent_groups import check_alike, vmas_groups
from masac.envs.environment_warnings import same_numbers
from masac.envs.vmas_resets import FreshStates, IrregularStateError, find_reset_state


class VmasVectorEnv(VmasEnv):
    """A ``VmasEnv`` with a horizon, randomness of its own, and the specs of ``VmasEnv`` without infos.

    - The horizon is a truncation, counted at ``step_count`` as TorchRL's ``StepCounter`` does.
    - VMAS keeps one random state for all environments of a process, so that evaluating would change what training
      sees. Here each has its own.
    - Scenarios are not asked for infos, which nobody reads.
    - Environments that end are reset together, with states drawn for all environments at once; one after another
      where :func:`~masac.envs.vmas_resets.find_reset_state` finds that a scenario does not allow that. The states have
      the distribution VMAS's have, and follow from the seed.

    Args:
        scenario: a name of VMAS's, or a scenario.
        num_envs: E.
        horizon: steps after which an episode is truncated.
        continuous_actions: whether actions are vectors, else indices.
        device: where VMAS computes.
        seed: of everything random.
        scenario_kwargs: keywords of the scenario.
        resets_together: whether environments that end are reset together, where the scenario allows.

    Attributes:
        steps: of the running episodes so far, int64 ``[E, 1]``.
    """

    _stream: tuple[Any, ...]
    _make_trial: Callable[[int], Environment]

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
        resets_together: bool = True,
    ) -> None:
        super().__init__(
            scenario,
            num_envs=num_envs,
            continuous_actions=continuous_actions,
            device=device,  # pyright: ignore[reportCallIssue]
            seed=seed,
            max_steps=None,  # this and the next two are said, so that no keyword of a scenario is taken for them
            categorical_actions=True,
            group_map=None,
            **(scenario_kwargs or {}),  # TorchRL < 0.12 has no parameter scenario_kwargs
        )
        self._horizon = horizon
        self._resets_together = resets_together
        self._fresh: FreshStates | None = None
        self._start: dict[str, Tensor] = {}  # what the next step begins with
        self._fresh_start: dict[str, Tensor] = {}  # what those begin with that are reset
        self.steps = torch.zeros(*self.batch_size, 1, dtype=torch.int64, device=self.device)
        groups = cast(dict[str, list[str]], self.group_map)
        self._sizes = {group: self._observation_shape(group) for group in groups}
        places = {agent: (group, i) for group, agents in groups.items() for i, agent in enumerate(agents)}
        self._places = [(agent, *places[agent.name]) for agent in self._env.agents]

    def ignores_seed(self, seed: int) -> bool:
        """Whether two resets with the same seed begin differently. It begins anew after that, as it did with the seed.

        Args:
            seed: that it was made with.
        """
        stream, begun = self._stream, []
        for _ in range(2):
            with self._own_stream():
                self._env._reset(seed=seed, return_observations=False)
                begun.append(TensorDict(dict(self._observations())))
            self._stream = stream
        return not same_numbers(*begun)

    # -- what TorchRL calls -------------------------------------------------------------------------------------------

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """A step of all environments, and a reset of those that are over."""
        following = self._step(tensordict)
        tensordict.set("next", following)
        ended = following.get("done")
        if ended.any():
            self._reset_ended(ended)
        return tensordict, self._started()

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        actions = {group: tensordict.get((group, "action")).unbind(1) for group in self._sizes}
        with self._own_stream():
            self._advance(actions)
            rewards = self._rewards()
            observations = self._observations()
            terminated = self._done()
        self.steps = self.steps + 1
        truncated = self.steps >= self._horizon
        flags = {
            "done": terminated | truncated,
            "terminated": terminated,
            "truncated": truncated,
            "step_count": self.steps,
        }
        self._start = {**observations, **flags}
        return self._as_tensordict(observations, flags, rewards)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDict:
        ended = None if tensordict is None else tensordict.get("_reset", None)
        self._reset_ended(torch.ones_like(self.steps, dtype=torch.bool) if ended is None else ended)
        return self._started()

    def _set_seed(self, seed: int | None) -> None:
        with self._own_stream():
            self._env._seed(seed)
        if self._fresh is not None:
            self._fresh.discard()

    def _build_env(
        self,
        scenario: str | BaseScenario,
        num_envs: int,
        continuous_actions: bool,
        max_steps: int | None,
        seed: int | None,
        **scenario_kwargs: Any,
    ) -> Environment:
        shared = Environment.vmas_random_state
        others = list(shared)

        def make_trial(num_envs: int) -> Environment:
            another = scenario if isinstance(scenario, str) else type(scenario)()
            made = self.lib.make_env(another, num_envs, continuous_actions=continuous_actions, **scenario_kwargs)
            return cast(Environment, made)

        self._make_trial = make_trial
        try:
            env = super()._build_env(scenario, num_envs, continuous_actions, max_steps, seed, **scenario_kwargs)
            self._stream = tuple(shared)
        finally:
            shared[:] = others
        return env

    def _make_specs(self, env: Environment) -> None:
        self.group_map = vmas_groups([agent.name for agent in env.agents])
        seen, actions = cast(Any, env.observation_space), cast(Any, env.action_space)
        spaces = {agent.name: (seen[i], actions[i]) for i, agent in enumerate(env.agents)}
        for group, agents in self.group_map.items():
            check_alike(group, {one: spaces[one][0] for one in agents}, {one: spaces[one][1] for one in agents})
        super()._make_specs(env)
        observations, done = self.full_observation_spec_unbatched, self.full_done_spec_unbatched
        for group in cast(dict[str, list[str]], self.group_map):
            if "info" in observations[group].keys():  # noqa: SIM118  a spec is no dict
                del observations[group]["info"]
        one = torch.Size([1])
        observations["step_count"] = Unbounded(shape=one, dtype=torch.int64, device=self.device)
        for name in ("terminated", "truncated"):
            done[name] = Categorical(2, shape=one, dtype=torch.bool, device=self.device)
        self.full_observation_spec_unbatched, self.full_done_spec_unbatched = observations, done

    # -- what VMAS does -----------------------------------------------------------------------------------------------

    def _advance(self, actions: dict[str, tuple[Tensor, ...]]) -> None:
        """``Environment.step`` without what it returns."""
        env, scenario = self._env, self._env.scenario
        for agent, group, i in self._places:
            action = actions[group][i]
            env._set_action(action.unsqueeze(-1) if action.ndim == 1 else action, agent)
        for agent in env.world.agents:
            scenario.env_process_action(agent)
        scenario.pre_step()
        env.world.step()
        scenario.post_step()
        env.steps += 1

    def _rewards(self) -> dict[str, Tensor]:
        """By group, ``[E, N, 1]``. Copied one by one: scenarios may return a tensor they write to again."""
        out = {
            group: torch.empty(*self.batch_size, n_agents, 1, device=self.device)
            for group, (n_agents, *_) in self._sizes.items()
        }
        for agent, group, i in self._places:
            out[group][:, i, 0] = self._env.scenario.reward(agent).reshape(-1)
        return out

    def _observations(self) -> dict[str, Tensor]:
        """By group, ``[E, N, F]``."""
        out = {group: torch.empty(*self.batch_size, *sizes, device=self.device) for group, sizes in self._sizes.items()}
        for agent, group, i in self._places:
            out[group][:, i] = self._env.scenario.observation(agent)
        return out

    def _done(self) -> Tensor:
        """``[E, 1]``."""
        return self._env.scenario.done().clone().unsqueeze(-1)

    # -- resets -------------------------------------------------------------------------------------------------------

    def _reset_ended(self, ended: Tensor) -> None:
        """Reset some environments, bool ``[E, 1]``; the others stay as they are."""
        if ended.all():
            with self._own_stream():
                self._start = self._reset_all()
        else:
            if not (self._resets_together and self._hand_out(ended)):
                self._reset_one_by_one(ended)
            self._start = {
                name: torch.where(ended.view(-1, *[1] * (now.ndim - 1)), self._fresh_start[name], now)
                for name, now in self._start.items()
            }
        self.steps = self._start["step_count"]

    def _hand_out(self, ended: Tensor) -> bool:
        """Give fresh states to environments that ended; returns whether the scenario allows that."""
        which = ended.squeeze(-1)
        try:
            if self._fresh is None:
                self._fresh = FreshStates(self._env.scenario, find_reset_state(self._make_trial))
            if not self._fresh.cover(which):
                counts = self._env.steps
                with self._own_stream():
                    self._fresh.draw(self._draw)
                self._env.steps = counts
            self._fresh.hand_out(which)
        except IrregularStateError:
            self._resets_together = False
            return False
        self._env.steps[which] = 0
        return True

    def _draw(self) -> None:
        self._fresh_start = self._reset_all()

    def _reset_one_by_one(self, ended: Tensor) -> None:
        with self._own_stream():
            for index in ended.squeeze(-1).nonzero().squeeze(-1).tolist():
                self._env._reset_at(index, return_observations=False)
            self._fresh_start = self._begin()

    def _reset_all(self) -> dict[str, Tensor]:
        self._env._reset(return_observations=False)
        return self._begin()

    def _begin(self) -> dict[str, Tensor]:
        """Observations and flags after a reset."""
        observations, done = self._observations(), self._done()
        return {
            **observations,
            "done": done,
            "terminated": done.clone(),
            "truncated": torch.zeros_like(done),
            "step_count": torch.zeros_like(self.steps),
        }

    # -- data ---------------------------------------------------------------------------------------------------------

    def _started(self) -> TensorDict:
        """What the next step begins with."""
        flags = {name: value for name, value in self._start.items() if name not in self._sizes}
        return self._as_tensordict(self._start, flags)

    def _as_tensordict(
        self, observations: dict[str, Tensor], flags: dict[str, Tensor], rewards: dict[str, Tensor] | None = None
    ) -> TensorDict:
        out = TensorDict(dict(flags), self.batch_size, device=self.device)
        for group, (n_agents, *_) in self._sizes.items():
            entries = {"observation": observations[group]}
            if rewards is not None:
                entries["reward"] = rewards[group]
            out.set(group, TensorDict(entries, [*self.batch_size, n_agents], device=self.device))
        return out

    def _observation_shape(self, group: str) -> torch.Size:
        """``[N, F]``; less for observations that are not vectors, which :func:`~masac.groups.read_groups` refuses."""
        return self.full_observation_spec_unbatched[group]["observation"].shape

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Random numbers drawn meanwhile come from this environment's stream."""
        others = _random_state()
        _set_random_state(self._stream)
        try:
            yield
        finally:
            self._stream = _random_state()
            _set_random_state(others)


def _random_state() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _set_random_state(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])
