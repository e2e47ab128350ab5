"""``masac export``."""

import json
import logging
import sys

import onnxruntime
import pytest
import torch

from masac.cli.main import main
from tests.training.policies import NAVIGATION, save_run


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["."], "the following arguments are required: -o/--output"),
        (["nowhere", "-o", "a.onnx"], "a run must be a folder that masac train wrote; 'nowhere' is none."),
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
