"""A run in which agents must remember, and which another run starts from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from masac.algorithm import AlgorithmConfig
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny

EXAMPLES = Path(__file__).parents[2] / "examples"


def recall(**training):
    task = {"suite": "pettingzoo", "scenario": None, "factory": "memory:make", "kwargs": {}, "horizon": None}
    config = tiny(
        task={**task, "num_envs": 32, "success": None},
        model={"memory": "gru", "memory_size": 16, "hidden": (32,)},
        training={
            "batch_size": 64,
            "buffer_size": 10_000,
            "sequence_length": 10,
            "warmup_frames": 1000,
            "updates_per_frame": 0.1,
            "actor_lr": 5e-3,
            "critic_lr": 5e-3,
            **training,
        },
        algorithm=AlgorithmConfig(),
    )
    return replace(config, evaluation=replace(config.evaluation, episodes=32, every_frames=0))


@pytest.mark.slow
def test_agents_that_end_at_different_times_remember_what_they_were_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    first = Trainer(recall(total_frames=2560), tmp_path / "first", console=QUIET)
    assert first.run().summary["eval_return_mean"] > 0.9  # at most 1; without a memory 0, whatever is learned
    parts = ["actor", "critic", "optimizer", "buffer"]
    start = {"total_frames": 128, "init_from": str(tmp_path / "first"), "init_parts": parts}
    with Trainer(recall(**start), tmp_path / "second", console=QUIET) as second:
        then, now = first.learner.state(), second.learner.state()
        for name in ("actor_memory_params.from_state.weight", "target_critic_memory_params.from_input.weight"):
            (key,) = [key for key in then if key.endswith(name)]
            assert torch.equal(now[key], then[key]), key
        assert torch.equal(
            second.policy.memories["agent"].from_state.bias, first.policy.memories["agent"].from_state.bias
        )
        assert len(second.replay) == len(first.replay) > 0
