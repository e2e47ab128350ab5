"""``masac plot`` as its user meets it."""

import json

import pytest

from masac.cli.main import main
from tests.plotting.recorded import write_run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def printed(capsys, *arguments):
    main(["plot", *arguments])
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["plot", *arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_help_is_there(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plot", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for part in ("RUN_DIR", "--by", "--x", "--export", "--group", "masac plot runs/sweep"):
        assert part in out
    main(["--help"])
    assert "plot " in capsys.readouterr().out


def test_a_sweep_gets_a_picture_and_a_table(here, capsys):
    for seed in range(5):  # the middle three of 1, 2, 3, 4, 5: 3; the interval of the last column lies within 1 and 5
        write_run(here / "sweep" / str(seed), seed=seed, evaluations={1000: 0.0, 1200: 1.0 + seed})
    lines = printed(capsys, "sweep")
    assert lines[0] == "task algorithm runs final mean return per agent [95% interval] frames"
    assert lines[1].startswith("vmas/navigation isac 5 seeds 3.000 [")
    assert lines[1].endswith("] 1,200")
    assert lines[2:] == ["written: sweep/curve.png"]
    assert (here / "sweep" / "curve.png").is_file()


def test_pictures_and_exports_go_where_they_are_asked_to(here, capsys):
    write_run(here / "a", evaluations={100: 1.0})
    lines = printed(
        capsys, "a", "-o", "new/picture.svg", "--export", "new/marl-eval.json", "--by", "seed", "--x", "time"
    )
    assert lines[1:] == ["vmas/navigation isac 1 seed 1.000 100", "written: new/picture.svg, new/marl-eval.json"]
    assert "<svg" in (here / "new" / "picture.svg").read_text()
    exported = json.loads((here / "new" / "marl-eval.json").read_text())
    assert exported["vmas"]["navigation"]["isac"]["seed_0"]["absolute_metrics"]["return"] == [1.0]


def test_what_a_picture_does_not_show_is_said(here, capsys):
    write_run(here / "sweep" / "0", evaluations={100: 1.0, 200: 1.0})
    write_run(here / "sweep" / "1", seed=1, evaluations={100: 1.0}, finished=False, training={"actor_lr": 1e-3})
    write_run(here / "sweep" / "2", seed=2, evaluations={}, finished=False)
    lines = printed(capsys, "sweep")
    assert lines[1] == "vmas/navigation isac 2 seeds 1.000 100 to 200"
    assert "left out: sweep/2, which have no evaluation yet" in lines
    assert "not finished: 1 of 2 runs, drawn up to now" in lines
    assert any("the runs of isac on vmas/navigation differ in training.actor_lr" in line for line in lines)


def test_a_group_is_taken_from_the_runs_that_have_it(here, capsys):
    write_run(here / "a", groups=("wolf", "prey"), evaluations={100: {"wolf": 1.0, "prey": 3.0}})
    write_run(here / "b", task={"scenario": "balance"}, evaluations={100: 1.0})
    lines = printed(capsys, "a", "b", "--group", "prey")
    assert lines[1] == "vmas/navigation isac 1 seed 3.000 100"
    assert "left out: 1 of 2 runs, which have no group prey" in lines
    assert "--group must name a group of agents; got 'pray'. There are: agents, prey, wolf." in refused(
        capsys, "a", "b", "--group", "pray"
    )


def test_any_key_gets_a_line_and_any_column_can_be_drawn(here, capsys):
    for seed in range(3):
        for rate in (1e-3, 1e-4):
            at = here / "sweep" / f"{rate}-{seed}"
            write_run(at, seed=seed, evaluations={100: 1.0, 200: 2.0 + rate}, training={"actor_lr": rate})
    lines = printed(capsys, "sweep", "--by", "training.actor_lr")
    assert lines[0] == "task training.actor_lr runs final mean return per agent [95% interval] frames"
    assert lines[1:3] == [
        "vmas/navigation 0.0001 3 seeds 2.000 [2.000, 2.000] 200",
        "vmas/navigation 0.001 3 seeds 2.001 [2.001, 2.001] 200",
    ]
    assert lines[3:] == ["written: sweep/curve.png"]
    mixed = printed(capsys, "sweep")
    assert any("with --by algorithm,training.actor_lr, or --by seed" in line for line in mixed)
    both = printed(capsys, "sweep", "--by", "algorithm,training.actor_lr")
    assert "isac, training.actor_lr=0.0001 3 seeds" in both[1]
    other = printed(capsys, "sweep", "--metric", "train/return_mean", "--by", "seed")
    assert other[0] == "task algorithm runs final train/return_mean [95% interval] frames"
    assert other[1] == "vmas/navigation isac 6 runs -1.000 [-1.000, -1.000] 200"


def test_metrics_of_several_groups_need_one_run_or_a_choice(here, capsys):
    for name in "ab":
        write_run(here / name, groups=("wolf", "prey"), evaluations={100: {"wolf": 1.0, "prey": 3.0}})
    table = here / "a" / "metrics.csv"
    text = table.read_text().replace("wolf/train/return_mean", "wolf/alpha").replace("prey/train/", "prey/")
    for name in "ab":
        (here / name / "metrics.csv").write_text(text.replace("prey/return_mean", "prey/alpha"))
    assert printed(capsys, "a", "--metric", "alpha")[1] == "vmas/navigation isac 1 seed -1.000, -1.000 100"
    assert "--metric alpha must be of one group; there are prey, wolf. Choose one with --group." in refused(
        capsys, "a", "b", "--metric", "alpha"
    )
    for words in (["alpha", "--group", "prey"], ["prey/alpha"]):
        assert printed(capsys, "a", "b", "--metric", *words)[1] == "vmas/navigation isac 2 runs -1.000 100"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "RUN_DIR must be a folder; got 'nowhere', which is not one."),
        (["empty"], "RUN_DIR must hold a run (config.yaml and metrics.csv) or folders of runs; got 'empty'"),
        (["new"], "RUN_DIR must hold a run with an evaluation; got new, whose 1 have none yet."),
        (["run", "-o", "curve.jpg"], "a picture's name must end with .png, .pdf, .svg; got 'curve.jpg'"),
        (["run", "-o", "run/config.yaml/a.png"], "a picture must be a writable file"),
        (["run", "--export", "run"], "--export must be a writable file; got 'run'"),
        (["run", "--by", "task"], "--by must name keys of the config; got 'task'. It has task.factory, task.scenario"),
        (["run", "--by", "training.total_frame"], "got 'training.total_frame'. Did you mean training.total_frames?"),
        (
            ["run", "--metric", "zzz"],
            "--metric must name a column of metrics.csv; got 'zzz'. There are: agents/eval",
        ),
        (["run", "--metric", "returns_mean"], "got 'returns_mean'. Did you mean "),
        (
            ["run", "--metric", "updates", "--export", "e.json"],
            "--export writes evaluation returns and must be without --metric",
        ),
        ([], "the following arguments are required: RUN_DIR"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_exit_code_two(here, capsys, arguments, message):
    (here / "empty").mkdir()
    write_run(here / "new", evaluations={}, finished=False)
    write_run(here / "run", evaluations={100: 1.0})
    err = refused(capsys, *arguments)
    assert message in err
    assert "masac plot: error:" in err
    assert "Traceback" not in err
