"""Makes the environments of a task of the pettingzoo suite."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torchrl.envs import ActionMask, EnvBase, SerialEnv, StepCounter, Transform, TransformedEnv

from masac.envs.config import TaskConfig
from masac.envs.environment_warnings import (
    in_main_process,
    raw_of,
    warn_of_ignored_seed,
    warn_of_unused_keywords,
    warn_of_wrappers,
)
from masac.envs.parallel_env import Workers
from masac.envs.pettingzoo_build import build, find, name_of
from masac.envs.pettingzoo_wrapper import ACTION_MASK, wrap
from masac.envs.single_episode import OneEpisode
from masac.envs.unused_keywords import watched
from masac.envs.vector_observations import check_groups, with_vectors
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

    Observations are float32 vectors (see :class:`~masac.envs.vector_observations.VectorObservations`). With
    ``task.horizon`` a ``StepCounter`` truncates episodes.

    Args:
        task: which environment.
        num_envs: environments stepped at once. If ``task.num_workers`` does not divide it, as for a number of
            evaluation episodes, fewer processes share them.
        seed: of everything random in them. The episodes of a seed do not depend on the number of processes.
        device: where the tensors are; the environments compute on the CPU.
        one_episode: whether environments stop after one episode until they are seeded again.
        warns: whether to warn of likely mistakes (see :func:`make_batch`).

    Raises:
        ConfigError: if the environment does not exist or is not supported.
    """
    workers = max((w for w in range(1, task.num_workers + 1) if num_envs % w == 0), default=0)
    if workers == 0:
        env = make_batch(task, num_envs, device=device, one_episode=one_episode, warns=warns)
    else:
        batch = partial(make_batch, task, num_envs // workers, one_episode=one_episode, warns=warns)
        env = Workers(workers, batch, device=device)
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
    env.set_seed(seed)
    return env


def make_batch(
    task: TaskConfig, num_envs: int, *, device: str = "cpu", one_episode: bool = False, warns: bool = False
) -> EnvBase:
    """``num_envs`` environments in this process, as one with batch size ``[num_envs]``.

    With ``warns``, and in the main process only, one is reset twice, to warn of wrappers that hide deaths, an ignored
    seed and unused keywords.
    """
    name, kwargs = name_of(task), watched(task.kwargs)
    first = make_one(replace(task, kwargs=kwargs), num_envs, one_episode=one_episode)
    check_groups(first, name)
    if warns and in_main_process():
        warn_of_wrappers(raw_of(first))
        warn_of_ignored_seed(first, name)
        warn_of_unused_keywords(kwargs, name, [find(task)])
    if tuple(first.batch_size) == (num_envs,):
        return with_vectors(first.to(device), name)
    if tuple(first.batch_size) != ():
        raise ConfigError(
            f"{name} must make a TorchRL environment without a batch, or with batch size [{num_envs}]; got "
            f"{list(first.batch_size)}. Give the factory a parameter num_envs, which receives the number of "
            "environments."
        )
    first.close()
    one = partial(make_one, task, num_envs, one_episode=one_episode)
    # One transform of the batch is faster than one of each environment.
    return with_vectors(SerialEnv(num_envs, cast(Any, one), device=torch.device(device)), name)


def make_one(task: TaskConfig, num_envs: int, *, one_episode: bool = False) -> EnvBase:
    """One environment of a task as a TorchRL environment, with unchanged observations."""
    made = build(task, num_envs=num_envs)
    env = made if isinstance(made, EnvBase) else wrap(made)
    return OneEpisode(env) if one_episode and tuple(env.batch_size) == () else env
