import logging
import os
import random
from collections.abc import Iterator
from types import SimpleNamespace

# Before PyTorch is imported, and for the processes that tests start: tests run side by side, a core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.processes import FORKED, kill_commands

settings.register_profile("masac", deadline=None, max_examples=100)
settings.load_profile("masac")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # TorchRL's prioritized sampler draws with NumPy


@pytest.fixture(autouse=True)
def commands_end_with_their_test() -> Iterator[None]:
    yield
    kill_commands()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Hydra sets up handlers that write to the output of the test at hand, which is closed when the next one logs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that this process starts are forked where PyTorch is imported already; those of users import it."""
    forked = SimpleNamespace(get_context=lambda method: FORKED)
    for module in ("masac.envs.worker_processes", "masac.training.collectors.processes"):
        monkeypatch.setattr(f"{module}.multiprocessing", forked)


@pytest.fixture
def float64() -> Iterator[None]:
    """Networks and data in float64, where equalities can be asked for to 1e-9."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--losses",
        default="eager",
        choices=("eager", "graph", "compile"),
        help="how the tests of the losses run them: as written, or by traced or compiled graphs",
    )
