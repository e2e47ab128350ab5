"""The spaces of the vmas suite in VMAS's own terms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torchrl.data import TensorSpec

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.envs.space_meanings import GroupSpaces, end_of, observation_names, spaces_of_specs
from masac.envs.vmas.environment import VmasVectorEnv
from masac.envs.vmas.private import discrete_controls


def read_vmas_spaces(task: TaskConfig) -> dict[str, GroupSpaces]:
    """The spaces of a task of the vmas suite, by group."""
    env = make_env(task, num_envs=1, seed=0)
    assert isinstance(env, VmasVectorEnv)
    out = {}
    agents = {agent.name: agent for agent in env.vmas.agents}
    for group, spaces in spaces_of_specs(env).items():
        name = spaces.agents[0]
        names = observation_names(env.vmas.scenario, agents[name], name, end_of(spaces.parts))
        action = env.full_action_spec_unbatched[group, "action"]
        controls = None if task.continuous_actions else _vmas_controls(task, name, action)
        out[group] = replace(spaces, feature_names=names, controls=controls)
    env.close()
    return out


def _vmas_controls(task: TaskConfig, agent: str, spec: TensorSpec) -> tuple[tuple[float, ...], ...]:
    """What VMAS makes of every choice of an agent, each tried in an environment of its own."""
    env = make_env(task, num_envs=int(cast(Any, spec.space).n), seed=0)
    assert isinstance(env, VmasVectorEnv)
    controls = discrete_controls(env.vmas, agent)
    env.close()
    return tuple(tuple(round(value, 6) for value in row) for row in controls)
