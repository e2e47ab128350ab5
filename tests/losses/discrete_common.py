"""Batches and networks for the tests of the discrete loss."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor
from torchrl.data import Categorical, MultiCategorical, OneHot
from torchrl.modules import MultiAgentMLP, OneHotCategorical, ProbabilisticActor

from masac import GroupDiscreteSACLoss, ModelConfig, make_categorical_actor, make_critic
from tests.losses.common import GROUP, B, F, N

D = 4
SIZES = (3, 2)
MODEL = ModelConfig(hidden=(16,), activation="tanh")


def spec_of(encoding: str, n_agents: int = N) -> Any:
    return {
        "categorical": lambda: Categorical(D, shape=(n_agents,)),
        "one-hot": lambda: OneHot(D, shape=(n_agents, D)),
        "multi-discrete": lambda: torch.stack([MultiCategorical(SIZES)] * n_agents),
    }[encoding]()


def our_discrete_actor(
    share: bool, *, encoding: str = "categorical", masked: bool = False, n_agents: int = N
) -> ProbabilisticActor:
    return make_categorical_actor(
        group=GROUP,
        n_agents=n_agents,
        observation_dim=F,
        action_spec=spec_of(encoding, n_agents),
        share_params=share,
        model=MODEL,
        action_mask=masked,
    )


def our_discrete_critic(share: bool, kind: Any, *, n_actions: int = D, n_agents: int = N) -> TensorDictModule:
    return make_critic(
        kind,
        group=GROUP,
        n_agents=n_agents,
        observation_dim=F,
        action_dim=n_actions,
        share_params=share,
        model=MODEL,
        n_actions=n_actions,
    )


def torchrl_discrete_actor(share: bool) -> ProbabilisticActor:
    mlp = MultiAgentMLP(F, D, N, centralized=False, share_params=share, depth=1, num_cells=16)
    return ProbabilisticActor(
        TensorDictModule(mlp, in_keys=[(GROUP, "observation")], out_keys=[(GROUP, "logits")]),
        in_keys={"logits": (GROUP, "logits")},
        out_keys=[(GROUP, "action")],
        distribution_class=OneHotCategorical,
    )


def torchrl_discrete_critic(share: bool, kind: str) -> TensorDictModule:
    mlp = MultiAgentMLP(F, D, N, centralized=kind == "centralized", share_params=share, depth=1, num_cells=16)
    return TensorDictModule(mlp, in_keys=[(GROUP, "observation")], out_keys=[(GROUP, "action_value")])


def discrete_batch(
    *,
    encoding: str = "categorical",
    batch: tuple[int, ...] = (B,),
    n_agents: int = N,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
    mask: Tensor | None = None,
    action_mask: bool = False,
    seed: int = 0,
) -> TensorDict:
    """Random transitions; flags and mask are ``[*B, N, 1]``; with ``action_mask`` some actions are illegal."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, n_agents)
    sizes = SIZES if encoding == "multi-discrete" else (D,)
    width = sum(sizes)

    def normal(size: int) -> Tensor:
        return torch.randn(*shape, size, generator=generator, dtype=torch.get_default_dtype())

    def legal() -> Tensor:
        # The first choice of every factor is legal, the others at random.
        out = torch.rand(*shape, width, generator=generator) < 0.6
        offset = 0
        for size in sizes:
            out[..., offset] = True
            offset += size
        return out

    here, there = legal(), legal()
    scores = torch.rand(*shape, width, generator=generator) + (here if action_mask else 0)
    indices = torch.stack([part.argmax(-1) for part in scores.split(list(sizes), -1)], -1)
    action = {
        "categorical": lambda: indices.squeeze(-1),
        "one-hot": lambda: torch.nn.functional.one_hot(indices.squeeze(-1), D),
        "multi-discrete": lambda: indices,
    }[encoding]()
    flags = torch.zeros(*shape, 1, dtype=torch.bool)
    terminated = flags if terminated is None else terminated
    truncated = flags if truncated is None else truncated
    agents = TensorDict({"observation": normal(F), "action": action}, shape)
    following = TensorDict(
        {
            "observation": normal(F),
            "reward": normal(1),
            "terminated": terminated.clone(),
            "truncated": truncated.clone(),
            "done": terminated | truncated,
        },
        shape,
    )
    if mask is not None:
        agents["mask"] = mask.squeeze(-1)
    if action_mask:
        agents["action_mask"], following["action_mask"] = here, there
    return TensorDict({GROUP: agents, "next": TensorDict({GROUP: following}, batch)}, batch)


def discrete_loss(actor: Any, critic: Any, *, encoding: str = "categorical", **kwargs: Any) -> GroupDiscreteSACLoss:
    """A loss with target critics unlike the critics."""
    loss = GroupDiscreteSACLoss(actor, critic, **{"action_space": spec_of(encoding), **kwargs})
    with torch.no_grad():
        for parameter in loss.target_qvalue_network_params.values(True, True):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return loss
