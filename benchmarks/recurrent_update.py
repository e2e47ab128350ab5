"""One update with memories, masac against TorchRL: python -m benchmarks.recurrent_update [--batch 64] [--json FILE].

A batch holds sequences of 3 agents; 5% of the steps end an episode, also in the middle of a sequence. ``torchrl`` is
``SACLoss``, ``Adam`` and ``SoftUpdate`` with a ``GRUModule`` and an MLP in the actor and in each critic, the agents a
part of the batch, its "pad" backend, and ``deactivate_vmap``, since a GRU cannot run under vmap. It is given zeros as
the state before a sequence of current and of next states. ``masac`` is ``GroupSACLoss`` with a ``GroupMemory`` of the
actor, and one of both critics, in a compiled ``UpdateStep``; ``graph`` is the same as a replayed trace. The GRUs and
the MLPs have the same sizes, and all agents share them. Of what takes longer, TorchRL's critics have a GRU each, and
unroll it three times per update; masac unrolls two GRUs and a target's once, and takes one more step from each state.

The contenders take turns in one process. A figure is the median over rounds, with the range; a ratio is TorchRL's time
divided by masac's.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import GRUModule, NormalParamExtractor, ProbabilisticActor, TanhNormal, set_recurrent_mode
from torchrl.objectives import SACLoss, ValueEstimators

from benchmarks.interleaved_timing import masac_update, time_interleaved, torchrl_update
from benchmarks.report import print_table, spread, summary, write_json
from benchmarks.torchrl_networks import GROUP, action_spec
from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor
from masac.networks.memory import GroupMemory

N_AGENTS, OBSERVATION, ACTION, HIDDEN, MEMORY, GAMMA = 3, 18, 2, 128, 64, 0.99


def main() -> None:
    """Time all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="sequences")
    parser.add_argument("--steps", type=int, default=16, help="length of a sequence")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--contenders", nargs="+", default=["masac", "graph"], choices=["masac", "graph"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    cases = []
    for batch in arguments.batch:
        data = example_sequences(batch, arguments.steps).to(arguments.device)
        updates = {"torchrl": torchrl_update(torchrl_loss(arguments.device), data)}
        for name in arguments.contenders:
            mode = "compile" if name == "masac" else "graph"
            updates[name] = masac_update(masac_loss(arguments.device), data, mode)
        times = time_interleaved(updates, rounds=arguments.rounds, seconds=arguments.seconds, device=arguments.device)
        found = {name: summary(values) for name, values in times.items()}
        ratio = {name: found["torchrl"]["median"] / found[name]["median"] for name in arguments.contenders}
        cases.append({"batch": batch, "steps": arguments.steps, "ratio": ratio, "times_ms": found})
    rows = [
        (
            case["batch"],
            case["steps"],
            *(spread(case["times_ms"][name]) for name in ("torchrl", *arguments.contenders)),
            *(f"{case['ratio'][name]:.2f}" for name in arguments.contenders),
        )
        for case in cases
    ]
    times_of = [f"{name} ms" for name in ("torchrl", *arguments.contenders)]
    columns = ["sequences", "steps", *times_of, *(f"ratio {name}" for name in arguments.contenders)]
    print_table("one update with memories; ratio = TorchRL's median time / masac's", columns, rows)
    write_json(arguments.json, {"cases": cases}, device=arguments.device)


class GRUOfAgents(nn.Module):
    """TorchRL's ``GRUModule`` over sequences ``[B, T, N, F]``, with the agents as a part of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = GRUModule(
            OBSERVATION, MEMORY, in_keys=["seen", "state", "is_init"], out_keys=["out", ("next", "state")]
        )

    def forward(self, observation: Tensor, is_init: Tensor) -> Tensor:
        """``[B, T, N, F]`` and bool ``[B, T, 1]`` to ``[B, T, N, H]``."""
        rows, steps, n_agents, _ = observation.shape
        begins = is_init.unsqueeze(1).expand(rows, n_agents, steps, 1).flatten(0, 1)
        seen = {"seen": observation.transpose(1, 2).flatten(0, 1), "is_init": begins}
        with set_recurrent_mode(True):
            out = self.gru(TensorDict(seen, [rows * n_agents, steps]))["out"]
        return out.unflatten(0, (rows, n_agents)).transpose(1, 2)


class Recurrent(nn.Module):
    """An MLP of the observation, the output of a GRU, and what else there is."""

    def __init__(self, others: int, outputs: int, head: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.memory = GRUOfAgents()
        sizes = [OBSERVATION + MEMORY + others, HIDDEN, HIDDEN]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.mlp = nn.Sequential(*layers, nn.Linear(HIDDEN, outputs), *head)

    def forward(self, observation: Tensor, is_init: Tensor, *others: Tensor) -> Any:
        """``[B, T, N, F]`` of every entry to ``[B, T, N, outputs]``, or what the head makes of it."""
        return self.mlp(torch.cat([observation, self.memory(observation, is_init), *others], -1))


def torchrl_loss(device: str) -> SACLoss:
    """TorchRL's loss, with GRUs in the actor and in each critic."""
    actor = ProbabilisticActor(
        TensorDictModule(
            Recurrent(0, 2 * ACTION, [NormalParamExtractor()]),
            in_keys=[(GROUP, "observation"), "is_init"],
            out_keys=[(GROUP, "loc"), (GROUP, "scale")],
        ),
        in_keys={"loc": (GROUP, "loc"), "scale": (GROUP, "scale")},  # pyright: ignore[reportArgumentType]
        out_keys=[(GROUP, "action")],
        distribution_class=TanhNormal,
        return_log_prob=True,
        log_prob_key=(GROUP, "action_log_prob"),
    )
    critic = TensorDictModule(
        Recurrent(ACTION, 1),
        in_keys=[(GROUP, "observation"), "is_init", (GROUP, "action")],
        out_keys=[(GROUP, "state_action_value")],
    )
    loss = SACLoss(
        actor.to(device),  # pyright: ignore[reportArgumentType]
        critic.to(device),
        action_spec=action_spec(N_AGENTS, ACTION, device),
        deactivate_vmap=True,
    )
    names = ("action", "state_action_value", "reward", "done", "terminated")
    loss.set_keys(**{name: (GROUP, name) for name in names})
    loss.make_value_estimator(ValueEstimators.TD0, gamma=GAMMA)
    return loss


def masac_loss(device: str) -> GroupSACLoss:
    """The loss of masac, with a memory of the actor and one of the critics."""
    model = ModelConfig(hidden=(HIDDEN, HIDDEN), memory="gru", memory_size=MEMORY)
    sizes: dict[str, Any] = {"n_agents": N_AGENTS, "observation_dim": OBSERVATION, "share_params": True}
    spec = action_spec(N_AGENTS, ACTION)[GROUP, "action"]
    actor = make_tanh_normal_actor(group=GROUP, action_spec=spec, model=model, **sizes)
    critic = make_critic("independent", group=GROUP, action_dim=ACTION, model=model, **sizes)
    memories = {f"{name}_memory": GroupMemory("gru", size=MEMORY, **sizes) for name in ("actor", "critic")}
    return GroupSACLoss(actor, critic, gamma=GAMMA, skip_done_states="fill", **memories).to(device)  # pyright: ignore


def example_sequences(rows: int, steps: int) -> TensorDict:
    """Random sequences; the state after 5% of the steps is the last of an episode of all agents."""
    torch.manual_seed(0)
    batch, shape = (rows, steps), (rows, steps, N_AGENTS)
    ends = torch.rand(*batch, 1) < 0.05
    begins = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), ends[:, :-1]], 1)
    flags = ends.unsqueeze(-1).expand(*shape, 1)
    agents = {"observation": torch.randn(*shape, OBSERVATION), "action": torch.rand(*shape, ACTION) * 1.8 - 0.9}
    following = {"observation": torch.randn(*shape, OBSERVATION), "reward": torch.randn(*shape, 1)}
    following |= {"terminated": flags, "done": flags}
    after = {GROUP: TensorDict(following, shape), "is_init": begins}
    return TensorDict({GROUP: TensorDict(agents, shape), "is_init": begins, "next": TensorDict(after, batch)}, batch)


if __name__ == "__main__":
    main()
