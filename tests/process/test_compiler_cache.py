"""The cache of PyTorch's compiler after a compilation that was killed."""

import os
import struct
import time

import pytest

from masac.process import compiler_cache
from masac.process.compiler_cache import is_damaged, remove_damaged_libraries


@pytest.fixture
def cache(tmp_path):
    """A cache with a whole library, an empty one, two cut short and one of zeros, written a minute ago."""
    # 64 bytes of header, which says: two sections of 64 bytes at byte 1000
    header = bytearray(b"\x7fELF\x02\x01".ljust(64, b"\0"))
    struct.pack_into("<Q", header, 40, 1000)
    struct.pack_into("<HH", header, 58, 64, 2)
    library = bytes(header).ljust(1128, b"\0")
    (tmp_path / "ab").mkdir()
    for name, size in {"whole": len(library), "empty": 0, "header": 64, "cut": 1127}.items():
        file = tmp_path / "ab" / f"{name}.main.so"
        file.write_bytes(library[:size])
    (tmp_path / "ab" / "zeros.main.so").write_bytes(bytes(len(library)))
    for file in tmp_path.rglob("*.so"):
        os.utime(file, (time.time() - 60,) * 2)
    return tmp_path


def test_libraries_cut_short_are_removed_and_whole_ones_stay(cache):
    remove_damaged_libraries(cache)
    assert [file.name for file in cache.rglob("*.so")] == ["whole.main.so"]


def test_a_library_that_is_being_written_is_waited_for(cache, monkeypatch):
    file = cache / "ab" / "empty.main.so"
    file.touch()
    whole = (cache / "ab" / "whole.main.so").read_bytes()
    monkeypatch.setattr(compiler_cache.time, "sleep", lambda seconds: file.write_bytes(whole))
    remove_damaged_libraries(cache)
    assert not is_damaged(file)


def test_a_library_from_the_future_is_not_waited_for(cache, monkeypatch):
    monkeypatch.setattr(compiler_cache.time, "sleep", lambda seconds: pytest.fail("waited"))
    os.utime(cache / "ab" / "empty.main.so", (time.time() + 3600,) * 2)
    remove_damaged_libraries(cache)
    assert [file.name for file in cache.rglob("*.so")] == ["whole.main.so"]


def test_loggers_close_together_within_one_timeout(cache, monkeypatch):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds
        for index in range(5):  # somebody goes on writing them
            (cache / f"new{index}.so").touch()

    monkeypatch.setattr(compiler_cache.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(compiler_cache.time, "sleep", sleep)
    sleep(0)
    remove_damaged_libraries(cache)
    assert now[0] <= compiler_cache.WRITTEN_S + 1
    assert len(list(cache.rglob("*.so"))) == 6


def test_a_file_of_another_system_is_left_alone(tmp_path):
    file = tmp_path / "mach.so"
    file.write_bytes(b"\xcf\xfa\xed\xfe" + bytes(100))
    assert not is_damaged(file)
