"""A long run takes no more memory than a short one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import gc, sys, psutil, torch
from dataclasses import replace
from pathlib import Path
from masac.training.config import CheckpointConfig
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny

torch.set_num_threads(1)
config = tiny(
    training={"total_frames": 700 * 32, "buffer_size": 1000, "checkpoint_every": "3200"},
    checkpoint=CheckpointConfig(keep=2),
    loggers=("tensorboard",),
)
config = replace(config, evaluation=replace(config.evaluation, every_frames=3200))
with Trainer(config, Path(sys.argv[1]), console=QUIET) as trainer:
    observe = trainer._observe

    def measure(collected):
        observe(collected)
        if trainer.frames in (200 * 32, 700 * 32):
            gc.collect()
            print(psutil.Process().memory_info().rss, flush=True)

    trainer._observe = measure
    trainer.run()
"""


@pytest.mark.slow
def test_memory_after_700_iterations_is_that_after_200(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    early, late = (int(line) for line in done.stdout.splitlines() if line.isdigit())
    assert late < 1.01 * early, f"{early / 2**20:.1f} MiB after 200 iterations, {late / 2**20:.1f} MiB after 700"
