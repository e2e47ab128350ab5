"""How many threads PyTorch computes with, and how they wait."""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch

from masac.errors import ConfigError
from masac.process import threads
from masac.process.threads import choose_threads, wait_passively
from masac.training.config import TrainingConfig
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "threads_there", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
def test_auto_threads_follow_the_size_of_the_networks():
    assert [choose_threads("auto", operations) for operations in (0, 2.5e8, 1.4e9)] == [1, 1, 1]
    assert [choose_threads("auto", operations) for operations in (2.2e9, 7e9, 1e12)] == [2, 7, 8]
    assert choose_threads("auto", 1e12, sharing=4) == 2
    assert choose_threads("auto", 1e12, sharing=16) == 1
    assert choose_threads("12", 0) == 12


@pytest.mark.usefixtures("eight_cores")
def test_omp_num_threads_counts_unless_a_launcher_set_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert choose_threads("auto", 0) == 8
    assert choose_threads("2", 0) == 2
    monkeypatch.setattr(multiprocessing.current_process(), "name", "LokyProcess-1")
    assert choose_threads("auto", 0) == 1


def test_threads_wait_passively_unless_the_user_said_how(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    wait_passively()
    assert os.environ == {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    for given in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "100", "OMP_WAIT_POLICY": "passive"}):
        monkeypatch.setattr(os, "environ", dict(given))
        wait_passively()
        assert os.environ == given


@pytest.mark.slow
def test_thread_waiting_is_set_before_pytorch_is_imported():
    """What GNU's OpenMP says of itself when it is loaded with PyTorch."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-m", "masac", "evaluate", "nowhere"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "'nowhere' is not a folder" in done.stderr
    if "OPENMP DISPLAY ENVIRONMENT BEGIN" not in done.stderr:
        pytest.skip("this PyTorch has another OpenMP")
    assert "GOMP_SPINCOUNT = '0'" in done.stderr


@pytest.mark.slow
def test_a_run_uses_its_threads_and_restores_them(tmp_path):
    before = torch.get_num_threads()
    with Trainer(tiny(training={"threads": "3"}), tmp_path, console=QUIET) as trainer:
        assert torch.get_num_threads() == 3
        trainer.run()
    assert json.loads((tmp_path / "summary.json").read_text())["threads"] == 3
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_other_values_are_an_error(value):
    with pytest.raises(ConfigError, match=r"training\.threads must be auto or a number of threads of at least 1"):
        TrainingConfig(threads=value)
