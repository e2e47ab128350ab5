"""One update, masac against TorchRL: python -m benchmarks.update_step [--batch 128 256] [--device cpu] [--json FILE].

An update is loss, backward pass, optimizer step and target update. Both losses get the same networks (of TorchRL's
``MultiAgentMLP``, 3 agents, two hidden layers of 256), data, optimizer (Adam) and target update (``SoftUpdate``).
A third contender, masac's loss on masac's own networks of the same sizes, shows what those add. They take turns in
one process; a figure is the median over rounds, with the least and the most, and ratios are TorchRL's time over ours.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.objectives import SACLoss, ValueEstimators

from benchmarks.networks import GROUP, action_spec, continuous_networks
from benchmarks.report import print_table, write_json
from benchmarks.turns import take_turns, updater
from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor

N_AGENTS, OBSERVATION, ACTION, HIDDEN, GAMMA, TAU = 3, 18, 2, 256, 0.99, 0.005


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256, 1024, 4096])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    cases = [
        _case(batch, share, centralized, arguments)
        for batch, share, centralized in itertools.product(arguments.batch, (True, False), (True, False))
    ]
    rows = [
        (
            case["batch"],
            "shared" if case["shared"] else "per agent",
            "centralized" if case["centralized"] else "independent",
            *(_milliseconds(case["times_ms"][name]) for name in ("torchrl", "masac", "masac_networks")),
            f"{case['ratio']:.2f}",
            f"{case['ratio_own_networks']:.2f}",
        )
        for case in cases
    ]
    columns = (
        "batch",
        "weights",
        "critic",
        "torchrl ms",
        "masac ms",
        "masac, own networks ms",
        "ratio",
        "ratio, own networks",
    )
    print_table("one update; ratio = TorchRL's median time / masac's", columns, rows)
    for batch in arguments.batch:
        ratios = [case["ratio"] for case in cases if case["batch"] == batch]
        own = [case["ratio_own_networks"] for case in cases if case["batch"] == batch]
        print(
            f"batch {batch}: geometric mean ratio {statistics.geometric_mean(ratios):.2f}, "
            f"with masac's networks {statistics.geometric_mean(own):.2f}"
        )
    write_json(arguments.json, {"cases": cases}, device=arguments.device)


def _case(batch: int, share: bool, centralized: bool, arguments: argparse.Namespace) -> dict[str, Any]:
    device = arguments.device
    data = _batch(batch).to(device)
    updates = {
        "torchrl": updater(_torchrl_loss(share, centralized, device), data, TAU),
        "masac": updater(_masac_loss(share, centralized, device), data, TAU),
        "masac_networks": updater(_masac_networks_loss(share, centralized, device), data, TAU),
    }
    times = take_turns(updates, arguments.rounds, arguments.seconds, device)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "batch": batch,
        "shared": share,
        "centralized": centralized,
        "ratio": medians["torchrl"] / medians["masac"],
        "ratio_own_networks": medians["torchrl"] / medians["masac_networks"],
        "times_ms": {
            name: {"median": medians[name], "min": min(values), "max": max(values)} for name, values in times.items()
        },
    }


def _networks(share: bool, centralized: bool, device: str) -> Any:
    return continuous_networks(
        n_agents=N_AGENTS,
        observation_dim=OBSERVATION,
        action_dim=ACTION,
        hidden=HIDDEN,
        share=share,
        centralized=centralized,
        device=device,
    )


def _torchrl_loss(share: bool, centralized: bool, device: str) -> SACLoss:
    loss = SACLoss(*_networks(share, centralized, device), action_spec=action_spec(N_AGENTS, ACTION, device))
    names = ("action", "state_action_value", "reward", "done", "terminated")
    loss.set_keys(**{name: (GROUP, name) for name in names})
    loss.make_value_estimator(ValueEstimators.TD0, gamma=GAMMA)
    return loss


def _masac_loss(share: bool, centralized: bool, device: str) -> GroupSACLoss:
    spec = action_spec(N_AGENTS, ACTION, device)
    # "joint" is what TorchRL computes; for foreign centralized critics "own" costs a backward pass an agent more.
    return GroupSACLoss(
        *_networks(share, centralized, device),
        action_spec=spec,
        gamma=GAMMA,
        actor_gradient="joint",
        skip_done_states="fill",
    )


def _masac_networks_loss(share: bool, centralized: bool, device: str) -> GroupSACLoss:
    model = ModelConfig(hidden=(HIDDEN, HIDDEN), activation="tanh")
    sizes = {"n_agents": N_AGENTS, "observation_dim": OBSERVATION, "share_params": share, "model": model}
    spec = action_spec(N_AGENTS, ACTION)[GROUP, "action"]
    actor = make_tanh_normal_actor(group=GROUP, action_spec=spec, **sizes)
    critic = make_critic("centralized" if centralized else "independent", group=GROUP, action_dim=ACTION, **sizes)
    return GroupSACLoss(actor, critic, gamma=GAMMA, skip_done_states="fill").to(device)


def _batch(rows: int) -> TensorDict:
    """Random transitions, of which 2% of the agents terminate."""
    torch.manual_seed(0)
    shape = (rows, N_AGENTS)
    terminated = torch.rand(*shape, 1) < 0.02
    agents = TensorDict(
        {"observation": torch.randn(*shape, OBSERVATION), "action": torch.rand(*shape, ACTION) * 1.8 - 0.9}, shape
    )
    following = {"observation": torch.randn(*shape, OBSERVATION), "reward": torch.randn(*shape, 1)}
    following |= {"terminated": terminated, "done": terminated}
    return TensorDict({GROUP: agents, "next": TensorDict({GROUP: TensorDict(following, shape)}, [rows])}, [rows])


def _milliseconds(times: dict[str, float]) -> str:
    return f"{times['median']:.1f} ({times['min']:.1f} to {times['max']:.1f})"


if __name__ == "__main__":
    main()
