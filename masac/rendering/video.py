"""Writes pictures as video files: mp4 (with PyAV), gif (with Pillow)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from masac.errors import ConfigError, RunFailedError
from masac.files.atomic_write import write_atomically
from masac.rendering.drawing import Picture

SUFFIXES = (".mp4", ".gif")

DEFAULT_FPS = 15.0
"""Pictures per second of environments that have no number of their own."""

COLORS_IN_GIF = 64
"""Enough for drawn scenes; fewer make smaller files."""


def check_video_file(path: Path) -> None:
    """Raise :class:`ConfigError` unless a video can be written to ``path``."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"a video must end in {' or '.join(SUFFIXES)}; got {path.name!r}. Change it with -o FILE.")
    if path.suffix.lower() == ".mp4" and not can_write_mp4():
        raise ConfigError(
            f"PyAV must be installed to write {path.name}; it is not. "
            'Install it with pip install "masac[video]", or write a .gif.'
        )


def can_write_mp4() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


def default_suffix() -> str:
    """The best format that can be written here."""
    return ".mp4" if can_write_mp4() else ".gif"


def write_video(path: Path, pictures: Iterable[Picture], *, fps: float) -> None:
    """Write a video in the format of its suffix, while the pictures are made.

    Args:
        path: the file; missing folders are made.
        pictures: at least one, all of the same size.
        fps: pictures per second. A gif counts in hundredths of a second and has at most 50.

    Raises:
        ConfigError: for another suffix, a missing library, or a file that cannot be written.
        RunFailedError: for pictures of different sizes.
    """
    check_video_file(path)
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_gif
    _check_writable(path)
    write_atomically(path, lambda out: write(out, _of_one_size(pictures), fps))


def _check_writable(path: Path) -> None:
    """Raise before the first picture, as later errors may come from the environment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{str(path)!r} is a directory")
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"no permission to write in {str(path.parent)!r}")
    except OSError as error:
        raise ConfigError(
            f"a video must be a writable file; got {error}. Make it writable, or choose another (-o FILE)."
        ) from error


def scaled(pictures: Iterable[Picture], width: int) -> Iterator[Picture]:
    """Pictures scaled to ``width`` pixels, with the same aspect ratio."""
    for picture in pictures:
        height = max(round(picture.shape[0] * width / picture.shape[1]), 1)
        yield np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def as_gif(path: Path, *, width: int) -> bytes:
    """A video file as a gif.

    Args:
        path: of the video.
        width: in pixels, of a gif made from another format.
    """
    if path.suffix.lower() == ".gif":
        return path.read_bytes()
    import av  # it has written the file

    out = BytesIO()
    with av.open(str(path)) as file:
        pictures = (frame.to_ndarray(format="rgb24") for frame in file.decode(video=0))
        _write_gif(out, scaled(pictures, width), float(file.streams.video[0].average_rate or DEFAULT_FPS))
    return out.getvalue()


def _of_one_size(pictures: Iterable[Picture]) -> Iterator[Picture]:
    shape: tuple[int, ...] = ()
    for picture in pictures:
        shape = shape or picture.shape
        if picture.shape != shape:
            raise RunFailedError(
                f"the pictures of a video must have the same size; got {list(picture.shape)} after {list(shape)}. "
                "Correct the render method of the environment."
            )
        yield picture


def _write_gif(out: BinaryIO, pictures: Iterator[Picture], fps: float) -> None:
    images = (Image.fromarray(picture).quantize(COLORS_IN_GIF, dither=Image.Dither.NONE) for picture in pictures)
    hundredths = max(round(100 / fps), 2)  # browsers slow down faster ones
    next(images).save(
        out, format="gif", save_all=True, append_images=images, duration=10 * hundredths, loop=0, optimize=True
    )


def _write_mp4(out: BinaryIO, pictures: Iterator[Picture], fps: float) -> None:
    import av  # imported here as it is optional

    first = next(pictures)
    # By name, as FFmpeg opens the file a second time to put the index first (faststart).
    with av.open(out.name, "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream = cast(Any, file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000)))
        stream.height, stream.width = (side + side % 2 for side in first.shape[:2])  # yuv420p halves both sides
        stream.pix_fmt = "yuv420p"  # supported by every player
        for picture in chain([first], pictures):
            odd = [(0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)]
            frame = av.VideoFrame.from_ndarray(np.pad(picture, odd, mode="edge"), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
