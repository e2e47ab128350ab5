"""Convolutions over the images of a group of agents, with weights that may be stacked (over agents, over critics).

Shape legend: ``*B`` batch, ``M`` its rows, ``N`` agents, ``K`` critics, ``E`` features.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masac.images import ImageSpec
from masac.layouts import GroupNetwork
from masac.networks.config import ModelConfig
from masac.networks.layers import ACTIVATIONS, side_by_side

LARGEST_SIDE, SMALLEST_SIDE = 8, 4
"""Height and width that are left at most, and from which on they are kept."""


class StackedConv(nn.Module):
    """A 3x3 convolution with weights ``[*S, out, in, 3, 3]``, where S is ``()`` or ``(N,)``; a leading K is allowed.

    Weights and biases are initialized uniformly in ±1/sqrt(9 in), as in ``torch.nn.Conv2d``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, stack: Sequence[int]) -> None:
        super().__init__()
        self.stride = stride
        bound = (9 * in_channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(*stack, out_channels, in_channels, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(*stack, out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor, *, groups: int, per_agent: bool) -> Tensor:
        """All weights in one convolution: the channels of agents, and of critics within them, are side by side.

        Args:
            x: ``[M, groups * in, H, W]``.
            groups: the number of inputs that have channels of their own in ``x``.
            per_agent: whether S is ``(N,)``.
        """
        weight, bias = self.weight, self.bias
        if per_agent and weight.ndim == 6:  # [K, N, ...]: agents first, as they have inputs of their own
            weight, bias = weight.transpose(0, 1), bias.transpose(0, 1)
        weight = weight.reshape(-1, *weight.shape[-3:])
        return F.conv2d(x, weight, bias.reshape(-1), stride=self.stride, padding=1, groups=groups)


class CNN(nn.Module):
    """Convolutions over one image, each with an activation: at most 8 x 8 positions are left, which are flattened.

    Each halves height and width, rounded up, while one of them is above 4, and keeps them afterwards. The last one is
    repeated, with weights of its own, while one is still above 8.

    Args:
        image: the image.
        model: the channels of the convolutions, and the activation.
        stack: ``()``, or ``(N,)`` for weights per agent.
    """

    def __init__(self, image: ImageSpec, model: ModelConfig, stack: Sequence[int]) -> None:
        super().__init__()
        self.image, self.activation = image, model.activation
        channels, *sides = image.size
        self.layers = nn.ModuleList()
        while len(self.layers) < len(model.cnn) or max(sides) > LARGEST_SIDE:
            out = model.cnn[min(len(self.layers), len(model.cnn) - 1)]
            stride = 2 if max(sides) > SMALLEST_SIDE else 1
            self.layers.append(StackedConv(channels, out, stride=stride, stack=stack))
            channels, sides = out, [ceil(side / stride) for side in sides]
        self.features = channels * prod(sides)

    def forward(self, images: Tensor, *, per_agent: bool) -> Tensor:
        """``[M, *shape]``, or with weights per agent ``[M, N, *shape]``, to features ``[M, E]`` or ``[M, N, E]``.

        With a leading K if the parameters have one.
        """
        first = self.layers[0]
        assert isinstance(first, StackedConv)
        lead = images.shape[: images.ndim - len(self.image.shape)]
        agents = lead[1] if per_agent else 1
        critics = first.weight.shape[0] if first.weight.ndim == (6 if per_agent else 5) else None
        x = images.to(first.weight.dtype) if self.image.divide_by == 1 else images / self.image.divide_by
        x = x.to(first.weight.dtype)
        if len(self.image.shape) == 2:
            x = x.unsqueeze(-3)
        elif self.image.channels_last:
            # A moved channel alone would have strides of both orders, which compiled convolutions refuse.
            x = x.squeeze(-1).unsqueeze(-3) if x.shape[-1] == 1 else x.movedim(-1, -3)
        x, groups, activate = x.reshape(lead[0], -1, *x.shape[-2:]), agents, ACTIVATIONS[self.activation]
        for layer in self.layers:
            x = activate(layer(x, groups=groups, per_agent=per_agent))
            groups = agents * (critics or 1)
        features = x.reshape(lead[0], agents, critics or 1, self.features)
        features = features.movedim(2, 0) if critics is not None else features.squeeze(2)
        return features if per_agent else features.squeeze(-2)


class ImageEncoder(GroupNetwork):
    """The images of every agent to features: one :class:`CNN` per image. With shared weights agents are a batch.

    Args:
        images: the images of an agent, which may be none.
        n_agents: N.
        share_params: one set of weights for all agents, else one per agent.
        model: of the convolutions.

    Attributes:
        features: E, of all images of an agent.
        names: of their entries, in order.
    """

    def __init__(
        self, images: Sequence[ImageSpec], *, n_agents: int | None, share_params: bool, model: ModelConfig
    ) -> None:
        super().__init__(n_agents=n_agents, share_params=share_params, centralized=False)
        stack = () if share_params or n_agents is None else (n_agents,)
        self.names = [image.name for image in images]
        self.cnns = nn.ModuleList(CNN(image, model, stack) for image in images)
        self.features = sum(cnn.features for cnn in self.cnns)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        """Images, each ``[*B, N, *shape]``, to features ``[*B, N, E]``; with a leading K if the parameters have one."""
        self.check_images(images)
        encoded = []
        for cnn, entries in zip(self.cnns, images, strict=True):
            assert isinstance(cnn, CNN)
            lead = entries.shape[: entries.ndim - len(cnn.image.shape)]
            kept = () if self.share_params else lead[-1:]
            rows = cnn(entries.reshape(-1, *kept, *cnn.image.shape), per_agent=not self.share_params)
            trailing = 1 + len(kept)
            encoded.append(rows.reshape(*rows.shape[: rows.ndim - 1 - trailing], *lead, cnn.features))
        return side_by_side(encoded)

    def check_images(self, images: Sequence[Tensor]) -> None:
        """Raise ValueError unless there are as many images as this was built with, each of its shape."""
        if len(images) != len(self.names):
            raise ValueError(
                f"the images must be {self.names}; got {len(images)} of them. Pass all of them, in this order."
            )
        for cnn, entries in zip(self.cnns, images, strict=True):
            assert isinstance(cnn, CNN)
            lead, shape = entries.shape[: -len(cnn.image.shape)], entries.shape[-len(cnn.image.shape) :]
            if shape != cnn.image.shape or not lead or (not self.share_params and lead[-1] != self.n_agents):
                wanted = ["*B", self.n_agents or "N", *cnn.image.shape]
                raise ValueError(
                    f"the entry {cnn.image.name!r} must have shape {wanted}; got {list(entries.shape)}. Build the "
                    "network with the shape of the images."
                )
