"""Batches and networks for the tests of the losses, with the policy's noise in the data where it must be known."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torchrl.data import Bounded, Composite
from torchrl.modules import MultiAgentMLP, NormalParamExtractor, ProbabilisticActor, TanhNormal

from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor
from masac.networks.actors import TanhNormalNetwork

B, N, F, A = 6, 3, 4, 2
GROUP = "agents"
MODEL = ModelConfig(hidden=(16,), activation="tanh")
SHARE_AND_CRITIC = list(itertools.product((True, False), ("independent", "centralized", "pooled")))
TORCHRL_SHARE_AND_CRITIC = list(itertools.product((True, False), ("independent", "centralized")))
NETWORKS = [(False, *case) for case in SHARE_AND_CRITIC] + [(True, *case) for case in TORCHRL_SHARE_AND_CRITIC]
"""TorchRL's networks or ours, shared weights, the critic's kind."""
GRID = [
    (*networks, ends, nan) for networks, ends, nan in itertools.product(NETWORKS, ("joint", "mixed"), (False, True))
]
"""The networks, when agents end, whether terminal observations are NaN."""


class TanhNormalOfGivenNoise(Distribution):
    """A tanh-normal whose noise is given, so that every way to run an actor draws the same action."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)
        self.loc, self.scale, self.noise = loc, scale, noise

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return torch.tanh(self.loc + self.scale * self.noise)

    def log_prob(self, value: Tensor) -> Tensor:
        before = torch.atanh(value)
        return (Normal(self.loc, self.scale).log_prob(before) - torch.log1p(-value.square())).sum(-1)


class WithNoise(nn.Module):
    """Passes the noise in the data on to the distribution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return *self.network(observation), noise


def noisy_actor(share: bool, *, n_agents: int = N, torchrl: bool = False) -> ProbabilisticActor:
    """An actor whose noise is the entry ``noise`` of the data."""
    if torchrl:
        mlp = MultiAgentMLP(F, 2 * A, n_agents, centralized=False, share_params=share, depth=1, num_cells=16)
        network = nn.Sequential(mlp, NormalParamExtractor())
    else:
        network = TanhNormalNetwork(n_agents=n_agents, observation_dim=F, action_dim=A, share_params=share, model=MODEL)
    keys = [(GROUP, name) for name in ("loc", "scale", "passed_noise")]
    module = TensorDictModule(WithNoise(network), in_keys=[(GROUP, "observation"), (GROUP, "noise")], out_keys=keys)
    return ProbabilisticActor(
        module,
        in_keys=dict(zip(("loc", "scale", "noise"), keys, strict=True)),  # pyright: ignore[reportArgumentType]
        out_keys=[(GROUP, "action")],
        distribution_class=TanhNormalOfGivenNoise,
    )


def torchrl_actor(share: bool) -> ProbabilisticActor:
    """The actor of TorchRL's multi-agent recipes."""
    mlp = MultiAgentMLP(F, 2 * A, N, centralized=False, share_params=share, depth=1, num_cells=16)
    module = TensorDictModule(
        nn.Sequential(mlp, NormalParamExtractor()),
        in_keys=[(GROUP, "observation")],
        out_keys=[(GROUP, "loc"), (GROUP, "scale")],
    )
    return ProbabilisticActor(
        module,
        in_keys={"loc": (GROUP, "loc"), "scale": (GROUP, "scale")},  # pyright: ignore[reportArgumentType]
        out_keys=[(GROUP, "action")],
        distribution_class=TanhNormal,
        return_log_prob=True,
        log_prob_key=(GROUP, "action_log_prob"),
    )


class Cat(nn.Module):
    """A network of observation and action."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.network(torch.cat([observation, action], -1))


def torchrl_critic(share: bool, kind: str, n_agents: int = N) -> TensorDictModule:
    """The critic of TorchRL's multi-agent recipes."""
    mlp = MultiAgentMLP(
        F + A, 1, n_agents, centralized=kind == "centralized", share_params=share, depth=1, num_cells=16
    )
    return TensorDictModule(
        Cat(mlp), in_keys=[(GROUP, "observation"), (GROUP, "action")], out_keys=[(GROUP, "state_action_value")]
    )


def our_actor(share: bool, *, n_agents: int = N, model: ModelConfig = MODEL) -> ProbabilisticActor:
    return make_tanh_normal_actor(
        group=GROUP,
        n_agents=n_agents,
        observation_dim=F,
        action_spec=Bounded(-1, 1, (n_agents, A), dtype=torch.get_default_dtype()),
        share_params=share,
        model=model,
    )


def our_critic(share: bool, kind: Any, *, n_agents: int = N, model: ModelConfig = MODEL) -> TensorDictModule:
    return make_critic(
        kind, group=GROUP, n_agents=n_agents, observation_dim=F, action_dim=A, share_params=share, model=model
    )


def critic_of(torchrl: bool, share: bool, kind: str) -> TensorDictModule:
    return torchrl_critic(share, kind) if torchrl else our_critic(share, kind)


def make_batch(
    *,
    batch: tuple[int, ...] = (B,),
    n_agents: int = N,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
) -> TensorDict:
    """Random transitions; flags and mask are ``[*B, N, 1]``, False (True) by default."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, n_agents)

    def normal(size: int) -> Tensor:
        return torch.randn(*shape, size, generator=generator, dtype=torch.get_default_dtype())

    flags = torch.zeros(*shape, 1, dtype=torch.bool)
    terminated = flags if terminated is None else terminated
    truncated = flags if truncated is None else truncated
    agents = TensorDict({"observation": normal(F), "action": normal(A).tanh(), "noise": normal(A)}, shape)
    if mask is not None:
        agents["mask"] = mask.squeeze(-1)
    next_agents = TensorDict(
        {
            "observation": normal(F),
            "noise": normal(A),
            "reward": normal(1),
            "terminated": terminated.clone(),
            "truncated": truncated.clone(),
            "done": terminated | truncated,
        },
        shape,
    )
    return TensorDict({GROUP: agents, "next": TensorDict({GROUP: next_agents}, batch)}, batch)


def noisy_loss(actor: ProbabilisticActor, critic: Any, **kwargs: Any) -> GroupSACLoss:
    """A loss with a target entropy, since the test actors have no spec, and targets unlike the critics."""
    loss = GroupSACLoss(actor, critic, **{"target_entropy": -2.0, "group": GROUP, **kwargs})
    with torch.no_grad():
        for parameter in loss.target_qvalue_network_params.values(True, True):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return loss


def clone_loss(make: Any, like: GroupSACLoss) -> GroupSACLoss:
    """A new loss with the parameters of another."""
    loss = make()
    loss.load_state_dict(like.state_dict())
    return loss


def total(losses: Any) -> Tensor:
    return losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]


def gradients(loss: GroupSACLoss) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}


def action_spec(n_agents: int = N, dims: int = A) -> Composite:
    agents = Composite({"action": Bounded(-1, 1, (n_agents, dims))}, shape=(n_agents,))
    return Composite({GROUP: agents})


def one_agents_networks(group):
    """A network of one agent, whose entries live at the root or in a group."""
    key = lambda name: (group, name) if group else name  # noqa: E731
    actor = ProbabilisticActor(
        TensorDictModule(
            nn.Sequential(nn.Linear(F, 2 * A), NormalParamExtractor()),
            in_keys=[key("observation")],
            out_keys=[key("loc"), key("scale")],
        ),
        in_keys={"loc": key("loc"), "scale": key("scale")},
        out_keys=[key("action")],
        distribution_class=TanhNormal,
        return_log_prob=True,
        log_prob_key=key("action_log_prob"),
    )
    critic = TensorDictModule(
        Cat(nn.Linear(F + A, 1)),
        in_keys=[key("observation"), key("action")],
        out_keys=[key("state_action_value")],
    )
    return actor, critic


def grid_batch(ends, nan, *, make=make_batch, **kwargs):
    generator = torch.Generator().manual_seed(3)
    if ends == "joint":
        terminated = (torch.arange(B) % 2 == 0).reshape(B, 1, 1).expand(B, N, 1)
    else:
        terminated = torch.rand(B, N, 1, generator=generator) < 0.4
    truncated = torch.rand(B, N, 1, generator=generator) < 0.3
    batch = make(terminated=terminated, truncated=truncated, **kwargs)
    if nan:
        batch["next", GROUP, "observation"][terminated.squeeze(-1)] = float("nan")
    return batch


def assert_equal_losses_and_gradients(theirs, ours, batch, **tolerance):
    results = []
    for loss in (theirs, ours):
        torch.manual_seed(1)
        losses = loss(batch.clone())
        loss.zero_grad()
        total(losses).backward()
        results.append((losses, {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}))
    (their_losses, their_grads), (our_losses, our_grads) = results
    for name in ("loss_actor", "loss_qvalue", "loss_alpha", "alpha", "entropy"):
        torch.testing.assert_close(our_losses[name], their_losses[name], **tolerance)
    assert their_grads.keys() == our_grads.keys()
    assert any("actor" in name for name in our_grads)
    for name, grad in their_grads.items():
        torch.testing.assert_close(our_grads[name], grad, **tolerance)


def actor_of(network, *, read=("observation",), group=GROUP, distribution=TanhNormal):
    keys = [(group, "loc"), (group, "scale")]
    module = TensorDictModule(
        network, in_keys=[(group, name) if isinstance(name, str) else name[0] for name in read], out_keys=keys
    )
    return ProbabilisticActor(
        module,
        in_keys={"loc": keys[0], "scale": keys[1]},  # pyright: ignore[reportArgumentType]
        out_keys=[(group, "action")],
        distribution_class=distribution,
    )


def linear_head(outputs):
    return nn.Sequential(outputs, NormalParamExtractor())
