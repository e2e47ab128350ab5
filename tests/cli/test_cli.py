"""The command line as its user meets it: help, mistakes, small runs."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from masac.cli.experiment import changed, print_summary
from masac.cli.main import main
from masac.cli.overrides import check_overrides
from masac.errors import ConfigError
from masac.training.config import read_config
from tests.processes import Command, masac, wait_until

ROOT = Path(__file__).parents[2]
TINY = [
    *("task.num_envs=8", "task.horizon=10", "training.total_frames=160", "training.warmup_frames=32"),
    *("training.batch_size=16", "model.hidden=[8]", "evaluation.episodes=2", "training.buffer_size=500"),
    "algorithm.skip_done_states=drop",  # updates in Python: tracing takes longer than a run of this size
]


def test_help_is_there_at_once_and_needs_no_torch(tmp_path):
    started = time.perf_counter()
    done = masac("--help", cwd=tmp_path)
    seconds = time.perf_counter() - started
    assert done.returncode == 0
    assert "train" in done.stdout
    code = "import sys, masac.cli.main; masac.cli.main.main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert seconds < 30  # a bound against a hang; that torch stays out is what makes it fast


def test_train_help_explains_every_key(tmp_path):
    done = masac("train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for part in (
        "algorithm.skip_done_states=fill",
        "training.total_frames=",
        "vmas/custom",
        "pettingzoo/simple_tag",
        "-m seed=0,1,2",
    ):
        assert part in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ") and "=" in line.split("  ")[1]]
    assert all(len(line.split()) > 1 for line in lines)


def test_train_help_prints_the_values_of_that_run(capsys):
    main(["train", "--help"])
    default = capsys.readouterr().out
    assert "algorithm.gamma=0.95 " in default  # of the preset, as most below
    assert "task.kwargs={n_agents: 3, " in default
    main(["train", "task=pettingzoo/simple_tag", "seed=3", "--help"])
    other = capsys.readouterr().out
    assert "Keys, and the values of masac train task=pettingzoo/simple_tag seed=3 (" in other
    assert "algorithm.gamma=0.9 " in other
    assert "task.scenario=mpe2.simple_tag_v3 " in other
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help", "sead=3"])
    assert ended.value.code == 2


def test_one_evaluation_episode_has_no_deviation():
    summary = {
        "wall_time_s": 1.0,
        "interrupted": False,
        "frames_per_second": 8.0,
        "frames": 8,
        "updates": 1,
        "updates_skipped": 0,
        "eval_stochastic": False,
        "eval_frames": 8,
        "eval_episodes": 1,
        "groups": {"a": {}},
        "eval_episode_length_mean": 5.0,
        "eval_return_mean": 0.5,
        "eval_return_std": 0.0,
        "checkpoint_bytes": 9,
    }
    for episodes, said in ((1, "one episode without noise"), (2, "std 0.000 over 2 episodes without noise")):
        console = Console(file=io.StringIO(), width=200)
        print_summary({**summary, "eval_episodes": episodes}, "runs/a", console, draws=episodes == 1)
        assert ("next: masac render runs/a" in console.file.getvalue()) == (episodes == 1)
        assert f"return per agent 0.500 ({said}, of 5.0 steps)" in console.file.getvalue()


def test_a_run_from_the_command_line(tmp_path):
    traced = "algorithm.skip_done_states=fill"
    done = masac("train", *TINY, traced, "seed=1", "run_dir=out", "task.kwargs.n_agents=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "writing to" in done.stdout
    assert "return per agent" in done.stdout
    assert "success: all agents are at their goals at once, within 10 steps" in done.stdout
    assert "no, below 97% success in the last evaluation" in done.stdout
    assert "updates are few" in done.stdout
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "learning_curve.png",
        "summary.json",
        "policy.pt",
        "checkpoints",
        "tensorboard",
        ".lock",
    }
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["task"]["kwargs"]["n_agents"] == 2
    assert config["algorithm"]["gamma"] == 0.95  # the preset's
    again = masac("train", *TINY, "run_dir=out", cwd=tmp_path)
    assert again.returncode == 2
    assert "run_dir must not hold a run yet" in again.stderr


@pytest.mark.slow
def test_a_sweep_gives_every_job_a_folder_of_its_own(tmp_path):
    done = masac("train", "-m", *TINY, "seed=0,1", "run_dir=sweep", "algorithm=isac", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seeds = [json.loads(file.read_text())["seed"] for file in sorted((tmp_path / "sweep").glob("*/summary.json"))]
    assert seeds == [0, 1]


@pytest.mark.slow
def test_a_failed_job_is_listed_and_others_continue(tmp_path):
    done = masac("train", "-m", *TINY, "task.kwargs.n_agents=2,0,3", "run_dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert len(list((tmp_path / "sweep").glob("*/summary.json"))) == 2
    assert "1 of the jobs failed:" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("  sweep/1/error.log: ")]
    assert (tmp_path / "sweep" / "1" / "error.log").read_text().splitlines()[-1] in line
    # Once more, with names that Hydra has to be told carefully; what failed then is no matter now.
    again = masac("train", "-m", *TINY, "task.kwargs.n_agents=2", "run_dir='a b${now:%Y}'", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (folder,) = tmp_path.glob("a b2*")
    assert f"next: masac plot '{folder.name}'" in again.stdout


@pytest.mark.slow
def test_a_run_is_resumed_from_the_command_line(tmp_path):
    assert masac("train", *TINY, "run_dir=out", "seed=3", cwd=tmp_path).returncode == 0
    again = masac("train", "--resume", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "the run has all of its 160 frames. To train longer: masac train --resume out training.total_frames=320" in (
        again.stdout
    )
    more = masac("train", "seed=3", "--resume=out", "training.total_frames=320", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "resuming from out/checkpoints/frames-000000000160: 160 frames" in more.stdout
    assert "learning rates: at 5% of their initial values when the run stopped, now at 100%" in more.stdout
    frames = [line.split(",")[0] for line in (tmp_path / "out" / "metrics.csv").read_text().splitlines()[1:]]
    assert frames == [str(frame) for frame in range(32, 321, 32)]
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["training"]["total_frames"] == 320


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume must be followed by the folder of a run"),
        (["--resume", "seed=1"], "--resume must be followed by the folder of a run"),
        (["--resume", "nowhere"], "a run must be a folder with a config.yaml"),
        (["--resume", "out", "-m", "seed=1,2"], "--resume continues one run"),
        (["--resume", "out", "run_dir=other"], "must not be combined with run_dir=other"),
        (
            ["--resume", "out", "seed=4"],
            "seed must not change when a run is resumed; got 4, the run in out has 3",
        ),
        (["--resume", "out", "task=vmas/balance"], "task.scenario must not change"),
        (["--resume", "out", "task=vmas/navigation"], "must not change"),  # of the preset: 64 environments, say
        (["--resume", "out", "algorithm=masac"], "algorithm.name must not change"),
        (["--resume", "out", "task.kwargs.n_agents=2"], "task.kwargs.n_agents must not change"),
        (["--resume", "out", "traning.total_frames=1"], "traning.total_frames is not a config key"),
    ],
)
def test_a_run_is_not_resumed_as_another_one(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    config = {"seed": 3, "task": {"num_envs": 8, "kwargs": {"n_agents": 4}}, "training": {"total_frames": 160}}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text(yaml.safe_dump(config))
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as exit_code:
        main(["train", *arguments])
    assert exit_code.value.code == 2
    assert message in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["config.yaml"]


@pytest.mark.slow
def test_a_run_that_is_trained_is_not_resumed_beside(tmp_path):
    training = Command(
        "train", *TINY, "training.total_frames=1000000", "training.compile=false", "run_dir=out", cwd=tmp_path
    )
    try:
        metrics = tmp_path / "out" / "metrics.csv"
        wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 1, training)  # it trains
        done = masac("train", "--resume", "out", cwd=tmp_path)
        assert done.returncode == 2
        assert "a run must be trained by one process at a time" in done.stderr
        training.terminate()  # SIGTERM: the iteration is finished, a checkpoint written
        output = training.communicate(timeout=60)[0]
        assert training.returncode == 128 + signal.SIGTERM
        assert re.search(r"^interrupted .* frames", output, flags=re.MULTILINE)
        assert re.search(r"^next: masac train --resume out$", output, flags=re.MULTILINE)
        resumed = masac("train", "--resume", "out", "training.total_frames=32", cwd=tmp_path)
        assert "resuming from out/checkpoints/frames-" in resumed.stdout
    finally:
        training.kill()
        training.wait()


@pytest.mark.slow
def test_a_scenario_without_a_preset_and_one_of_ones_own(tmp_path):
    done = masac("train", *TINY, "task=vmas/wind_flocking", "run_dir=a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "envs" / "own_scenario.py").read_text())
    done = masac("train", *TINY, "task=vmas/custom", "task.scenario=mine:Scenario", "run_dir=b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'. Did you mean train?"),
        (["train", "task=vmas/navigatoin"], "Did you mean vmas/navigation"),
        (["train", "training.total_frame=10"], "Did you mean training.total_frames"),
        (["train", "lr=1"], "lr is not a config key. Here it is called training.actor_lr and training.critic_lr."),
        (["train", "model.hidden=64"], "model.hidden must be a list; got 64. Write 'model.hidden=[64]'"),
        (["train", "model.hidden=64,32"], "Write 'model.hidden=[64,32]' or, to sweep, 'model.hidden=[64],[32]'"),
        (["train", "training.learning_groups=runner"], "Write 'training.learning_groups=[runner]'"),
        (["train", "task.kwargs.name=größe"], """for the shell: 'task.kwargs.name="größe"'"""),
        (["train", "run_dir=/dev/null/x"], "output files must be writable; got [Errno 20]"),
        (["train", "--resume", "/dev/null/x"], "a run must be a folder with a config.yaml"),
        (["train", "training.batch_size=many"], "training.batch_size must be"),
        (["train", "training.batch_size=0"], "training.batch_size must be at least 1; got 0"),
        (["train", "navigation"], "must be key=value; got 'navigation'"),
        (["train", "seed=range(2"], "must be key=value"),
        (["train", "task.kwargs.n_agnets=3"], "task.kwargs must be keywords of the scenario"),
        (["train", "task=vmas/custom"], "task.scenario must"),
        (["train", "algorithm=sac"], "algorithm"),
        (["train", "task=pettingzoo/simple_psuh"], "Did you mean simple_push"),
        (["train", "task=pettingzoo/pettingzoo.mpe.simple_tag_v3"], "moved to the package mpe2: mpe2.simple_tag_v3"),
        (["train", "task=pettingzoo/pong"], 'Not installed: multi_agent_ale_py. pip install "pettingzoo[atari]"'),
        (["train", "task=pettingzoo/custom"], "one of task.scenario and task.factory must be set"),
        (
            ["train", "task=pettingzoo/simple_tag", "task.kwargs.n=3"],
            "task.kwargs must fit task.scenario=mpe2.simple_tag",
        ),
    ],
)
def test_a_mistake_gets_one_clear_line_and_exit_code_two(tmp_path, monkeypatch, capsys, arguments, message):
    # In this process, where nothing need be imported again.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    GlobalHydra.instance().clear()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) <= 2


def test_a_mistake_in_a_process_of_its_own_leaves_no_trace(tmp_path):
    done = masac("train", "training.batch_size=0", cwd=tmp_path)
    assert done.returncode == 2
    assert "training.batch_size must be at least 1; got 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_overrides_are_checked_against_the_keys_there_are():
    defaults = {"seed": 0, "task": {"kwargs": {"a": 1}, "horizon": 3}}
    good = [
        "seed=1",
        "task=vmas/balance",
        "task.horizon=4",
        "+new.key=1",
        "hydra.run.dir=x",
        "task={horizon: 2}",
        "~seed",
    ]
    assert check_overrides(good[:3] + good[4:], defaults) == good[:3] + good[4:]
    assert check_overrides(["task.kwargs.b=2"], defaults) == ["++task.kwargs.b=2"]
    with pytest.raises(ConfigError, match=r"task.horizn is not a config key. Did you mean task.horizon"):
        check_overrides(["task.horizn=4"], defaults)
    with pytest.raises(ConfigError, match=r"new\.key is not a config key"):
        check_overrides(["+new.key=1"], defaults)


def test_a_run_resumes_with_another_collector():
    collector = {"kind": "ray", "num_workers": 3, "address": "auto"}
    run = read_config({"task": {"num_envs": 63}, "collector": collector, "run_dir": "out"})
    after = changed(run, ["collector.num_workers=21"])
    assert after == replace(run, collector=replace(run.collector, num_workers=21))
    with pytest.raises(ConfigError, match=r"collector.num_workers must divide task.num_envs=63; got 16"):
        changed(run, ["collector.num_workers=16"])


def test_names_from_other_libraries_suggest_existing_keys():
    from dataclasses import asdict

    from masac.cli.overrides import GROUPS, MEANINGS, OPEN
    from masac.dotted_keys import flatten
    from masac.training.config import ExperimentConfig

    known = {*flatten(asdict(ExperimentConfig()), whole=OPEN), *GROUPS, "task.kwargs.n_agents"}
    assert {key for keys in MEANINGS for key in keys.split()} <= known
    words = [word for names in MEANINGS.values() for word in names.split()]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("folder", ["runs/läufe/x", "runs/a(b)", "a=b", "x#1", """it's "that" """])
def test_a_folder_may_have_any_name(folder):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = check_overrides([f"run_dir={folder}"], {"run_dir": None})
    assert OverridesParser.create().parse_override(word).value() == folder
