"""A run with hybrid actions: it learns both parts, resumes, and its policy is read, evaluated and exported."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from masac import load_env, load_policy
from masac.algorithm import AlgorithmConfig
from masac.envs.space_meanings import read_spaces
from masac.errors import ConfigError
from masac.exporting.export import export_policy
from masac.networks.config import ModelConfig
from masac.training.policies.saved_policy import find_policy, read_policy
from masac.training.trainer import Trainer
from tests.training.common import QUIET, rows, run, tiny


def config_of(frames, *, switches=0, **algorithm):
    task = {"suite": "pettingzoo", "scenario": None, "factory": "tests.envs.hybrid:tuner"}
    config = tiny(
        task={**task, "kwargs": {"masks": True, "switches": switches}, "horizon": None, "success": None},
        training={"total_frames": frames, "updates_per_frame": 1, "actor_lr": 5e-3, "critic_lr": 5e-3},
        algorithm=AlgorithmConfig(gamma=0.0, **algorithm),
    )
    return replace(config, model=ModelConfig(hidden=(32,)))


@pytest.mark.slow
def test_a_run_with_hybrid_actions_learns_resumes_and_exports(tmp_path):
    run(config_of(320, critic="centralized"), tmp_path)
    Trainer(config_of(640, critic="centralized"), tmp_path, console=QUIET, resumes=True).run()
    table = rows(tmp_path)
    # Of 5 steps; at random (1/2 right, a distance of 1/3) 1.7, with the right button alone 3.3.
    assert float(table[-1]["eval/return_mean"]) > 4
    assert float(table[-1]["radio/alpha_discrete"]) != float(table[-1]["radio/alpha"])
    env, policy = load_env(tmp_path, num_envs=2), load_policy(tmp_path)
    data = env.rollout(3, policy, break_when_any_done=False)["radio"].flatten(0, 1)
    saved = read_policy(find_policy(tmp_path))
    spaces = read_spaces(saved.config.task)
    inputs = data["observation"], data["action_mask"]
    (file,) = export_policy(saved, spaces, tmp_path / "policy.pt2")
    action, choices = torch.export.load(file).module()(*inputs)
    torch.testing.assert_close(action, data["action"])
    assert torch.equal(choices, data["discrete_action"] + 1)  # buttons are counted from 1
    about = json.loads((tmp_path / "policy.pt2.json").read_text())["outputs"]
    assert (about["action"]["high"], about["discrete_action"]["start"]) == ([[1.0], [1.0]], [1])
    onnxruntime = pytest.importorskip("onnxruntime")
    (file,) = export_policy(saved, spaces, tmp_path / "policy.onnx")
    names = ["observation", "action_mask"]
    given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    got = onnxruntime.InferenceSession(file).run(["action", "discrete_action"], given)
    np.testing.assert_allclose(got[0], action, atol=1e-5)
    np.testing.assert_array_equal(got[1], choices)


def test_a_team_critic_and_too_many_choices_are_errors(tmp_path):
    team = {"critic": "team", "terminated_reduction": "any", "reward_reduction": "mean"}
    with pytest.raises(ConfigError, match="must be centralized, pooled or independent for discrete and hybrid actions"):
        run(config_of(64, **team), tmp_path / "team")
    with pytest.raises(ConfigError, match=r"at most 1,024 combinations .*; got 1,536 \(3 x 2 x 2"):
        run(config_of(64, switches=9), tmp_path / "many")


@pytest.mark.slow
def test_a_fixed_temperature_of_either_part_is_not_that_of_the_run_before(tmp_path):
    run(config_of(8), tmp_path / "a")
    config = config_of(8, fixed_alpha=True, alpha_init=0.5)
    config = replace(config, training=replace(config.training, init_from=str(tmp_path / "a")))
    with Trainer(config, tmp_path / "b", console=QUIET) as trainer:
        (loss,) = trainer.learner.loss.group_losses
        assert "critic" in trainer.start_lines[0]
        assert (float(loss.alpha), float(loss.alpha_discrete)) == pytest.approx((0.5, 0.5))
