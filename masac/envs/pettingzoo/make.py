"""Makes the environments of a task of the pettingzoo suite."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from pettingzoo import ParallelEnv
from torchrl.envs import ActionMask, EnvBase, StepCounter, Transform, TransformedEnv

from masac.envs.config import TaskConfig
from masac.envs.environment_warnings import (
    in_main_process,
    warn_of_ignored_seed,
    warn_of_unused_keywords,
    warn_of_wrappers,
)
from masac.envs.pettingzoo.build import build, find, name_of
from masac.envs.pettingzoo.encoding import ACTION_MASK
from masac.envs.pettingzoo.environment import PettingZooEnvironment
from masac.envs.single_environment import SingleEnvironment
from masac.envs.torchrl_environment import TorchRLEnvironment
from masac.envs.torchrl_observations import check_groups, check_size, with_vectors
from masac.envs.unused_keywords import watched
from masac.envs.vector_env import VectorEnv
from masac.envs.worker_processes import WorkerProcesses
from masac.errors import ConfigError


def make_pettingzoo_env(
    task: TaskConfig,
    *,
    num_envs: int,
    seed: int,
    device: str = "cpu",
    one_episode: bool = False,
    warns: bool = False,
) -> EnvBase:
    """A batch of environments, in this process or shared by ``task.num_workers`` others.

    Args:
        task: which environment.
        num_envs: environments stepped at once. If ``task.num_workers`` does not divide it, as for a number of
            evaluation episodes, fewer processes share them.
        seed: of everything random in them. The episodes of a seed do not depend on the number of processes.
        device: where the tensors are; the environments compute on the CPU.
        one_episode: whether environments stop after one episode until they are seeded again.
        warns: whether to warn, in the main process, of wrappers that hide deaths, an ignored seed and unused keywords.
            That takes four resets of one environment.

    Returns:
        An environment of batch size ``[num_envs]``, a :class:`~masac.envs.vector_env.VectorEnv` unless a factory makes
        a TorchRL environment of this batch size itself.

    Raises:
        ConfigError: if the environment does not exist or is not supported.
    """
    name, kwargs = name_of(task), watched(task.kwargs)
    made = build(replace(task, kwargs=kwargs), num_envs=num_envs)
    if isinstance(made, EnvBase) and tuple(made.batch_size) != ():
        env = _batch_of_factory(made, task, num_envs, device=device)
    else:
        env = _vector_env(_as_single(made, name), task, num_envs=num_envs, device=device, rests=one_episode)
    if warns and in_main_process():
        warn_of_wrappers(made)
        warn_of_ignored_seed(env, name)
        warn_of_unused_keywords(kwargs, name, [find(task)])
    env.set_seed(seed)
    return env


def _vector_env(first: SingleEnvironment, task: TaskConfig, *, num_envs: int, device: str, rests: bool) -> VectorEnv:
    """The environments of a task, of which the first is made already, in this process or in workers."""
    make = partial(make_single, task, num_envs)
    num_workers = max((w for w in range(1, task.num_workers + 1) if num_envs % w == 0), default=0)
    if num_workers == 0:
        environments = [first, *(make() for _ in range(num_envs - 1))]
        return VectorEnv.of(environments, horizon=task.horizon, rests=rests, device=device)
    first.close()
    workers = WorkerProcesses(
        num_workers, make, specs=first.specs, num_envs=num_envs, horizon=task.horizon, rests=rests
    )
    return VectorEnv(first.specs, num_envs, arrays=workers.arrays, stepper=workers, horizon=task.horizon, device=device)


def make_single(task: TaskConfig, num_envs: int) -> SingleEnvironment:
    """One environment of a task, as it is stepped beside others.

    Args:
        task: which environment.
        num_envs: how many there are in all, for a factory that asks for it.
    """
    return _as_single(build(task, num_envs=num_envs), name_of(task))


def _as_single(made: ParallelEnv[Any, Any, Any] | EnvBase, name: str) -> SingleEnvironment:
    if isinstance(made, EnvBase):
        check_groups(made, name)
        return TorchRLEnvironment(made, name)
    environment = PettingZooEnvironment(made)
    check_size(environment.specs.observation, name)
    return environment


def _batch_of_factory(env: EnvBase, task: TaskConfig, num_envs: int, *, device: str) -> EnvBase:
    """A TorchRL environment that a factory made for all of ``num_envs``, with vectors, legal actions and a horizon."""
    name = name_of(task)
    check_groups(env, name)
    if tuple(env.batch_size) != (num_envs,):
        raise ConfigError(
            f"{name} must make a TorchRL environment without a batch, or with batch size [{num_envs}]; got "
            f"{list(env.batch_size)}. Give the factory a parameter num_envs, which receives the number of "
            "environments."
        )
    env = with_vectors(env.to(device), name)
    transforms: list[Transform] = [
        ActionMask(action_key=(group, "action"), mask_key=(group, ACTION_MASK))  # for random actions
        for group in list(env.full_action_spec.keys())
        if (group, ACTION_MASK) in env.full_observation_spec.keys(True, True)
        and isinstance(env.full_action_spec[group, "action"], ActionMask.ACCEPTED_SPECS)
    ]
    if task.horizon is not None:
        transforms.append(StepCounter(max_steps=task.horizon))
    for transform in transforms:
        env = TransformedEnv(env, transform, auto_unwrap=True)
    return env
