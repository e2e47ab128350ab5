"""Videos, read back."""

import av
import numpy as np
from PIL import Image, ImageSequence


def read(path):
    """The pictures of a video, and their number a second."""
    if path.suffix == ".gif":
        with Image.open(path) as file:
            pictures = [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(file)]
            return pictures, 1000 / file.info["duration"]
    with av.open(str(path)) as file:
        pictures = [one.to_ndarray(format="rgb24") for one in file.decode(video=0)]
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        return pictures, float(stream.average_rate)
