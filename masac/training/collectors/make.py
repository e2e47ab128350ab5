"""Makes the training environments and the collector of a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torchrl.envs import EnvBase

from masac.envs.registry import make_env
from masac.training.collectors.base import Collector
from masac.training.collectors.local import LocalCollector
from masac.training.collectors.processes import Processes
from masac.training.collectors.ray_workers import RayActors, check_ray
from masac.training.collectors.remote import RemoteCollector
from masac.training.collectors.worker import WorkerSettings
from masac.training.config import ExperimentConfig
from masac.training.policies.policy import Policy
from masac.training.policies.policy_files import PolicyFile


def make_environments(config: ExperimentConfig, *, seed: int, device: str) -> EnvBase:
    """The training environments if this process steps them; otherwise one of them, whose specs networks are built from.

    Args:
        config: of the run.
        seed: of all random numbers in them.
        device: of their data.

    Raises:
        ConfigError: for a task that cannot be built, or a collector that is not installed.
    """
    if config.collector.kind == "ray":
        check_ray(config.collector.address)
    if config.collector.kind == "local":
        return make_env(config.task, num_envs=config.task.num_envs, seed=seed, device=device, warns=True)
    return make_env(replace(config.task, num_workers=0), num_envs=1, seed=seed, device=device, warns=True)


def make_collector(
    config: ExperimentConfig,
    env: EnvBase,
    policy: Policy,
    *,
    frozen: Mapping[str, PolicyFile] | None = None,
    seed: int,
    device: str,
    warn: Callable[[str], None] = lambda message: None,
) -> Collector:
    """The collector of a run; its processes start with the first batch.

    Args:
        config: of the run.
        env: from :func:`make_environments`; closed if workers step their own environments.
        policy: acts.
        frozen: the policies of other runs that act for groups.
        seed: of all random numbers in environments and actions.
        device: of the batches.
        warn: prints a warning about a worker that died.
    """
    collector, num_envs = config.collector, config.task.num_envs
    if collector.kind == "local":
        return LocalCollector(env, policy, steps=config.training.steps_per_iteration)
    env.close(raise_if_closed=False)
    settings = WorkerSettings(config=config, num_envs=num_envs // collector.num_workers, frozen=frozen or {})
    engine = (
        Processes(settings)
        if collector.kind == "processes"
        else RayActors(settings, num_workers=collector.num_workers, address=collector.address)
    )
    return RemoteCollector(collector, engine, policy, num_envs=num_envs, seed=seed, device=device, warn=warn)
