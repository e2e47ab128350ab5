"""The distribution of a multi-discrete action: independent factors, not their product space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from masac import functional


class MultiCategorical(Distribution):
    """Independent categorical factors: log-probabilities and entropies add.

    Args:
        logits: unnormalized, ``[*L, D]``, the factors side by side.
        sizes: choices of each of the K factors, adding up to ``D``.
        mask: bool ``[*L, D]``, which choices are legal; all without one.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, logits: Tensor, *, sizes: Sequence[int], mask: Tensor | None = None) -> None:
        self.sizes = tuple(sizes)
        self.log_probs, self.probs, legal = functional.discrete_policy(logits, mask, self.sizes)
        self.logits = torch.where(legal, self.log_probs, torch.full_like(self.log_probs, -torch.inf))
        super().__init__(logits.shape[:-1], torch.Size([len(self.sizes)]), validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Indices ``[*sample_shape, *L, K]``."""
        probs = self.probs.expand(*sample_shape, *self.probs.shape)
        vectors = functional.draw_one_hot(probs, self.sizes)
        return torch.stack([part.argmax(-1) for part in vectors.split(self.sizes, -1)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """``[*L, K]`` indices to ``[*L]``."""
        chosen = [part.gather(-1, value[..., k, None]) for k, part in enumerate(self.logits.split(self.sizes, -1))]
        return torch.cat(chosen, -1).sum(-1)

    def entropy(self) -> Tensor:
        """``[*L]``, in nats."""
        return -functional.expectation(self.probs, self.log_probs).squeeze(-1)

    @property
    def mode(self) -> Tensor:
        """The likeliest action, ``[*L, K]``."""
        return torch.stack([part.argmax(-1) for part in self.probs.split(self.sizes, -1)], -1)

    @property
    def deterministic_sample(self) -> Tensor:
        """What TorchRL takes without exploration: the mode."""
        return self.mode
