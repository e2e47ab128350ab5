import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from filelock import FileLock


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Ray sets variables (``RAY_AUTH_MODE``) that commands started later would inherit."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def one_cluster_at_a_time(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray clusters that start side by side, in tests of two processes, may take each other's ports."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if "ray" not in parameters.values():
        yield
        return
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield
