"""How the cost grows with agents and environments: python -m benchmarks.growth [--agents 3 10] [--json FILE].

Agents: one update (graph mode) for every kind of critic, with shared weights and with weights per agent, two hidden
layers of 128, 18 observed numbers and 2 action dimensions per agent; in microseconds per row of the batch (a frame of
all agents). Multiply-adds are those of one critic's forward pass, per agent.

Environments: collecting on navigation with the default policy, in microseconds per frame.

The contenders of a size take turns in one process; a figure is the median over rounds.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from tensordict import TensorDict
from torch.utils.flop_counter import FlopCounterMode
from torchrl.data import Bounded

from benchmarks.interleaved_timing import masac_update, time_interleaved
from benchmarks.report import print_table, spread, summary, write_json
from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor
from masac.cli.composing import composed_experiment
from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.networks.critics import CRITICS, GroupCritic
from masac.training.collectors.local import LocalCollector
from masac.training.policies.saved_policy import make_policy

GROUP, OBSERVATION, ACTION, MODEL = "agents", 18, 2, ModelConfig()
KINDS = [name for name in CRITICS if name != "team"]


def main() -> None:
    """Time, print and draw all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="*", default=[3, 10, 30, 100])
    parser.add_argument("--envs", type=int, nargs="*", default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--rows", type=int, default=64, help="rows of a batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a picture, png or svg")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    updates = [_time_updates(n_agents, arguments) for n_agents in arguments.agents]
    collections = [_time_collecting(num_envs, arguments) for num_envs in arguments.envs]
    _print(updates, collections, arguments.rows)
    write_json(arguments.json, {"updates": updates, "collections": collections}, device=arguments.device)
    if arguments.plot is not None:
        _draw(updates, collections, arguments.plot)


def _time_updates(n_agents: int, arguments: argparse.Namespace) -> dict[str, Any]:
    device = arguments.device
    data = _batch(arguments.rows, n_agents).to(device)
    contenders = {
        _name(kind, share): masac_update(_loss(kind, n_agents, share, device), data, "graph")
        for kind, share in itertools.product(KINDS, (True, False))
    }
    times = time_interleaved(contenders, rounds=arguments.rounds, seconds=arguments.seconds, device=device)
    return {
        "agents": n_agents,
        "multiply_adds": {kind: _multiply_adds(kind, n_agents) // n_agents for kind in KINDS},
        "us_per_row": {
            name: summary([1e3 * value / arguments.rows for value in values]) for name, values in times.items()
        },
    }


def _time_collecting(num_envs: int, arguments: argparse.Namespace) -> dict[str, Any]:
    config = composed_experiment(["task=vmas/navigation", f"task.num_envs={num_envs}"])
    torch.manual_seed(0)
    env = make_env(config.task, num_envs=num_envs, seed=0, device=arguments.device)
    groups = read_groups(env)
    steps = 4
    collector = LocalCollector(env, make_policy(groups, groups, config).to(arguments.device), steps=steps)
    times = time_interleaved(
        {"collect": collector.collect}, rounds=arguments.rounds, seconds=arguments.seconds, device=arguments.device
    )["collect"]
    return {
        "environments": num_envs,
        "us_per_frame": summary([1e3 * value / (steps * num_envs) for value in times]),
    }


def _print(updates: list[dict[str, Any]], collections: list[dict[str, Any]], rows: int) -> None:
    names = [_name(kind, share) for kind, share in itertools.product(KINDS, (True, False))]
    table = []
    for case in updates:
        counts = [f"{case['multiply_adds'][kind]:,}" for kind in KINDS]
        table.append((case["agents"], *(f"{case['us_per_row'][name]['median']:.1f}" for name in names), *counts))
    columns = ["agents", *(f"{name}, µs" for name in names), *(f"{kind}, multiply-adds" for kind in KINDS)]
    print_table(f"one update, µs per row of a batch of {rows} rows; multiply-adds per critic and agent", columns, table)
    table = [(case["environments"], spread(case["us_per_frame"])) for case in collections]
    print_table("collecting on navigation", ["environments", "µs per frame"], table)


def _draw(updates: list[dict[str, Any]], collections: list[dict[str, Any]], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    agents = [case["agents"] for case in updates]
    for index, kind in enumerate(KINDS):
        for share, style in ((True, "-"), (False, "--")):
            name = _name(kind, share)
            values = [case["us_per_row"][name]["median"] for case in updates]
            left.plot(agents, values, f"o{style}", color=f"C{index}", label=name)
    _label(left, "agents", "update: µs per row (a frame of all agents)")
    left.legend(frameon=False, fontsize=8)
    frames = [case["us_per_frame"]["median"] for case in collections]
    right.plot([case["environments"] for case in collections], frames, "o-", color="C3")
    _label(right, "environments", "collecting navigation: µs per frame")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)


def _name(kind: str, share: bool) -> str:
    return f"{kind}, {'shared' if share else 'per agent'}"


def _critic(kind: str, n_agents: int, share: bool) -> GroupCritic:
    sizes: dict[str, Any] = {"n_agents": n_agents, "observation_dim": OBSERVATION, "action_dim": ACTION}
    return make_critic(kind, group=GROUP, **sizes, share_params=share, model=MODEL)


def _loss(kind: str, n_agents: int, share: bool, device: str) -> GroupSACLoss:
    actor = make_tanh_normal_actor(
        group=GROUP,
        n_agents=n_agents,
        observation_dim=OBSERVATION,
        action_spec=Bounded(-1, 1, torch.Size([n_agents, ACTION])),
        share_params=share,
        model=MODEL,
    )
    return GroupSACLoss(actor, _critic(kind, n_agents, share), skip_done_states="fill").to(device)


def _multiply_adds(kind: str, n_agents: int) -> int:
    """Multiply-adds of a critic's forward pass on one row, for all agents."""
    critic = _critic(kind, n_agents, True)
    row = _batch(1, n_agents)
    row[GROUP, "alive"] = torch.ones(1, n_agents, 1, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        critic(row)
    return counter.get_total_flops() // 2  # a multiply-add counts as two operations


def _batch(rows: int, n_agents: int) -> TensorDict:
    torch.manual_seed(0)
    shape = (rows, n_agents)
    agents = {"observation": torch.randn(*shape, OBSERVATION), "action": torch.rand(*shape, ACTION)}
    following = {
        "observation": torch.randn(*shape, OBSERVATION),
        "reward": torch.randn(*shape, 1),
        "terminated": torch.rand(*shape, 1) < 0.02,
    }
    return TensorDict(
        {GROUP: TensorDict(agents, shape), "next": TensorDict({GROUP: TensorDict(following, shape)}, [rows])}, [rows]
    )


if __name__ == "__main__":
    main()
