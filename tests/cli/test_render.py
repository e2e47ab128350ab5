"""``masac render``."""

import subprocess
import sys
from pathlib import Path

import pytest

from masac.cli.main import main
from masac.rendering import video
from tests.envs.egl import needs_egl
from tests.rendering.videos import read
from tests.training.policies.common import NAVIGATION, pettingzoo, save_run

ROOT = Path(__file__).parents[2]
COUNTING = pettingzoo(factory="tests.envs.pictured:counting")


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


@needs_egl
def test_a_vmas_episode(tmp_path, capsys):
    run = save_run(tmp_path / "run", NAVIGATION)
    main(["render", str(run), "--width", "101"])
    pictures, fps = read(run / "episode.mp4")
    assert [picture.shape for picture in pictures] == [(102, 102, 3)] * 6
    assert fps == 15
    said = capsys.readouterr().out
    assert said.startswith(f"{run / 'episode.mp4'}: 1 episode, 5 steps, mean return per agent: agents ")
    assert len(said.splitlines()) == 1


def test_options_of_a_pettingzoo_episode(tmp_path, capsys):
    run = save_run(tmp_path / "run", COUNTING)
    file = tmp_path / "new" / "a.gif"
    main(["render", str(run), "-o", str(file), "--episodes", "2", "--steps", "2", "--seed", "3", "--stochastic"])
    pictures, fps = read(file)
    assert [int(picture[0, 0, 0]) // 20 for picture in pictures] == [0, 1, 2, 0, 1, 2]
    assert fps == 4  # the environment's own
    assert capsys.readouterr().out == f"{file}: 2 episodes, 4 steps, mean return per agent: a 2\n"
    main(["render", str(run), "-o", str(file), "--fps", "20", "--checkpoint", str(run / "policy.pt")])
    assert read(file)[1] == 20


def test_without_pyav_the_default_is_a_gif(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    run = save_run(tmp_path / "run", COUNTING)
    main(["render", str(run)])
    assert sorted(file.name for file in run.iterdir()) == ["episode.gif", "policy.pt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RUN_DIR"),
        (["nowhere"], "a run must be a folder that masac train wrote; 'nowhere' is not a folder."),
        (["."], "a run must have a policy.pt"),
        ([".", "-o", "a.avi"], "a video must end in .mp4 or .gif; got 'a.avi'"),
        ([".", "--episodes", "0"], "--episodes must be at least 1; got 0."),
        ([".", "--fps", "0"], "--fps must be above 0 and at most 240; got 0.0."),
        ([".", "--steps", "0"], "--steps must be at least 1; got 0."),
        ([".", "--seed", "-1"], "--seed must be at least 0 and below 2**31; got -1."),
        ([".", "--width", "1"], "--width must be from 2 to 8192; got 1."),
        ([".", "--speed", "2"], "unrecognized arguments: --speed 2"),
    ],
)
def test_a_mistake_gets_a_clear_line_and_exit_code_two(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["render", *arguments])
    assert ended.value.code == 2
    assert f"masac render: error: {message}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["render", "export"])
def test_help_needs_no_torch(command):
    code = (
        f"import sys, masac.cli.main\ntry: masac.cli.main.main(['{command}', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "RUN_DIR" in done.stdout
    assert done.stdout.endswith("False\n")
