"""One update, masac against TorchRL: python -m benchmarks.update_step [--batch 128 256] [--device cpu] [--json FILE].

An update is loss, backward pass, optimizer step and target update. ``torchrl`` uses ``SACLoss``, ``Adam`` and
``SoftUpdate`` as in TorchRL's recipes. ``masac`` is ``GroupSACLoss`` in a compiled ``UpdateStep``, and ``graph`` the
same as a replayed trace, which needs no compiler; both have TorchRL's networks (``MultiAgentMLP``, 3 agents, two hidden
layers of 256, float32), data and settings. ``own`` is masac's loss on masac's own networks of the same sizes, compiled;
its shared centralized critic computes one value per agent, where TorchRL's computes one and copies it to all agents.

The contenders take turns in one process. A figure is the median over rounds, with the range; a ratio is TorchRL's time
divided by masac's. The floor is the time of the update's matrix products alone, at the rate that large matrix products
reach on this machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch.utils.flop_counter import FlopCounterMode
from torchrl.objectives import SACLoss, ValueEstimators

from benchmarks.interleaved_timing import masac_update, time_interleaved, torchrl_update
from benchmarks.report import print_table, spread, summary, write_json
from benchmarks.torchrl_networks import GROUP, action_spec, continuous_networks
from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor
from masac.training.update import UpdateMode

N_AGENTS, OBSERVATION, ACTION, HIDDEN, GAMMA = 3, 18, 2, 256, 0.99


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256, 1024, 4096])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, help="besides torchrl")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    rate = matmul_rate(arguments.device)
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s")
    cases = []
    for batch, share, centralized in itertools.product(arguments.batch, (True, False), (True, False)):
        cases.append(
            time_case(
                batch,
                share=share,
                centralized=centralized,
                contenders=arguments.contenders,
                device=arguments.device,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
                rate=rate,
            )
        )
        print(f"  {len(cases)} of {4 * len(arguments.batch)} cases", flush=True)
    _print(cases, arguments.contenders)
    means = {
        name: {
            str(batch): statistics.geometric_mean(case["ratio"][name] for case in cases if case["batch"] == batch)
            for batch in arguments.batch
        }
        for name in arguments.contenders
    }
    for name, by_batch in means.items():
        print(f"{name}, geometric mean ratio: " + ", ".join(f"batch {b}: {mean:.2f}" for b, mean in by_batch.items()))
    results = {"matmul_gflops": rate / 1e9, "geometric_mean_ratio": means, "cases": cases}
    write_json(arguments.json, results, device=arguments.device)


def time_case(
    batch: int,
    *,
    share: bool,
    centralized: bool,
    contenders: Sequence[str],
    device: str,
    rounds: int,
    seconds: float,
    rate: float,
) -> dict[str, Any]:
    """Time one case; ``ratio`` is TorchRL's time divided by each contender's.

    Args:
        batch: number of rows.
        share: weights shared by all agents, not per agent.
        centralized: centralized critics, not independent ones.
        contenders: names in ``CONTENDERS``.
        device: the device of networks and data.
        rounds: turns of every contender.
        seconds: length of a turn.
        rate: operations per second of large matrix products.
    """
    data = example_batch(batch).to(device)
    updates = {"torchrl": torchrl_update(_torchrl_loss(share, centralized, device), data)}
    for name in contenders:
        make_loss, mode = CONTENDERS[name]
        updates[name] = masac_update(make_loss(share, centralized, device), data, mode)
    times = time_interleaved(updates, rounds=rounds, seconds=seconds, device=device)
    found = {name: summary(values) for name, values in times.items()}
    medians = {name: values["median"] for name, values in found.items()}
    floors = {
        name: 1e3 * _operations(masac_update(CONTENDERS[name][0](share, centralized, device), data, "graph")) / rate
        for name in contenders
    }
    return {
        "batch": batch,
        "shared": share,
        "centralized": centralized,
        "ratio": {name: medians["torchrl"] / medians[name] for name in contenders},
        "floor_ms": floors,
        "over_floor": {name: medians[name] / floors[name] for name in contenders},
        "times_ms": found,
    }


def matmul_rate(device: str) -> float:
    """Operations per second of large matrix products in float32."""
    size = 1024 if device == "cpu" else 8192
    matrix = torch.randn(size, size, device=device)
    times = time_interleaved({"matmul": lambda: torch.mm(matrix, matrix)}, rounds=5, seconds=0.3, device=device)[
        "matmul"
    ]
    return 2 * size**3 / (1e-3 * statistics.median(times))


def _print(cases: Sequence[dict[str, Any]], contenders: Sequence[str]) -> None:
    rows = [
        (
            case["batch"],
            "shared" if case["shared"] else "per agent",
            "centralized" if case["centralized"] else "independent",
            *(spread(case["times_ms"][name]) for name in ("torchrl", *contenders)),
            *(f"{case['ratio'][name]:.2f}" for name in contenders),
            *(f"{case['over_floor'][name]:.2f}" for name in contenders),
        )
        for case in cases
    ]
    columns = (
        *("batch", "weights", "critic"),
        *(f"{name} ms" for name in ("torchrl", *contenders)),
        *(f"ratio {name}" for name in contenders),
        *(f"over floor {name}" for name in contenders),
    )
    print_table("one update; ratio = TorchRL's median time / masac's; over floor = median time / floor", columns, rows)


def _operations(update: Callable[[], object]) -> int:
    """Operations of the matrix products in one update in graph mode."""
    update()
    with FlopCounterMode(display=False) as counter:
        update()
    return counter.get_total_flops()


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
    # "joint" is what TorchRL computes; with centralized critics not from masac, "own" costs a backward pass per agent.
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


CONTENDERS: dict[str, tuple[Callable[[bool, bool, str], GroupSACLoss], UpdateMode]] = {
    "masac": (_masac_loss, "compile"),
    "graph": (_masac_loss, "graph"),
    "own": (_masac_networks_loss, "compile"),
}
"""masac's contenders: how to make the loss (from share, centralized, device), and the mode of its updates."""


def example_batch(rows: int) -> TensorDict:
    """Random transitions in which 2% of the agents terminate."""
    torch.manual_seed(0)
    shape = (rows, N_AGENTS)
    terminated = torch.rand(*shape, 1) < 0.02
    agents = TensorDict(
        {"observation": torch.randn(*shape, OBSERVATION), "action": torch.rand(*shape, ACTION) * 1.8 - 0.9}, shape
    )
    following = {"observation": torch.randn(*shape, OBSERVATION), "reward": torch.randn(*shape, 1)}
    following |= {"terminated": terminated, "done": terminated}
    return TensorDict({GROUP: agents, "next": TensorDict({GROUP: TensorDict(following, shape)}, [rows])}, [rows])


if __name__ == "__main__":
    main()
