"""Your own networks: a deep set, TorchRL's MultiAgentMLP and a graph network as actors and critics.

Shows what a function that makes a network is called with (a ``NetworkSpec``) and what it returns: a module from
observations ``[*B, N, F]`` (a critic's also takes actions ``[*B, N, A]``) to ``[*B, N, spec.outputs]``. With
``model.memory=gru`` the deep sets also take what each agent remembers. From a shell in this folder:

    masac train model.actor=own_networks:deep_set_actor model.critic=own_networks:deep_set_critic run_dir=runs/deep_set

Run it:

    python examples/own_networks.py                                 # about three minutes on two CPU cores
    python examples/own_networks.py --actor multi_agent_mlp         # the networks are the functions below
    python examples/own_networks.py --frames 2000 --actor graph     # seconds; needs torch_geometric
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torchrl.modules import MultiAgentMLP

from masac import NetworkSpec, Trainer, load_config


class DeepSet(nn.Module):
    """Each agent's output depends on its own features and on the mean over all agents of learned features.

    Any number of agents fits, and their order does not matter (Zaheer et al. 2017, arXiv 1703.06114).
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(inputs + hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, *entries: Tensor) -> Tensor:
        """``[*B, N, inputs]``, in one tensor or several, to ``[*B, N, outputs]``."""
        own = torch.cat(entries, dim=-1)
        group = self.each(own).mean(dim=-2, keepdim=True).expand(*own.shape[:-1], -1)
        return self.out(torch.cat([own, group], dim=-1))


def deep_set_actor(spec: NetworkSpec) -> nn.Module:
    """An actor that sees what its teammates observe."""
    return DeepSet(spec.observation_dim + spec.model.memory_dim, spec.outputs)


def deep_set_critic(spec: NetworkSpec) -> nn.Module:
    """A centralized critic of continuous actions: a value per agent."""
    return DeepSet(spec.observation_dim + spec.model.memory_dim + spec.action_dim, spec.outputs)


def multi_agent_mlp(spec: NetworkSpec) -> nn.Module:
    """TorchRL's MLP with weights shared by the agents."""
    return MultiAgentMLP(
        n_agent_inputs=spec.observation_dim,
        n_agent_outputs=spec.outputs,
        n_agents=spec.n_agents,
        centralized=False,
        share_params=True,
        num_cells=spec.model.hidden,
        activation_class=nn.ReLU,
    )


class Graph(nn.Module):
    """Two rounds of messages between all agents, with torch_geometric."""

    edges: Tensor

    def __init__(self, inputs: int, outputs: int, n_agents: int, hidden: int = 64) -> None:
        super().__init__()
        from torch_geometric.nn import GraphConv  # pyright: ignore[reportMissingImports]

        self.first, self.second = GraphConv(inputs, hidden, aggr="mean"), GraphConv(hidden, outputs, aggr="mean")
        pairs = [(i, j) for i in range(n_agents) for j in range(n_agents) if i != j]
        self.register_buffer("edges", torch.tensor(pairs).reshape(-1, 2).T.contiguous())
        self.n_agents = n_agents

    def forward(self, observation: Tensor) -> Tensor:
        """``[*B, N, inputs]`` to ``[*B, N, outputs]``: all graphs of the batch are one graph without edges between."""
        nodes = observation.reshape(-1, observation.shape[-1])
        first_nodes = torch.arange(0, nodes.shape[0], self.n_agents, device=nodes.device)
        edges = (self.edges.unsqueeze(1) + first_nodes.unsqueeze(-1)).flatten(1)
        out = self.second(torch.relu(self.first(nodes, edges)), edges)
        return out.reshape(*observation.shape[:-1], -1)


def graph(spec: NetworkSpec) -> nn.Module:
    """A graph network as an actor."""
    return Graph(spec.observation_dim, spec.outputs, spec.n_agents)


def main() -> None:
    """Train on VMAS navigation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60_000, help="frames: steps, summed over the environments")
    parser.add_argument("--actor", choices=("deep_set_actor", "multi_agent_mlp", "graph"), default="deep_set_actor")
    arguments = parser.parse_args()

    # The names, not the functions: they are in the run's config, so other commands in this folder find them.
    overrides = [f"model.actor=own_networks:{arguments.actor}", "model.critic=own_networks:deep_set_critic"]
    config = load_config("vmas/navigation", [f"training.total_frames={arguments.frames}", *overrides])
    result = Trainer(config).run()
    print(f"{arguments.actor}: mean return per agent {result.summary['eval_return_mean']:.2f}")
    print(f"the policy is in {result.run_dir}; next: masac render {result.run_dir}")


if __name__ == "__main__":
    main()
