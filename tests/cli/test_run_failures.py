"""Runs that fail, as their user meets them. In this process, where nothing need be imported again."""

import sys
import textwrap

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra

from masac.cli.main import main
from masac.training.checkpointing.checkpoints import newest_of

MODULE = """
    from tests.envs.scripted import parallel_env

    def failing(at=0, fixed=False, error=True):
        env, steps = parallel_env(), 0
        step = env.step

        def fail(actions):
            nonlocal steps
            steps += 1
            if steps > at and not error:
                return None
            if steps > at and not fixed:
                raise LookupError("the sheep\\nare gone")
            return step(actions)

        env.step = fail
        return env

    def unmade():
        return {}["world"]
"""
SMALL = [
    *("task=pettingzoo/custom", "task.num_envs=2", "training.total_frames=64", "training.warmup_frames=16"),
    *("training.batch_size=8", "model.hidden=[8]", "evaluation.episodes=2", "training.buffer_size=100"),
    *("logging.loggers=[]", "training.compile=false", "logging.progress=off"),
]


@pytest.fixture
def masac(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with a module ``flock``; returns its exit code, and what it printed where."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flock.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    flush, threads = torch.tensor(1e-40) * 1 == 0, torch.get_num_threads()

    def run(*arguments):
        code = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        GlobalHydra.instance().clear()
        done = capsys.readouterr()
        return code, done.out, done.err

    yield run
    torch.set_flush_denormal(bool(flush))
    torch.set_num_threads(threads)
    sys.modules.pop("flock", None)


def test_an_environments_error_is_one_line_and_the_run_resumes(tmp_path, masac):
    code, _, err = masac("train", *SMALL, "task.factory=flock:failing", "task.kwargs.at=18", "run_dir=out")
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith("masac train: error: environments must not fail; got LookupError: the sheep (flock.py:14, ")
    newest = newest_of(tmp_path / "out")
    assert f"Saved: out/checkpoints/{newest.folder.name} ({newest.frames} frames)" in line
    assert line.endswith("Resume with masac train --resume out. Traceback: out/error.log")
    log = (tmp_path / "out" / "error.log").read_text()
    assert log.startswith("Traceback")
    assert "are gone" in log
    code, _, err = masac("train", "--resume", "out", f"training.total_frames={newest.frames}")
    assert (code, err) == (0, "")  # an evaluation of two steps, which come before the fault
    assert not (tmp_path / "out" / "error.log").exists()


def test_late_nonsense_of_an_environment_is_no_usage_error(masac):
    failing = ("train", *SMALL, "task.factory=flock:failing", "task.kwargs.error=false", "run_dir=out")
    code, _, err = masac(*failing, "task.kwargs.at=18")
    assert code == 1
    (line,) = err.splitlines()
    assert "step() of the environment must return five dicts" in line
    assert "Saved: out/checkpoints/" in line
    assert line.endswith("Resume with masac train --resume out.")


@pytest.mark.slow
def test_a_folder_of_a_run_that_failed_at_once_can_be_reused(tmp_path, masac):
    failing = ("train", *SMALL, "task.factory=flock:failing", "task.kwargs.at=0", "run_dir=out")
    for _ in range(2):
        code, _, err = masac(*failing)
        assert code == 1
        assert "There is no checkpoint yet. Start again" in err
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    config["task"]["kwargs"]["fixed"] = True
    (tmp_path / "out" / "config.yaml").write_text(yaml.safe_dump(config))
    code, out, err = masac("train", "--resume", "out")
    assert (code, err) == (0, "")
    assert "there is no checkpoint yet: starting from the beginning" in out
    code, _, err = masac(*failing)
    assert code == 2
    assert "run_dir must not hold a run yet" in err


def test_a_factory_that_raises_is_named_with_its_line(tmp_path, masac):
    for arguments in (("train", *SMALL, "task.factory=flock:unmade", "run_dir=out"), ("tasks", "flock:unmade")):
        code, _, err = masac(*arguments)
        assert code == 2
        (line,) = err.splitlines()
        assert "task.factory=flock:unmade must make an environment; got KeyError: 'world' (flock.py:21, " in line


@pytest.mark.slow
def test_a_config_of_another_version_is_refused(tmp_path, masac):
    code, _, err = masac("train", *SMALL, "task.factory=flock:failing", "task.kwargs.fixed=true", "run_dir=out")
    assert (code, err) == (0, "")
    path = tmp_path / "out" / "config.yaml"
    path.write_text(path.read_text().replace("training:\n", "training:\n  magic: 3\n"))
    code, _, err = masac("train", "--resume", "out")
    assert code == 2
    assert "'out/config.yaml' must be a config of this version of masac: " in err
    assert "magic" in err
