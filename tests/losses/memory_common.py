"""Networks that read memories, sequences, and the memories of a sequence by a loop over agents and steps."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import MultiAgentMLP, OneHotCategorical, ProbabilisticActor

from masac import GroupDiscreteSACLoss, GroupSACLoss, ModelConfig
from masac.losses.base import GroupLoss
from masac.networks.actors import ActorNetwork, TanhNormalNetwork
from masac.networks.memory import GroupMemory
from tests.losses.common import GROUP, A, F, N, TanhNormalOfGivenNoise, make_batch
from tests.losses.discrete_common import D, discrete_batch

H, ROWS, T = 3, 2, 6
MODEL = ModelConfig(hidden=(8,), activation="tanh")
READS = ("actor_memory", "critic_memory")
GIVEN = ("known_of_actor", "known_of_critic")
"""Where networks read the outputs of memories: as the losses compute them, or from the data."""


class SideBySide(nn.Module):
    """A network of several entries."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *entries: Tensor) -> Any:
        return self.network(torch.cat(entries, -1))


class OfBoth(SideBySide):
    """A network of an observation and a memory; it passes the noise on."""

    def forward(self, observation: Tensor, memory: Tensor, *noise: Tensor) -> Any:
        out = super().forward(observation, memory)
        return (*out, *noise) if isinstance(out, tuple) else out


def actor_that_reads(entry: str, *, discrete: bool = False) -> ProbabilisticActor:
    sizes: dict[str, Any] = {"n_agents": N, "observation_dim": F + H, "share_params": True, "model": MODEL}
    reads = [(GROUP, "observation"), (GROUP, entry)]
    if discrete:
        module = TensorDictModule(OfBoth(ActorNetwork(outputs=D, **sizes)), reads, [(GROUP, "logits")])
        return ProbabilisticActor(
            module, {"logits": (GROUP, "logits")}, [(GROUP, "action")], distribution_class=OneHotCategorical
        )
    keys = [(GROUP, name) for name in ("loc", "scale", "passed_noise")]
    module = TensorDictModule(OfBoth(TanhNormalNetwork(action_dim=A, **sizes)), [*reads, (GROUP, "noise")], keys)
    return ProbabilisticActor(
        module,
        in_keys=dict(zip(("loc", "scale", "noise"), keys, strict=True)),  # pyright: ignore[reportArgumentType]
        out_keys=[(GROUP, "action")],
        distribution_class=TanhNormalOfGivenNoise,
    )


def critic_that_reads(entry: str, *, centralized: bool = False, discrete: bool = False) -> TensorDictModule:
    outputs = D if discrete else 1
    mlp = MultiAgentMLP(
        F + H + (0 if discrete else A), outputs, N, centralized=centralized, share_params=False, depth=1, num_cells=8
    )
    reads = [(GROUP, "observation"), (GROUP, entry), *([] if discrete else [(GROUP, "action")])]
    value = "action_value" if discrete else "state_action_value"
    return TensorDictModule(SideBySide(mlp), reads, [(GROUP, value)])


def memory(kind: Any = "gru", *, share_params: bool = True) -> GroupMemory:
    return GroupMemory(kind, n_agents=N, observation_dim=F, size=H, share_params=share_params)


def make_loss(*, discrete: bool = False, given: bool = False, centralized: bool = False, **options: Any) -> GroupLoss:
    """A loss with memories, or one whose networks read their outputs from the data; targets unlike the critics."""
    entries = GIVEN if given else READS
    memories = {} if given else {"actor_memory": memory(), "critic_memory": memory()}
    networks = (
        actor_that_reads(entries[0], discrete=discrete),
        critic_that_reads(entries[1], centralized=centralized, discrete=discrete),
    )
    kind, own = (GroupDiscreteSACLoss, {"num_actions": D}) if discrete else (GroupSACLoss, {"target_entropy": -2.0})
    loss = kind(*networks, **{**own, "group": GROUP, "gamma": 0.9, "alpha_init": 0.5, **memories, **options})
    with torch.no_grad():
        for target in loss.critics_and_targets[1]:
            target.add_(0.1 * torch.randn_like(target))
    return loss


def sequences(*, discrete: bool = False, steps: int = T, stored: bool = True, seed: int = 0) -> TensorDict:
    """Steps in which agents die, return, and are truncated or begin anew in the middle, with NaN after deaths.

    In row 0 agent 0 dies in step 2 and agent 2 is absent in steps 0 and 1. In row 1 all are truncated in step 1, so
    another episode begins in step 2; agent 1 dies in its first step, and returns in step 5.
    """
    terminated, truncated = (torch.zeros(ROWS, steps, N, 1, dtype=torch.bool) for _ in range(2))
    mask = torch.ones(ROWS, steps, N, 1, dtype=torch.bool)
    terminated[0, 2:, 0] = terminated[1, 2:5, 1] = True
    mask[0, 3:, 0] = mask[0, :2, 2] = mask[1, 3:5, 1] = False
    truncated[1, 1] = True
    ends = {"terminated": terminated, "truncated": truncated, "mask": mask, "seed": seed}
    make = partial(discrete_batch, encoding="one-hot") if discrete else make_batch
    data = make(batch=(ROWS, steps), **ends)
    data["next", "done"] = truncated.all(-2)
    # What follows a step is what the next one sees, unless the episode was cut.
    goes_on = ~truncated[:, :-1]
    seen = data[GROUP, "observation"]
    data["next", GROUP, "observation"][:, :-1] = torch.where(
        goes_on, seen[:, 1:], data["next", GROUP, "observation"][:, :-1]
    )
    seen[~mask.squeeze(-1)] = math.nan
    data["next", GROUP, "observation"][(terminated | ~mask).squeeze(-1)] = math.nan
    if stored:
        data[GROUP, "memory"] = torch.randn(ROWS, steps, N, H, generator=torch.Generator().manual_seed(seed))
    return data


def remembered(data: TensorDictBase, loss: GroupLoss, *, burn_in: int = 0) -> TensorDict:
    """The data with what each memory holds, by a loop over rows, agents and steps, at the entries :data:`GIVEN`."""
    actor, critic, slow = (
        _torch_cell(params)
        for params in (loss.actor_memory_params, loss.critic_memory_params, loss.target_critic_memory_params.data)
    )
    alive, here, there = data[GROUP, "mask"], data[GROUP, "observation"], data["next", GROUP, "observation"]
    stored = data.get((GROUP, "memory"), torch.zeros(ROWS, data.shape[1], N, H))
    shape = (ROWS, data.shape[1], N, H)
    now, after = ({entry: torch.zeros(shape) for entry in GIVEN} for _ in range(2))
    for row, agent in itertools.product(range(ROWS), range(N)):
        states = [stored[row, 0, agent], *torch.zeros(2, H)]
        for step in range(data.shape[1]):
            at = (row, step, agent)
            if not alive[at] or (step and _begins(data, row, step, agent)):
                states = list(torch.zeros(3, H))
            if alive[at]:
                states = [cell(here[at], state) for cell, state in zip((actor, critic, slow), states, strict=True)]
            if step < burn_in:
                states = [state.detach() for state in states]
            with torch.no_grad():
                following = actor(there[at], states[0]), slow(there[at], states[2])
            for entry, one, other in zip(GIVEN, states, following, strict=False):
                now[entry] = now[entry].index_put(tuple(map(torch.tensor, at)), one)
                after[entry][at] = other
    out = data.copy()
    for entry in GIVEN:
        out[GROUP, entry], out["next", GROUP, entry] = now[entry], after[entry]
    return out[:, burn_in:]


def _begins(data: TensorDictBase, row: int, step: int, agent: int) -> bool:
    """Whether an agent begins anew in a step after the first, by the flags of the step before."""
    before, flags = (row, step - 1, agent), data["next", GROUP]
    own = flags["terminated"][before] | flags["truncated"][before] | ~data[GROUP, "mask"][before]
    return bool(own | data["next", "done"][row, step - 1])


def _torch_cell(params: TensorDictBase) -> Any:
    """PyTorch's GRU cell of one agent with the weights of a memory."""
    cell = nn.GRUCell(F, H)
    named = {
        "weight_ih": params["from_input", "weight"].T,
        "weight_hh": params["from_state", "weight"].T,
        "bias_ih": params["from_input", "bias"][0],
        "bias_hh": params["from_state", "bias"][0],
    }
    return lambda seen, state: torch.func.functional_call(cell, named, (seen[None], state[None]))[0]
