"""``masac export``."""

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from masac.cli.main import main
from masac.envs.registry import make_env
from masac.training.policies.saved_policy import save_policy
from tests.envs.factories import parts
from tests.training.policies.common import NAVIGATION, pettingzoo, save_run, untrained


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


@pytest.mark.slow
def test_a_run_is_exported_either_way(tmp_path, capsys, caplog):
    run = save_run(tmp_path / "run", NAVIGATION)
    torch.manual_seed(0)
    observation = torch.randn(4, 2, 18)
    for suffix in ("onnx", "pt2"):
        file = tmp_path / f"policy.{suffix}"
        main(["export", str(run), "-o", str(file)])
        captured = capsys.readouterr()
        assert captured.out == f"{file} (its inputs and outputs: {file}.json)\n"
        assert captured.err == ""
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert json.loads((tmp_path / f"policy.{suffix}.json").read_text())["group"] == "agents"
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    actions = torch.from_numpy(session.run(["action"], {"observation": observation.numpy()})[0])
    torch.testing.assert_close(torch.export.load(tmp_path / "policy.pt2").module()(observation), actions)


@pytest.mark.slow
def test_a_policy_that_is_evaluated_with_noise_is_exported_with_a_warning(tmp_path, capsys):
    policy, config = untrained(NAVIGATION)
    noisy = replace(config, evaluation=replace(config.evaluation, stochastic=True))
    save_policy(tmp_path / "policy.pt", policy, noisy, frames=0)
    main(["export", str(tmp_path), "-o", str(tmp_path / "policy.pt2")])
    assert f"has none. See what it reaches with masac evaluate {tmp_path} --no-stochastic" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_file_and_its_json_suffice(tmp_path, capsys):
    run = save_run(tmp_path / "run", pettingzoo(factory="tests.envs.factories:parts"))
    main(["export", str(run), "-o", str(tmp_path / "robot.onnx"), "--per-agent"])
    about = json.loads((tmp_path / "robot.onnx.json").read_text())
    assert about["agents"] == ["car_0", "car_1"]
    said = about["inputs"]["observation"]
    assert said["shape"] == ["batch", 19]
    env = parts()
    observations, _ = env.reset()
    vector = np.zeros((1, 19), np.float32)
    for part in said["parts"]:
        value = observations["car_1"]
        for key in part["path"]:
            value = value[key]
        numbers = np.asarray(value).reshape(-1) / part.get("divide_by", 1)
        if part["encoding"] == "one-hot":
            numbers = np.arange(part["choices"][0]) + part["start"][0] == numbers
        vector[0, part["offset"] : part["offset"] + part["size"]] = numbers
    (group,) = (
        make_env(pettingzoo(factory="tests.envs.factories:parts"), num_envs=1, seed=0).reset().select("car").values()
    )
    np.testing.assert_array_equal(vector[0], group["observation"][0, 1].numpy())
    legal = observations["car_1"]["action_mask"][None].astype(bool)
    (action,) = onnxruntime.InferenceSession(tmp_path / "robot.onnx").run(
        ["action"], {"observation": vector, "action_mask": legal}
    )
    assert (action.tolist(), about["outputs"]["action"]["start"]) == ([12], [5])
    assert env.action_space("car_1").contains(action[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["."], "the following arguments are required: -o/--output"),
        (["nowhere", "-o", "a.onnx"], "a run must be a folder that masac train wrote; 'nowhere' is not a folder."),
        ([".", "-o", "a.pt2"], "a run must have a policy.pt"),
        ([".", "-o", "a.pt"], "an export must end in .onnx or .pt2; got 'a.pt'"),
        ([".", "-o", "a.pt2", "--checkpoint", "x.pt"], "checkpoint must be last, best or a path; there is no file"),
    ],
)
def test_a_mistake_gets_a_clear_line_and_exit_code_two(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", *arguments])
    assert ended.value.code == 2
    assert f"masac export: error: {message}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
