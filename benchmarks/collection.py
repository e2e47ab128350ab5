"""Speed of collecting on VMAS: python -m benchmarks.collection [--tasks navigation balance] [--envs 64 256 1024].

Four contenders collect with the same actor (default model), each in its own environments:

- raw: a plain loop over VMAS with the bare network and a tanh-normal sample. Environments that end are reset one by
  one with VMAS's ``reset_at``. Nothing is stored.
- endless: the same without ends and resets.
- torchrl: TorchRL's ``Collector`` and ``VmasEnv``, with the actor as a ``ProbabilisticActor``.
- masac: masac's collector and policy, as in training.

Episodes take 100 steps and end at different times, so that some end in most steps. The contenders take turns in one
process. A figure is environment steps per second: the median over rounds, and the range.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import vmas
from torch import Tensor
from torchrl.collectors import Collector as TorchRLCollector
from torchrl.envs.libs.vmas import VmasEnv
from torchrl.modules import ProbabilisticActor

from benchmarks.interleaved_timing import time_interleaved
from benchmarks.report import print_table, spread, summary, write_json
from masac.cli.composing import composed_experiment
from masac.envs.config import TaskConfig
from masac.envs.vmas.environment import VmasVectorEnv
from masac.envs.vmas.make import make_vmas_env
from masac.groups import read_groups
from masac.training.collectors.local import LocalCollector
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import make_policy

HORIZON = 100
CONTENDERS = ("raw", "endless", "torchrl", "masac")
OTHERS = CONTENDERS[:-1]


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["navigation", "balance"], help="presets of the vmas suite")
    parser.add_argument("--envs", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--steps", type=int, default=10, help="steps of every environment per batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    cases = [
        time_case(
            task,
            envs,
            device=arguments.device,
            steps=arguments.steps,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
        )
        for task, envs in itertools.product(arguments.tasks, arguments.envs)
    ]
    rows = [
        (
            case["task"],
            case["envs"],
            *(_thousands(case["steps_per_second"][name]) for name in CONTENDERS),
            *(f"{case[f'masac_over_{name}']:.2f}" for name in OTHERS),
        )
        for case in cases
    ]
    columns = ("task", "envs", *(f"{name} k/s" for name in CONTENDERS), *(f"masac / {name}" for name in OTHERS))
    print_table("environment steps per second, in thousands", columns, rows)
    write_json(arguments.json, {"cases": cases, "steps": arguments.steps}, device=arguments.device)


def time_case(task: str, envs: int, *, device: str, steps: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Time one case.

    Args:
        task: a preset of the vmas suite.
        envs: number of environments.
        device: the device of environments and networks.
        steps: steps of every environment per batch.
        rounds: turns of every contender.
        seconds: length of a turn.
    """
    config = composed_experiment([f"task=vmas/{task}", f"task.num_envs={envs}", f"task.horizon={HORIZON}"])
    torch.manual_seed(0)
    env = cast(VmasVectorEnv, make_vmas_env(config.task, num_envs=envs, seed=0, device=device))
    groups = read_groups(env)
    policy = make_policy(groups, groups, config).to(device)
    collects = {
        "raw": _raw(config.task, policy, device, steps),
        "endless": _raw(config.task, policy, device, steps, ends=False),
        "torchrl": _torchrl(config.task, policy, device, steps),
        "masac": _masac(env, policy, steps),
    }
    times = time_interleaved(collects, rounds=rounds, seconds=seconds, device=device)
    rates = {name: summary([1e3 * envs * steps / one for one in values]) for name, values in times.items()}
    return {
        "task": task,
        "envs": envs,
        **{f"masac_over_{name}": rates["masac"]["median"] / rates[name]["median"] for name in OTHERS},
        "steps_per_second": rates,
    }


def _raw(task: TaskConfig, policy: Policy, device: str, steps: int, *, ends: bool = True) -> Callable[[], object]:
    env = vmas.make_env(
        str(task.scenario), num_envs=task.num_envs, device=device, seed=0, max_steps=HORIZON, **task.kwargs
    )
    network = cast(Any, policy.actors["agents"])[0].module
    observation = torch.stack(env.reset(), 1)
    env.steps = _spread(task.num_envs, device)

    @torch.no_grad()
    def collect() -> None:
        nonlocal observation
        for _ in range(steps):
            mean, std = network(observation)
            action = torch.tanh(mean + torch.randn_like(mean) * std)
            observations, _, done, _ = env.step(list(action.unbind(1)))
            ended = done.nonzero().squeeze(-1).tolist() if ends else []
            for index in ended:
                env.reset_at(index, return_observations=False)
            if ended:
                (observations,) = env.get_from_scenario(
                    get_observations=True, get_rewards=False, get_infos=False, get_dones=False
                )
            observation = torch.stack(observations, 1)

    return collect


def _torchrl(task: TaskConfig, policy: Policy, device: str, steps: int) -> Callable[[], object]:
    env = VmasEnv(
        str(task.scenario),
        num_envs=task.num_envs,
        device=device,  # pyright: ignore[reportCallIssue]
        seed=0,
        max_steps=HORIZON,
        scenario_kwargs=dict(task.kwargs),
    )
    actor = cast(ProbabilisticActor, policy.actors["agents"])
    collector = TorchRLCollector(env, actor, frames_per_batch=task.num_envs * steps, total_frames=-1)
    batches = iter(collector)
    next(batches)
    cast(Any, env)._env.steps = _spread(task.num_envs, device)
    return lambda: next(batches)


def _masac(env: VmasVectorEnv, policy: Policy, steps: int) -> Callable[[], object]:
    collector = LocalCollector(env, policy, steps=steps)
    collector.collect()
    env.steps = _spread(env.batch_size[0], str(env.device)).long().unsqueeze(-1)
    return collector.collect


def _spread(envs: int, device: str) -> Tensor:
    """Elapsed steps of the episodes, ``[envs]``."""
    return (torch.arange(envs, device=device) * HORIZON / envs).floor()


def _thousands(rates: dict[str, float]) -> str:
    return spread({name: rate / 1e3 for name, rate in rates.items()})


if __name__ == "__main__":
    main()
