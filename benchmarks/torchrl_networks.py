"""The networks of TorchRL's multi-agent recipes, on which its losses and masac's are compared."""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded, Composite
from torchrl.modules import MultiAgentMLP, NormalParamExtractor, OneHotCategorical, ProbabilisticActor, TanhNormal

GROUP = "agents"


class Joined(nn.Module):
    """A network on the concatenation of observation and action."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *parts: Tensor) -> Tensor:
        """Apply the network to the parts, each ``[*B, N, ...]``."""
        return self.network(torch.cat(parts, dim=-1))


def continuous_networks(
    *, n_agents: int, observation_dim: int, action_dim: int, hidden: int, share: bool, centralized: bool, device: str
) -> tuple[ProbabilisticActor, TensorDictModule]:
    """A tanh-normal actor and a critic with one value per agent, both ``MultiAgentMLP`` with two hidden layers."""

    def mlp(inputs: int, outputs: int, *, centralized: bool) -> MultiAgentMLP:
        return MultiAgentMLP(
            inputs,
            outputs,
            n_agents,
            centralized=centralized,
            share_params=share,
            depth=2,
            num_cells=hidden,
            activation_class=nn.Tanh,
            device=device,
        )

    actor = ProbabilisticActor(
        TensorDictModule(
            nn.Sequential(mlp(observation_dim, 2 * action_dim, centralized=False), NormalParamExtractor()),
            in_keys=[(GROUP, "observation")],
            out_keys=[(GROUP, "loc"), (GROUP, "scale")],
        ),
        in_keys={"loc": (GROUP, "loc"), "scale": (GROUP, "scale")},  # pyright: ignore[reportArgumentType]
        out_keys=[(GROUP, "action")],
        distribution_class=TanhNormal,
        return_log_prob=True,
        log_prob_key=(GROUP, "action_log_prob"),
    )
    critic = TensorDictModule(
        Joined(mlp(observation_dim + action_dim, 1, centralized=centralized)),
        in_keys=[(GROUP, "observation"), (GROUP, "action")],
        out_keys=[(GROUP, "state_action_value")],
    )
    return actor, critic


def discrete_networks(
    *, n_agents: int, observation_dim: int, n_actions: int, hidden: int, share: bool, centralized: bool
) -> tuple[ProbabilisticActor, TensorDictModule]:
    """A one-hot categorical actor and a critic with one value per agent and action."""

    def mlp(*, centralized: bool) -> MultiAgentMLP:
        return MultiAgentMLP(
            observation_dim,
            n_actions,
            n_agents,
            centralized=centralized,
            share_params=share,
            depth=2,
            num_cells=hidden,
        )

    actor = ProbabilisticActor(
        TensorDictModule(mlp(centralized=False), in_keys=[(GROUP, "observation")], out_keys=[(GROUP, "logits")]),
        in_keys={"logits": (GROUP, "logits")},  # pyright: ignore[reportArgumentType]
        out_keys=[(GROUP, "action")],
        distribution_class=OneHotCategorical,
        return_log_prob=True,
        log_prob_key=(GROUP, "action_log_prob"),
    )
    critic = TensorDictModule(
        mlp(centralized=centralized), in_keys=[(GROUP, "observation")], out_keys=[(GROUP, "action_value")]
    )
    return actor, critic


def action_spec(n_agents: int, action_dim: int, device: str = "cpu") -> Composite:
    """The spec of a group's action in [-1, 1]."""
    agents = Composite({"action": Bounded(-1, 1, (n_agents, action_dim), device=device)}, shape=(n_agents,))
    return Composite({GROUP: agents})
