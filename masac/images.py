"""Images in observations: which parts of an observation are images, and how their dimensions are ordered."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

MIN_SIDE = 8
"""Height and width of the smallest image; smaller ones are numbers in the observation vector."""


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """An image in the observation of an agent.

    Args:
        name: of its entry in the data of the group.
        shape: ``(H, W, C)``, ``(C, H, W)`` or ``(H, W)``, as the environment has it. Of three dimensions, the smaller
            one of the first and the last are the channels, the last one if they are equal.
        dtype: ``"uint8"`` or ``"float32"``.
        divide_by: the divisor of its numbers; 255 for images up to 255.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    divide_by: float = 1.0

    @property
    def channels_last(self) -> bool:
        """Whether the last dimension has the channels."""
        return len(self.shape) == 3 and self.shape[-1] <= self.shape[0]

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        if len(self.shape) == 2:
            return (1, *self.shape)  # pyright: ignore[reportReturnType]
        return (self.shape[2], *self.shape[:2]) if self.channels_last else self.shape  # pyright: ignore[reportReturnType]


def is_image(shape: Sequence[int], dtype: str) -> bool:
    """Whether a part of an observation is an image.

    An image has unsigned bytes or floats in three dimensions, or unsigned bytes in two, and height and width of at
    least :data:`MIN_SIDE`.

    Args:
        shape: of one agent's part.
        dtype: such as ``"uint8"``.
    """
    is_byte, is_float = dtype == "uint8", dtype.startswith("float")
    if not (len(shape) == 3 and (is_byte or is_float)) and not (len(shape) == 2 and is_byte):
        return False
    return min(ImageSpec(name="", shape=tuple(shape)).size[1:]) >= MIN_SIDE


def image_name(path: Sequence[object], taken: Collection[str]) -> str:
    """The name of the entry of an image.

    Args:
        path: the keys that lead to it in the observation; none for the whole observation.
        taken: the names of the other images.

    Returns:
        ``image``, or ``image_camera_front`` for the image at ``["camera"]["front"]``.
    """
    name = "_".join(["image", *(re.sub(r"\W", "_", str(key)) for key in path)])
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in names if one not in taken)


def is_image_name(name: str) -> bool:
    """Whether an entry of a group is an image, by its name."""
    return name == "image" or name.startswith("image_")
