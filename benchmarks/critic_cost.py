"""What critics cost as a group grows: python -m benchmarks.critic_cost [--agents 3 10 30] [--device cpu] [--json FILE].

Independent, centralized (ego-first) and pooled critics of the default size (two hidden layers of 128, shared weights,
two critics), on agents that observe 18 numbers and act in 2 dimensions. Multiply-adds are those of one critic's forward
pass, an agent. An update is loss, backward pass, optimizer step and target update; the kinds take turns in one process,
a figure is the median over rounds, with the least and the most, and a ratio is the ego-first kind's time over that of
the pooled one.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any, get_args

import torch
from tensordict import TensorDict
from torch.utils.flop_counter import FlopCounterMode
from torchrl.data import Bounded

from benchmarks.report import print_table, write_json
from benchmarks.turns import take_turns, updater
from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor
from masac.networks.critics import CriticKind, GroupCritic

GROUP, OBSERVATION, ACTION, MODEL = "agents", 18, 2, ModelConfig()
KINDS: list[CriticKind] = [kind for kind in get_args(CriticKind) if kind != "team"]


def main() -> None:
    """Count and time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", default=[3, 10, 30, 100])
    parser.add_argument("--rows", type=int, default=256, help="rows of a batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    cases = [_case(n_agents, arguments) for n_agents in arguments.agents]
    rows = []
    for case in cases:
        counts = [f"{case['multiply_adds'][kind]:,}" for kind in KINDS]
        times = ["{median:.1f} ({min:.1f} to {max:.1f})".format(**case["times_ms"][kind]) for kind in KINDS]
        rows.append((case["agents"], *counts, *times, f"{case['ratio']:.2f}"))
    columns = ["agents", *KINDS, *(f"{kind} ms" for kind in KINDS), "ratio"]
    title = f"multiply-adds an agent; one update of {arguments.rows} rows; ratio = centralized / pooled"
    print_table(title, columns, rows)
    write_json(arguments.json, {"cases": cases}, device=arguments.device)


def _case(n_agents: int, arguments: argparse.Namespace) -> dict[str, Any]:
    device = arguments.device
    data = _batch(arguments.rows, n_agents).to(device)
    updates = {kind: updater(_loss(kind, n_agents, device), data, 0.005) for kind in KINDS}
    times = take_turns(updates, arguments.rounds, arguments.seconds, device)  # pyright: ignore[reportArgumentType]
    return {
        "agents": n_agents,
        "multiply_adds": {kind: _multiply_adds(kind, n_agents) // n_agents for kind in KINDS},
        "ratio": statistics.median(times["centralized"]) / statistics.median(times["pooled"]),
        "times_ms": {
            kind: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for kind, values in times.items()
        },
    }


def _critic(kind: CriticKind, n_agents: int) -> GroupCritic:
    sizes: dict[str, Any] = {"n_agents": n_agents, "observation_dim": OBSERVATION, "action_dim": ACTION}
    return make_critic(kind, group=GROUP, **sizes, share_params=True, model=MODEL)


def _loss(kind: CriticKind, n_agents: int, device: str) -> GroupSACLoss:
    actor = make_tanh_normal_actor(
        group=GROUP,
        n_agents=n_agents,
        observation_dim=OBSERVATION,
        action_spec=Bounded(-1, 1, (n_agents, ACTION)),
        share_params=True,
        model=MODEL,
    )
    return GroupSACLoss(actor, _critic(kind, n_agents), skip_done_states="fill").to(device)


def _multiply_adds(kind: CriticKind, n_agents: int) -> int:
    """Of the values of one row."""
    critic = _critic(kind, n_agents)
    row = _batch(1, n_agents)
    row[GROUP, "alive"] = torch.ones(1, n_agents, 1, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        critic(row)
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two


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
