"""Memory: a recurrent network that turns the observations of each agent so far into a state.

Actors and critics stay feed-forward and read the output of that state beside the observation.

Shape legend: ``*B`` batch, ``T`` time, ``N`` agents, ``F`` features of an observation, ``E`` of its images,
``S`` numbers of one agent's state, ``H`` size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from masac.images import ImageSpec
from masac.layouts import GroupNetwork
from masac.networks.config import ModelConfig
from masac.networks.images import ImageEncoder
from masac.networks.layers import StackedLinear
from masac.recurrence import gru_cell, lstm_cell, unroll

MemoryKind = Literal["gru", "lstm"]


class GroupMemory(GroupNetwork):
    """A recurrent network over the observations of each agent of a group; no agent sees the memory of another.

    A new memory is a state of zeros. All agents take a step in one product per layer, and the products with the
    observations of all steps of a sequence are one.

    Args:
        kind: ``"gru"`` (Cho et al. 2014, arXiv 1406.1078) or ``"lstm"`` (Hochreiter and Schmidhuber 1997).
        n_agents: N.
        observation_dim: features of one agent's observation.
        size: H, the numbers that actors and critics read.
        share_params: one set of weights for all agents, else one per agent.
        images: that an agent sees beside the observation vector.
        model: of the convolutions over images.

    Raises:
        ValueError: for another kind, or a size below 1.
    """

    def __init__(
        self,
        kind: MemoryKind,
        *,
        n_agents: int,
        observation_dim: int,
        size: int,
        share_params: bool = True,
        images: Sequence[ImageSpec] = (),
        model: ModelConfig | None = None,
    ) -> None:
        if kind not in get_args(MemoryKind):
            raise ValueError(f"the kind of a memory must be 'gru' or 'lstm'; got {kind!r}.")
        if size < 1:
            raise ValueError(f"the size of a memory must be at least 1; got {size}. Leave the memory out for none.")
        super().__init__(n_agents=n_agents, share_params=share_params, centralized=False)
        self.kind: MemoryKind = kind
        self.encoder = ImageEncoder(images, n_agents=n_agents, share_params=share_params, model=model or ModelConfig())
        self.features = observation_dim + self.encoder.features
        self.size = size
        gates = {"gru": 3, "lstm": 4}[kind] * size
        stack = () if share_params else (n_agents,)
        self.from_input = StackedLinear(self.features, gates, stack)
        self.from_state = StackedLinear(size, gates, stack)

    @property
    def state_dim(self) -> int:
        """S: H, or for an LSTM 2 H, its output and then its cell."""
        return self.size if self.kind == "gru" else 2 * self.size

    @property
    def image_names(self) -> list[str]:
        """The entries of images that it sees, in order."""
        return self.encoder.names

    def output(self, state: Tensor) -> Tensor:
        """What actors and critics read of a state ``[..., S]``, ``[..., H]``."""
        return state[..., : self.size]

    def of_agent(self, index: int) -> GroupMemory:
        """A copy for one agent alone."""
        alone = copy.deepcopy(self)
        if not self.share_params:
            for parameter in alone.parameters():
                parameter.data = parameter[index].clone()
        alone.share_params, alone.n_agents = True, 1
        alone.encoder.share_params, alone.encoder.n_agents = True, 1
        return alone

    def see(self, observation: Tensor, *images: Tensor, alive: Tensor | None = None) -> Tensor:
        """What :meth:`step` and :meth:`unroll` take of observations, ``[..., N, F + E]``.

        Args:
            observation: the vectors, ``[..., N, F]``.
            images: of :attr:`image_names`, each ``[..., N, *shape]``.
            alive: the agents whose images are seen, bool ``[..., N, 1]``, for :meth:`unroll`; None for all. A NaN in
                another one would reach the gradient of the convolutions.
        """
        self.encoder.check_images(images)
        if not images:
            return observation
        if alive is not None:
            images = tuple(torch.where(_beside(alive, one), one, torch.zeros_like(one)) for one in images)
        return torch.cat([observation, self.encoder(images)], -1)

    def step(self, observation: Tensor, state: Tensor) -> Tensor:
        """The state after an observation.

        Args:
            observation: ``[*B, N, F + E]``, see :meth:`see`.
            state: before it, ``[*B, N, S]``; 0 for agents that begin.

        Returns:
            ``[*B, N, S]``.
        """
        self._check(observation, state)
        seen = self._rows(observation.reshape(-1, 1, *observation.shape[-2:]))
        before = self._rows(state.reshape(-1, 1, *state.shape[-2:])).squeeze(-3)
        cell = {"gru": gru_cell, "lstm": lstm_cell}[self.kind]
        after = cell(self.from_input(seen.squeeze(-3)), self.from_state(before[..., : self.size]), before)
        return self._batch(after.unsqueeze(-3), state.shape[-2]).reshape(state.shape)

    def unroll(self, observation: Tensor, state: Tensor, begins: Tensor, alive: Tensor | None = None) -> Tensor:
        """The states after every step of a sequence.

        An agent that is not alive has a state of zeros, and its observation, NaN included, reaches neither values nor
        gradients.

        Args:
            observation: ``[*B, T, N, F + E]``, see :meth:`see`.
            state: before the first step, ``[*B, N, S]``.
            begins: the agents that begin anew at a step, which start from zeros there, bool ``[*B, T, N, 1]``.
            alive: the agents that act in a step, bool ``[*B, T, N, 1]``; None for all.

        Returns:
            ``[*B, T, N, S]``.
        """
        self._check(observation, state)
        *batch, steps, n_agents, _ = observation.shape
        forgets = begins
        if alive is not None:  # the dead get a valid state, so that one selection per step is enough
            observation = torch.where(alive, observation, torch.zeros_like(observation))
            gone = torch.cat([torch.zeros_like(alive[..., :1, :, :]), ~alive[..., :-1, :, :]], -3)
            forgets = begins | ~alive | gone
        seen = self._rows(observation.reshape(-1, steps, n_agents, observation.shape[-1]))
        inputs = self.from_input(seen.flatten(-3, -2)).unflatten(-2, seen.shape[-3:-1])
        before = self._rows(state.reshape(-1, 1, n_agents, state.shape[-1]))
        clear = self._rows(forgets.reshape(-1, steps, n_agents, 1))
        # Time first, before the stack of the weights.
        inputs, clear = (rows if self.share_params else rows.transpose(0, 1) for rows in (inputs, clear))
        after = unroll(self.kind, inputs, self.from_state.weight, self.from_state.bias, before.squeeze(-3), clear)
        after = self._batch(after if self.share_params else after.transpose(0, 1), n_agents)
        after = after.reshape(*batch, steps, n_agents, self.state_dim)
        return after if alive is None else torch.where(alive, after, torch.zeros_like(after))

    def _rows(self, entries: Tensor) -> Tensor:
        """``[B, T, N, X]`` as the layers take it: ``[T, B N, X]``, with weights per agent ``[N, T, B, X]``."""
        return entries.transpose(0, 1).flatten(1, 2) if self.share_params else entries.permute(2, 1, 0, 3)

    def _batch(self, rows: Tensor, n_agents: int) -> Tensor:
        """The inverse of :meth:`_rows`."""
        return rows.unflatten(1, (-1, n_agents)).transpose(0, 1) if self.share_params else rows.permute(2, 1, 0, 3)

    def _check(self, observation: Tensor, state: Tensor) -> None:
        self.check_agents(observation)
        n_agents = observation.shape[-2]
        if observation.shape[-1] != self.features or state.shape[-2:] != (n_agents, self.state_dim):
            raise ValueError(
                f"a memory must be given observations [..., {n_agents}, {self.features}] and states "
                f"[..., {n_agents}, {self.state_dim}]; got {list(observation.shape)} and {list(state.shape)}."
                + (" With images, observations are what see() makes of both." if self.image_names else "")
            )


def _beside(alive: Tensor, image: Tensor) -> Tensor:
    """The agents that live, ``[*B, N, 1]``, beside one of their images, ``[*B, N, *shape]``."""
    return alive.reshape(*alive.shape[:-1], *(1 for _ in image.shape[alive.ndim - 1 :]))
