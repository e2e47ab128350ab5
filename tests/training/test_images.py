"""A run whose agents see images: it learns, keeps bytes, resumes, and its policy is read, evaluated and exported."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from masac import load_env, load_policy
from masac.algorithm import AlgorithmConfig
from masac.envs.space_meanings import read_spaces
from masac.exporting.export import export_policy
from masac.networks.config import ModelConfig
from masac.training.policies.saved_policy import find_policy, read_policy
from masac.training.trainer import Trainer
from tests.training.common import QUIET, rows, run, tiny


def config_of(seen, frames, **algorithm):
    task = {"suite": "pettingzoo", "scenario": None, "factory": "tests.envs.images:lights"}
    config = tiny(
        task={**task, "kwargs": {"seen": seen, "dies": True}, "horizon": None, "success": None},
        training={"total_frames": frames, "updates_per_frame": 1 / 4, "actor_lr": 3e-3, "critic_lr": 3e-3},
        algorithm=AlgorithmConfig(gamma=0.0, **algorithm),
    )
    return replace(config, model=ModelConfig(hidden=(32,), cnn=(8, 16)))


@pytest.mark.slow
def test_a_run_with_images_learns_resumes_and_exports(tmp_path):
    run(config_of("image", 640, critic="independent"), tmp_path)
    Trainer(config_of("image", 1280, critic="independent"), tmp_path, console=QUIET, resumes=True).run()
    table = rows(tmp_path)
    assert float(table[-1]["eval/return_mean"]) > 3.3  # 3.5 on average: the first agent dies in the second of 5 steps
    env, policy = load_env(tmp_path, num_envs=2), load_policy(tmp_path)
    data = env.rollout(3, policy, break_when_any_done=False)
    assert data["lamp", "image"].dtype == torch.uint8
    saved = read_policy(find_policy(tmp_path))
    spaces = read_spaces(saved.config.task)
    (file,) = export_policy(saved, spaces, tmp_path / "policy.pt2")
    images, actions = data["lamp", "image"].flatten(0, 1), data["lamp", "action"].flatten(0, 1)
    assert torch.equal(torch.export.load(file).module()(images), actions)
    onnxruntime = pytest.importorskip("onnxruntime")
    (file,) = export_policy(saved, spaces, tmp_path / "policy.onnx")
    (got,) = onnxruntime.InferenceSession(file).run(["action"], {"image": images.numpy()})
    np.testing.assert_array_equal(got, actions.numpy())


@pytest.mark.slow
@pytest.mark.parametrize(("seen", "kind", "frames"), [("image", "gru", 1280), ("dict", "lstm", 2560)])
def test_a_memory_of_images_trains_resumes_and_exports(tmp_path, seen, kind, frames):
    config = config_of(seen, frames // 2, critic="independent")
    training = replace(config.training, sequence_length=4, burn_in=1, batch_size=8)
    model = replace(config.model, memory=kind, memory_size=4)
    run(replace(config, model=model, training=training), tmp_path)
    longer = replace(training, total_frames=frames)
    Trainer(replace(config, model=model, training=longer), tmp_path, console=QUIET, resumes=True).run()
    assert float(rows(tmp_path)[-1]["eval/return_mean"]) > 3.3
    env, policy = load_env(tmp_path, num_envs=2), load_policy(tmp_path)
    rollout = env.rollout(3, policy, break_when_any_done=False)
    data, ends = rollout["lamp"], rollout["next", "lamp", "done"]
    saved = read_policy(find_policy(tmp_path))
    spaces = read_spaces(saved.config.task)
    (file,) = export_policy(saved, spaces, tmp_path / "policy.pt2")
    program = torch.export.load(file).module()
    about = json.loads((tmp_path / "policy.pt2.json").read_text())
    (file,) = export_policy(saved, spaces, tmp_path / "policy.onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(file)
    names = ["image"] if seen == "image" else ["image_eye_depth", "image_eye_left"]
    vector = ["observation"] if seen == "dict" else []
    assert [one.name for one in session.get_inputs()] == list(about["inputs"]) == [*vector, "memory", *names]
    memory = torch.zeros(2, 2, policy.memories["lamp"].state_dim)
    for step in range(3):
        given = {name: data[name][:, step] for name in (*vector, *names)}
        inputs = {name: memory if name == "memory" else given[name] for name in (*vector, "memory", *names)}
        action, after = program(*inputs.values())
        assert torch.equal(action, data["action"][:, step])
        arrays = {name: one.numpy() for name, one in inputs.items()}
        got, got_after = session.run(["action", "memory_after"], arrays)
        np.testing.assert_array_equal(got, action.numpy())
        np.testing.assert_allclose(got_after, after.numpy(), atol=1e-5)
        memory = torch.where(ends[:, step], 0.0, after)  # of agents that end begins anew


@pytest.mark.slow
def test_images_beside_a_vector_train_with_own_weights(tmp_path):
    algorithm = {"critic": "centralized", "share_actor": False, "share_critic": False}
    assert run(config_of("dict", 128, **algorithm), tmp_path) is not None
    saved = read_policy(find_policy(tmp_path))
    files = export_policy(saved, read_spaces(saved.config.task), tmp_path / "policy.pt2", per_agent=True)
    assert [file.name for file in files] == ["policy.lamp_0.pt2", "policy.lamp_1.pt2"]
    program = torch.export.load(files[0]).module()
    action = program(torch.zeros(5, 3), torch.rand(5, 2, 9, 10), torch.zeros(5, 8, 8, 1, dtype=torch.uint8))
    assert action.shape == (5,)
