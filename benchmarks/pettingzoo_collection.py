"""Speed of collecting on PettingZoo: python -m benchmarks.pettingzoo_collection [--tasks simple_spread multiwalker].

Contenders collect with the same actors (default model), each in its own environments:

- raw: a plain loop over PettingZoo's environments with the bare networks and a sample from them. Nothing is stored.
- torchrl: TorchRL's ``PettingZooWrapper`` in a ``SerialEnv``, with its ``Collector`` and the actors.
- masac: masac's environments, collector and policy, as in training.

With ``--workers W`` environments are in processes of their own, W environments in W processes each:

- agilerl, supersuit: the vector environments of AgileRL and SuperSuit, with random actions, if they are installed;
  SuperSuit's only for tasks whose agents do not die.
- masac: masac's with ``task.num_workers=W`` and random actions.
- more: masac's, with 8 environments for each worker; alone: the same environments without workers.

The contenders take turns. A figure is environment steps per second: the median over rounds, and the range.
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.envs import SerialEnv
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarks.interleaved_timing import time_interleaved
from benchmarks.report import print_table, spread, summary, write_json
from masac.cli.composing import composed_experiment
from masac.envs.agent_groups import read_agent_groups
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.training.collectors.local import LocalCollector
from masac.training.policies.policy import Policy, random_action
from masac.training.policies.saved_policy import make_policy

TASKS = ("simple_spread", "simple_tag", "multiwalker", "knights_archers_zombies")
DEATHS = ("knights_archers_zombies",)


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="presets of the pettingzoo suite")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="compare environments in processes instead")
    parser.add_argument("--steps", type=int, default=8, help="steps of every environment per batch")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    cases = []
    for task in arguments.tasks:
        for workers in arguments.workers or [0]:
            contenders = _in_processes(task, workers, arguments) if workers else _in_this_process(task, arguments)
            calls = {name: call for name, (call, _) in contenders.items()}
            times = time_interleaved(calls, rounds=arguments.rounds, seconds=arguments.seconds, device="cpu")
            rates = {
                name: summary([1e3 * contenders[name][1] / one for one in values]) for name, values in times.items()
            }
            masac = rates["masac"]["median"]
            ratios = {f"masac_over_{name}": masac / one["median"] for name, one in rates.items() if name != "masac"}
            if "alone" in rates:
                ratios["more_over_alone"] = rates["more"]["median"] / rates["alone"]["median"]
            cases.append({"task": task, "workers": workers, **ratios, "steps_per_second": rates})
            print_table(
                f"{task}, {workers} workers: environment steps per second",
                ("contender", "steps per second", "masac / contender"),
                [
                    (name, spread(rate, 0), f"{masac / rate['median']:.2f}")
                    for name, rate in cases[-1]["steps_per_second"].items()
                ],
            )
    write_json(arguments.json, {"cases": cases, "envs": arguments.envs, "steps": arguments.steps}, device="cpu")


Contender = tuple[Callable[[], object], int]
"""What to call, and the steps of environments that a call takes."""


def _in_this_process(task: str, arguments: argparse.Namespace) -> dict[str, Contender]:
    envs, steps = arguments.envs, arguments.steps
    config = composed_experiment([f"task=pettingzoo/{task}", f"task.num_envs={envs}"])
    torch.manual_seed(0)
    env = make_env(config.task, num_envs=envs, seed=0)
    groups = read_groups(env)
    policy = make_policy(groups, groups, config)
    collector = LocalCollector(env, policy, steps=steps)
    return {
        "raw": (_raw(config.task, policy, envs, steps), envs * steps),
        "torchrl": (_torchrl(config.task, policy, envs, steps), envs * steps),
        "masac": (collector.collect, envs * steps),
    }


def _raw(task: TaskConfig, policy: Policy, num_envs: int, steps: int) -> Callable[[], object]:
    environments = [_make(task) for _ in range(num_envs)]
    members = read_agent_groups(environments[0])
    observations = [one.reset(seed=seed)[0] for seed, one in enumerate(environments)]
    elapsed = [0] * num_envs

    @torch.no_grad()
    def collect() -> None:
        with set_exploration_type(ExplorationType.RANDOM):
            for _ in range(steps):
                actions: list[dict[Any, Any]] = [{} for _ in environments]
                for group in policy.groups:
                    agents = members[group.name]
                    seen = np.zeros((num_envs, len(agents), group.observation_dim), np.float32)
                    for index, observed in enumerate(observations):
                        for place, agent in enumerate(agents):
                            if agent in observed:
                                seen[index, place] = observed[agent].reshape(-1)
                    chosen = policy._direct[group.name](torch.from_numpy(seen), noisy=True).numpy()
                    for index, one in enumerate(environments):
                        for place, agent in enumerate(agents):
                            if agent in one.agents:
                                action = chosen[index, place]
                                actions[index][agent] = int(action) if action.ndim == 0 else action
                for index, one in enumerate(environments):
                    observations[index] = one.step(actions[index])[0]
                    elapsed[index] += 1
                    if not one.agents or elapsed[index] == task.horizon:
                        observations[index], elapsed[index] = one.reset()[0], 0

    return collect


def _torchrl(task: TaskConfig, policy: Policy, num_envs: int, steps: int) -> Callable[[], object]:
    def make() -> PettingZooWrapper:
        env = _make(task)
        return PettingZooWrapper(
            env, group_map=read_agent_groups(env), use_mask=True, done_on_any=False, categorical_actions=True
        )

    env = SerialEnv(num_envs, make)
    env.set_seed(0)

    def act(state: Any) -> Any:
        for group in policy.groups:
            seen = state.get((group.name, "observation")).flatten(2).float()
            data = TensorDict({group.name: TensorDict({"observation": seen}, seen.shape[:2])}, seen.shape[:1])
            state.set((group.name, "action"), policy.actors[group.name](data).get((group.name, "action")))
        return state

    collector = Collector(cast(Any, env), act, frames_per_batch=num_envs * steps, total_frames=-1, trust_policy=True)
    batches = iter(collector)
    return lambda: next(batches)


def _make(task: TaskConfig) -> Any:
    return importlib.import_module(str(task.scenario)).parallel_env(**task.kwargs)


def _in_processes(task: str, workers: int, arguments: argparse.Namespace) -> dict[str, Contender]:
    config = composed_experiment([f"task=pettingzoo/{task}", f"task.num_envs={workers}"])
    steps, contenders = arguments.steps, {}
    groups = read_groups(make_env(config.task, num_envs=1, seed=0))
    if find_spec("agilerl") is not None:
        contenders["agilerl"] = (_agilerl(config.task, groups, workers, steps), workers * steps)
    if find_spec("supersuit") is not None and task not in DEATHS:
        contenders["supersuit"] = (_supersuit(config.task, workers, steps), workers * steps)
    for name, each, processes in (("masac", 1, workers), ("more", 8, workers), ("alone", 8, 0)):
        num_envs = each * workers
        task_config = composed_experiment(
            [f"task=pettingzoo/{task}", f"task.num_envs={num_envs}", f"task.num_workers={processes}"]
        ).task
        contenders[name] = (_random(task_config, groups, steps), num_envs * steps)
    return contenders


def _random(task: TaskConfig, groups: Any, steps: int) -> Callable[[], object]:
    env = make_env(task, num_envs=task.num_envs, seed=0)
    state = env.reset()

    def collect() -> None:
        nonlocal state
        for _ in range(steps):
            for group in groups:
                state.set((group.name, "action"), random_action(group, state))
            _, state = env.step_and_maybe_reset(state)

    return collect


def _agilerl(task: TaskConfig, groups: Any, workers: int, steps: int) -> Callable[[], object]:
    from agilerl.vector.pz_async_vec_env import AsyncPettingZooVecEnv  # pyright: ignore[reportMissingImports]

    vector = AsyncPettingZooVecEnv([lambda: _make(task) for _ in range(workers)])
    vector.reset()
    members, env = read_agent_groups(_make(task)), make_env(task, num_envs=workers, seed=0)
    state = env.reset()

    def collect() -> None:
        for _ in range(steps):
            actions = {}
            for group in groups:
                chosen = random_action(group, state).numpy()
                actions |= {agent: chosen[:, place] for place, agent in enumerate(members[group.name])}
            vector.step(actions)

    return collect


def _supersuit(task: TaskConfig, workers: int, steps: int) -> Callable[[], object]:
    import supersuit  # pyright: ignore[reportMissingImports]

    one = supersuit.pettingzoo_env_to_vec_env_v1(
        supersuit.pad_observations_v0(supersuit.pad_action_space_v0(_make(task)))
    )
    vector = supersuit.concat_vec_envs_v1(one, workers, num_cpus=workers, base_class="gymnasium")
    vector.reset()

    def collect() -> None:
        for _ in range(steps):
            vector.step(np.stack([vector.action_space.sample() for _ in range(vector.num_envs)]))

    return collect


if __name__ == "__main__":
    main()
