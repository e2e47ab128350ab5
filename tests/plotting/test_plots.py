"""Runs read from their folders, averaged, drawn and exported."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from masac.errors import ConfigError
from masac.plotting import plots
from masac.plotting.curves import aggregate
from masac.plotting.marl_eval import marl_eval_data
from masac.plotting.plots import plot_learning_curve, plot_runs
from masac.plotting.recorded_runs import Curve, find_runs, read_run, sample_size
from masac.training.trainer import Trainer
from tests.plotting.recorded import write_run
from tests.training.common import QUIET, tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved = []
    save = Figure.savefig

    def note(self, *args, **kwargs):
        saved.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", note)
    return saved


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def points(curve):
    return curve.x.tolist(), curve.y.tolist()


# Reading


def test_a_run_is_read_as_its_files_tell(tmp_path):
    task = {"suite": "pettingzoo", "scenario": "mpe2.simple_tag_v3"}
    returns = {100: {"wolf": 1.0, "prey": 3.0}, 300: {"wolf": 5.0, "prey": 7.0}}
    run = read_run(write_run(tmp_path / "a", seed=3, task=task, groups=("wolf", "prey"), evaluations=returns))
    assert (run.suite, run.task, run.algorithm, run.seed, run.finished) == (
        *("pettingzoo", "simple_tag_v3", "isac"),
        *(3, True),
    )
    assert run.groups == ("wolf", "prey")
    assert points(run.curve()) == ([100, 300], [2, 6])
    assert points(run.curve(group="prey", x="time")) == ([0.5, 1.5], [3, 7])
    assert points(run.curve(group="nobody")) == ([], [])


def test_a_run_that_goes_on_is_read_up_to_its_last_whole_row(tmp_path):
    run_dir = write_run(tmp_path / "a", evaluations={100: 1.0, 200: 2.0}, finished=False)
    text = (run_dir / "metrics.csv").read_text()
    (run_dir / "metrics.csv").write_text(text + "300,0,1.5,-1.0,-2")  # of -2.75, say
    run = read_run(run_dir)
    assert not run.finished
    assert points(run.curve()) == ([100, 200], [1, 2])
    (run_dir / "metrics.csv").write_text("")
    with pytest.raises(ConfigError, match=r"no column frames in metrics.csv\. Leave it out"):
        read_run(run_dir)


def test_runs_are_found_below_folders_each_once_and_in_order(tmp_path):
    for name, seed in (("sweep/10", 10), ("sweep/2", 2), ("sweep/deep/1", 1)):
        write_run(tmp_path / name, seed=seed, evaluations={100: 1.0})
    write_run(tmp_path / "sweep" / "b", seed=0, algorithm="masac", evaluations={100: 1.0})
    (tmp_path / "sweep" / "half").mkdir()
    (tmp_path / "sweep" / "half" / "config.yaml").write_text("seed: 9")  # starts just now
    runs = find_runs([tmp_path / "sweep", tmp_path / "sweep" / "2", tmp_path / "sweep" / ".." / "sweep"])
    assert [(run.algorithm, run.seed) for run in runs] == [("isac", 1), ("isac", 2), ("isac", 10), ("masac", 0)]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.yaml", "a: [", "config.yaml"),
        ("config.yaml", "- 1\n- 2", "a list in config.yaml"),
        ("config.yaml", "seed: 0", "KeyError: 'task'"),
        ("metrics.csv", "frames,wall_time_s\n1,much\n", "could not convert string to float: 'much'"),
        ("metrics.csv", "frames,wall_time_s\n1,2\n3,4,5\n", "metrics.csv"),
        ("metrics.csv", "frames,eval/return_mean\n1,2\n", "no column wall_time_s"),
    ],
)
def test_a_file_that_is_no_runs_names_itself(tmp_path, file, text, message):
    run_dir = write_run(tmp_path / "mine", evaluations={100: 1.0})
    (run_dir / file).write_text(text)
    with pytest.raises(ConfigError, match=r"a run must be as masac train writes it; got .*mine") as error:
        find_runs([tmp_path])
    assert message in str(error.value)


def test_a_seed_that_was_run_again_makes_runs_of_seeds(tmp_path):
    runs = [read_run(write_run(tmp_path / str(i), seed=i, evaluations={100: 1.0})) for i in range(3)]
    assert sample_size(runs) == "3 seeds"
    assert sample_size(runs[:1]) == "1 seed"
    assert sample_size([*runs, runs[0]]) == "4 runs"


# Averaging


def curve(*pairs):
    return Curve(*np.array(pairs, dtype=float).T)


def test_curves_are_linear_between_points_and_empty_outside():
    given = curve((1, 0), (3, 4))
    assert given.at(np.array([1.0, 1.5, 3.0])).tolist() == [0, 1, 4]
    assert np.isnan(given.at(np.array([0.9, 3.1]))).all()


def test_a_curve_of_many_points_is_averaged_over_stretches():
    thin = curve(*((x, 2 * x) for x in range(10))).thinned(3)  # stretches of 3, 3 and 4 points
    assert (thin.x.tolist(), thin.y.tolist()) == ([1, 4, 7.5], [2, 8, 15])
    few = curve((1, 0), (3, 4))
    assert few.thinned(2) is few


def test_curves_with_points_at_the_same_x_make_one_piece():
    curves = [curve((1, low), (2, low + 1)) for low in (-50.0, 1.0, 2.0, 80.0)]
    (piece,) = aggregate(curves)
    assert piece.x.tolist() == [1, 2]
    assert piece.mean.tolist() == [1.5, 2.5]
    assert piece.runs == 4
    assert piece.low is not None
    assert piece.high is not None
    assert (piece.low < piece.mean).all()
    assert (piece.high > piece.mean).all()


def test_the_mean_continues_without_an_ended_run():
    first, second = aggregate(
        [curve((0, 0), (2, 4)), curve((0, 2), (1, 2), (4, 8)), curve((0, 1), (1, 2), (2, 4), (4, 8))]
    )
    # The second run at 2 lies between (1, 2) and (4, 8): 4; the first one at 1: 2.
    assert (first.x.tolist(), first.mean.tolist(), first.runs) == ([0, 1, 2], [1, 2, 4], 3)
    assert (second.x.tolist(), second.mean.tolist(), second.runs) == ([2, 4], [4, 8], 2)  # too few for an interval
    assert first.low is not None
    assert second.low is None
    assert second.high is None


def test_separate_runs_leave_a_gap_and_one_point_is_a_piece():
    pieces = aggregate([curve((0, 1), (1, 2)), curve((5, 7))])
    assert [(piece.x.tolist(), piece.mean.tolist()) for piece in pieces] == [([0, 1], [1, 2]), ([5], [7])]
    (alone,) = aggregate([curve((5, 7)), curve((5, 9))])
    assert (alone.x.tolist(), alone.mean.tolist(), alone.runs) == ([5], [8], 2)


# Drawing


def sweep(path, *, seeds=3, **kwargs):
    for algorithm, gain in (("isac", 1.0), ("masac", 2.0)):
        for seed in range(seeds):
            evaluations = {100: 0.1 * seed, 200: gain + 0.1 * seed}
            write_run(path / f"{algorithm}{seed}", seed=seed, algorithm=algorithm, evaluations=evaluations, **kwargs)
    return path


def test_a_panel_a_task_and_a_colour_an_algorithm(tmp_path, figures):
    sweep(tmp_path / "a")
    sweep(tmp_path / "b", task={"scenario": "balance"}, seeds=1)
    plot_runs(find_runs([tmp_path]), tmp_path / "curve.png")
    balance, navigation = figures[0].axes
    assert [axes.get_title() for axes in (balance, navigation)] == ["vmas/balance", "vmas/navigation"]
    assert labels(navigation) == ["isac (3 seeds)", "masac (3 seeds)"]
    assert labels(balance) == ["isac (1 seed)", "masac (1 seed)"]
    assert [line.get_color() for line in balance.lines] == [line.get_color() for line in navigation.lines]
    assert len({line.get_color() for line in navigation.lines}) == 2
    np.testing.assert_allclose(navigation.lines[1].get_ydata(), [0.1, 2.1])  # of 0, 0.1, 0.2 and of 2, 2.1, 2.2
    assert len(navigation.collections) == 2  # bands
    assert not balance.collections  # one seed says nothing of its spread
    assert navigation.get_xlabel() == "frames"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_a_seed_over_time(tmp_path, figures):
    plot_runs(find_runs([sweep(tmp_path / "a")]), tmp_path / "curve.svg", by=("seed",), x="time")
    (axes,) = figures[0].axes
    assert len(axes.lines) == 6
    assert labels(axes) == ["isac (3 seeds)", "masac (3 seeds)"]
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2"] * 2
    assert axes.lines[0].get_xdata().tolist() == [0.5, 1.0]
    assert axes.get_xlabel() == "seconds of training"
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_a_mean_of_fewer_runs_is_dashed(tmp_path, figures):
    sweep(tmp_path / "a")
    write_run(tmp_path / "a" / "late", seed=3, evaluations={100: 0.1}, finished=False)
    plot_runs(find_runs([tmp_path]), tmp_path / "curve.pdf")
    (axes,) = figures[0].axes
    assert labels(axes) == ["isac (4 seeds)", "masac (3 seeds)", "not all runs"]
    late, without = axes.lines[:2]
    assert late.get_xdata().tolist() == [100]
    assert (without.get_xdata().tolist(), without.get_linestyle()) == ([100, 200], "--")
    assert without.get_color() == late.get_color()


def test_one_run_shows_training_and_evaluation_of_every_group(tmp_path, figures):
    returns = {100: {"wolf": 1.0, "prey": 3.0}, 200: {"wolf": 5.0, "prey": 7.0}}
    run_dir = write_run(tmp_path / "a", seed=4, groups=("wolf", "prey"), evaluations=returns)
    plot_learning_curve(run_dir)
    (axes,) = figures[0].axes
    assert axes.get_title() == "vmas/navigation · isac · seed 4"
    assert labels(axes) == [
        "wolf, training, with noise",
        "wolf, evaluation",
        "prey, training, with noise",
        "prey, evaluation",
    ]
    assert axes.lines[3].get_ydata().tolist() == [3, 7]
    plot_runs([read_run(run_dir)], tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == (run_dir / "learning_curve.png").read_bytes()
    plot_runs([read_run(run_dir)], tmp_path / "prey.png", group="prey")
    assert [line.get_ydata().tolist() for line in figures[2].axes[0].lines] == [[-1, -1], [3, 7]]


def test_groups_that_compete_are_drawn_by_their_mean_or_alone(tmp_path, figures):
    for seed in range(2):
        returns = {100: {"wolf": 1.0, "prey": 3.0 + seed}}
        write_run(tmp_path / str(seed), seed=seed, groups=("wolf", "prey"), evaluations=returns)
    runs = find_runs([tmp_path])
    plot_runs(runs, tmp_path / "mean.png")
    plot_runs(runs, tmp_path / "prey.png", group="prey")
    assert [figure.axes[0].lines[0].get_ydata().tolist() for figure in figures] == [[2.25], [3.5]]
    assert figures[1].axes[0].get_ylabel() == "mean return per agent of prey"


def test_a_run_without_returns_has_an_empty_picture(tmp_path, figures):
    run_dir = write_run(tmp_path / "a", groups=(), evaluations={}, finished=False)
    plot_learning_curve(run_dir)
    assert not figures[0].axes[0].lines


def test_many_algorithms_have_colours_of_their_own():
    assert len(set(plots._colors(25))) == 25


def test_a_picture_that_cannot_be_written_says_so(tmp_path):
    runs = find_runs([sweep(tmp_path / "a")])
    with pytest.raises(ConfigError, match=r"must end with \.png, \.pdf, \.svg; got 'curve\.gif'"):
        plot_runs(runs, Path("curve.gif"))
    with pytest.raises(ConfigError, match="must be a writable file"):
        plot_runs(runs, tmp_path / "a" / "isac0" / "config.yaml" / "curve.png")


@pytest.mark.slow
def test_the_trainers_own_files_are_read_and_drawn(tmp_path):
    with Trainer(tiny(seed=1), tmp_path / "run", console=QUIET) as trainer:
        summary = trainer.run().summary
    run = read_run(tmp_path / "run")
    assert (run.title, run.algorithm, run.seed, run.finished) == ("vmas/navigation", "masac", 1, True)
    assert run.groups == ("agents",)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/return_mean"]]
    evaluation = run.curve()
    assert evaluation.x[: len(rows)].tolist() == [int(row["frames"]) for row in rows]
    assert evaluation.x[-1] == summary["frames"]
    assert evaluation.y[-1] == pytest.approx(summary["eval_return_mean"], rel=1e-4)
    assert (tmp_path / "run" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_need_no_torch():
    code = "import sys, masac.plotting.plots, masac.plotting.marl_eval, masac.cli.plot; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Exporting


def test_the_export_has_the_layout_of_marl_eval(tmp_path):
    # The layout in marl-eval's README, with one entry a list; its data_process_pipeline and DiagnoseData took such a
    # file when this was written.
    write_run(tmp_path / "a", seed=7, evaluations={100: 1.5, 300: 2.5})
    data = marl_eval_data(find_runs([tmp_path]))
    assert data == {
        "vmas": {
            "navigation": {
                "isac": {
                    "seed_7": {
                        "step_0": {"step_count": 100, "return": [1.5], "agents_return": [1.5]},
                        "step_1": {"step_count": 300, "return": [2.5], "agents_return": [2.5]},
                        "absolute_metrics": {"return": [2.5], "agents_return": [2.5]},
                    }
                }
            }
        }
    }
    assert json.loads(json.dumps(data)) == data


def test_tasks_with_different_groups_are_exported(tmp_path):
    returns = {100: {"wolf": 1.0, "prey": 3.0}}
    write_run(tmp_path / "a", groups=("wolf", "prey"), evaluations=returns)
    steps = marl_eval_data(find_runs([tmp_path]), group="prey")["vmas"]["navigation"]["isac"]["seed_0"]
    assert steps["step_0"] == {"step_count": 100, "return": [3.0], "wolf_return": [1.0], "prey_return": [3.0]}
    write_run(tmp_path / "b", task={"scenario": "balance"}, evaluations={100: 5.0})
    data = marl_eval_data(find_runs([tmp_path]))["vmas"]
    assert data["navigation"]["isac"]["seed_0"]["absolute_metrics"] == {"return": [2.0]}
    assert data["balance"]["isac"]["seed_0"]["absolute_metrics"] == {"return": [5.0]}


def test_a_seed_that_was_run_again_is_exported_beside_the_first(tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, evaluations={100: 1.0})
    assert list(marl_eval_data(find_runs([tmp_path]))["vmas"]["navigation"]["isac"]) == [
        "seed_0",
        "seed_0_2",
        "seed_0_3",
    ]
