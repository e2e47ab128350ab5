"""Videos, read back."""

import numpy as np
import pytest

from masac.errors import ConfigError, RunFailedError
from masac.rendering import video
from masac.rendering.video import scaled, write_video
from tests.rendering.videos import read

LEVELS = [0, 60, 120, 180, 240]


def gray(height=20, width=32, levels=LEVELS):
    for level in levels:
        yield np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "deep/er/A.GIF"])
def test_pictures_come_back_in_order(tmp_path, name):
    write_video(tmp_path / name, gray(), fps=10)
    pictures, fps = read((tmp_path / name).rename(tmp_path / name.lower().replace("/", "_")))
    assert [picture.shape for picture in pictures] == [(20, 32, 3)] * 5
    for picture, level in zip(pictures, LEVELS, strict=True):
        assert abs(picture.astype(int) - level).max() <= 4
    assert fps == pytest.approx(10)


def test_odd_sides_are_padded_for_mp4_only(tmp_path):
    for name, shape in (("a.mp4", (22, 34, 3)), ("a.gif", (21, 33, 3))):
        write_video(tmp_path / name, gray(21, 33), fps=12.5)
        pictures, fps = read(tmp_path / name)
        assert pictures[0].shape == shape
        assert fps == pytest.approx(12.5)
        assert abs(pictures[1].astype(int) - 60).max() <= 4  # the padding has the colour of the edge


def test_a_gif_is_at_most_as_fast_as_browsers_play_it(tmp_path):
    write_video(tmp_path / "a.gif", gray(), fps=200)
    assert read(tmp_path / "a.gif")[1] == 50


def test_pictures_are_scaled_in_proportion():
    assert [picture.shape for picture in scaled(gray(20, 32), 16)] == [(10, 16, 3)] * 5


def broken():
    yield from gray(levels=[0, 60])
    raise ZeroDivisionError


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_video_is_whole_or_not_there(tmp_path, name):
    write_video(tmp_path / name, gray(), fps=10)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / name, broken(), fps=10)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_pictures_must_have_one_size(tmp_path, name):
    several = [*gray(), *gray(10, 10)]
    with pytest.raises(RunFailedError, match=r"the same size; got \[10, 10, 3\] after \[20, 32, 3\]"):
        write_video(tmp_path / name, several, fps=10)


def test_mistakes_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"must end in \.mp4 or \.gif; got 'a\.avi'"):
        write_video(tmp_path / "a.avi", gray(), fps=10)
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(ConfigError, match=r"a writable file; .*is a directory"):
        write_video(tmp_path / "folder.gif", gray(), fps=10)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"a writable file; .*exists"):
        write_video(tmp_path / "file" / "a.gif", gray(), fps=10)
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'PyAV must be installed .* pip install "masac\[video\]", or write a \.gif'):
        write_video(tmp_path / "a.mp4", gray(), fps=10)
