"""The suite of VMAS scenarios: its aggregates, its tables, and one small run."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import vmas_suite
from benchmarks.aggregates import (
    Estimate,
    interquartile_mean_of_tasks,
    normalized,
    probability_of_improvement,
)
from benchmarks.fill_docs_numbers import TABLES
from benchmarks.jobs import Job, result
from benchmarks.vmas_benchmarl import TASKS, benchmarl_jobs, settings_of
from benchmarks.vmas_report import (
    IMPROVEMENT_COLUMNS,
    SCORE_COLUMNS,
    beside_columns,
    beside_rows,
    draw_curves,
    final,
    improvement_rows,
    return_columns,
    return_rows,
    score_rows,
    solved_rows,
)
from benchmarks.vmas_scenarios import CHOOSING, HELD_OUT, SCENARIOS
from benchmarks.vmas_suite import CONTENDERS, masac_jobs, read_contenders, run_jobs
from masac.cli.composing import composed_experiment
from masac.envs.vmas.names import vmas_scenarios


def a_run(task: str, system: str, seed: int, returned: float) -> dict[str, Any]:
    points = [{"frames": frames, "seconds": 60.0, "return": value} for frames, value in ((500, 0.0), (1_000, returned))]
    return {
        "task": task,
        "system": system,
        "seed": seed,
        "overrides": [],
        "frames": 1_000,
        "updates": 10,
        "seconds": 60.0,
        "random": -1.0,
        "untrained": -2.0,
        "evaluations": points,
    }


RUNS = [
    *(a_run("balance", "isac", seed, value) for seed, value in enumerate((1.0, 2.0, 3.0))),
    *(a_run("wheel", "isac", seed, value) for seed, value in enumerate((0.0, 0.0, 0.0))),
    *(a_run("balance", "benchmarl/mappo", seed, value) for seed, value in enumerate((0.0, 1.0, 1.5))),
]


def test_random_actions_score_0_and_the_best_run_1():
    assert normalized(np.array([-10.0, 0.0, 30.0]), random=-10, best=30).tolist() == [0, 0.25, 1]
    assert normalized(np.array([-30.0]), random=-10, best=30).tolist() == [-0.5]


def test_one_scenario_cannot_outweigh_all_others():
    # a best run just above random makes the unit small: without a limit 2.6 below random are -260
    assert normalized(np.array([-2.87, -0.26]), random=-0.27, best=-0.26).tolist() == [-1, 1]


def test_scores_are_0_where_nobody_learned():
    assert normalized(np.array([-5.0, -3.0]), random=-3, best=-3).tolist() == [0, 0]
    assert normalized(np.array([-5.0, -4.0]), random=-3, best=-4).tolist() == [0, 0]


def test_the_interquartile_mean_pools_the_runs_of_all_tasks():
    # 0 0 | 1 2 3 6 | 8 100: the middle half has the mean 3
    scores = {"a": np.array([0.0, 2.0, 6.0, 100.0]), "b": np.array([1.0, 0.0, 3.0, 8.0])}
    found = interquartile_mean_of_tasks(scores)
    assert found.value == 3
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 3 < found.high


def test_bootstrap_samples_keep_the_runs_of_every_task():
    # Within each task all runs are equal, so every stratified sample is the same.
    found = interquartile_mean_of_tasks({"a": np.zeros(3), "b": np.ones(3)})
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_the_probability_of_improvement_is_the_mean_share_of_pairs():
    # a: 3 beats 1, 2; 2 beats 1 and ties with 2: (2 + 1.5) / 4. b: 0 of 1.
    first = {"a": np.array([3.0, 2.0]), "b": np.array([0.0])}
    second = {"b": np.array([1.0]), "a": np.array([1.0, 2.0])}
    assert probability_of_improvement(first, second) == Estimate((3.5 / 4 + 0) / 2)
    assert probability_of_improvement(second, first).value == 1 - 3.5 / 8
    with pytest.raises(ValueError, match="must have the same tasks"):
        probability_of_improvement(first, {"a": first["a"]})


def test_few_runs_have_no_interval():
    assert str(Estimate(0.5)) == "0.50"
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert interquartile_mean_of_tasks({"a": np.array([1.0, 2.0])}) == Estimate(1.5)
    assert interquartile_mean_of_tasks({"a": np.array([1.0, 2.0, 3.0]), "b": np.array([1.0])}).low is None


def test_returns_are_means_with_their_range():
    balance, wheel = (dict(zip(return_columns(RUNS), row, strict=True)) for row in return_rows(RUNS))
    assert (balance["scenario"], balance["half"], balance["agents"]) == ("balance", CHOOSING, "4")
    assert (balance["random"], balance["untrained"], balance["frames"]) == ("-1.00", "-2.00", "1,000")
    assert balance["isac"] == "2.00 (1.00 to 3.00)"
    assert wheel["isac"] == "0.00 (0.00 to 0.00)"
    assert "benchmarl/mappo" not in wheel
    (alone,) = return_rows(RUNS[:1])
    assert alone[-1] == "1.00"


def test_benchmarl_has_a_table_with_its_scenarios():
    assert beside_columns(RUNS) == ("contender", "balance")
    assert beside_rows(RUNS) == [("isac", "2.00 (60 s)"), ("benchmarl/mappo", "0.83 (60 s)")]
    assert beside_rows(RUNS[:6]) == []


def test_the_time_to_solved_is_the_median_over_seeds_and_never_counts_as_infinite():
    # random -1, best 3: the threshold is 2.6, which one of three seeds reaches at its second evaluation
    runs = [*RUNS, *(a_run("balance", "fast", seed, 2.7) for seed in (0, 1))]
    runs[-1]["evaluations"] = [{"frames": 500, "seconds": 20.0, "return": 2.8}, *runs[-1]["evaluations"]]
    assert solved_rows(runs) == [
        ("threshold", "2.60"),
        ("isac", "never (1 of 3)"),
        ("benchmarl/mappo", "never (0 of 3)"),
        ("fast", "40 s"),
    ]
    assert solved_rows(RUNS[:6]) == []


def test_contenders_are_compared_on_the_scenarios_that_both_have():
    # balance: random -1, best 3, so isac's scores are 0.5, 0.75, 1. wheel: all 0 are the best, so 1.
    scores = [dict(zip(SCORE_COLUMNS, row, strict=True)) for row in score_rows(RUNS)]
    assert [(row["scenarios"], row["contender"], row["runs"]) for row in scores] == [
        ("choosing (1)", "isac", "3"),
        ("choosing (1)", "benchmarl/mappo", "3"),
        ("held out (1)", "isac", "3"),
        ("all (2)", "isac", "6"),
    ]
    assert scores[0][SCORE_COLUMNS[-1]].startswith("0.75 [0.5")
    assert scores[2][SCORE_COLUMNS[-1]] == "1.00 [1.00, 1.00]"
    # 1 against 0, 1, 1.5: 1 and a tie; 2 and 3 beat all
    (row,) = improvement_rows(RUNS)
    assert dict(zip(IMPROVEMENT_COLUMNS, row, strict=True))["other"] == "benchmarl/mappo"
    assert row[-1].startswith(f"{7.5 / 9:.2f} [")


def test_the_first_contender_is_compared_with_each_of_the_others():
    runs = [a_run("wheel", system, 0, value) for system, value in (("isac", 1.0), ("masac", 2.0), ("fast", 0.0))]
    pairs = [row[1:] for row in improvement_rows(runs) if row[0] == "all (1)"]
    assert pairs == [("isac", "masac", "0.00"), ("isac", "fast", "1.00")]


def test_returns_below_random_actions_are_compared_too():
    runs = [a_run("wheel", system, 0, value) for system, value in (("isac", -3.0), ("masac", -2.0))]  # random: -1
    assert {row[-1] for row in score_rows(runs)} == {"0.00"}
    assert {row[-1] for row in improvement_rows(runs)} == {"0.00"}


def test_a_contender_with_some_scenarios_has_a_comparison_of_its_own():
    names = [row[0] for row in score_rows([*RUNS, a_run("transport", "isac", 0, 1.0)])]
    assert "those of benchmarl/mappo (1)" in names


def test_pages_can_quote_the_tables():
    block = TABLES["vmas_suite"]({"runs": RUNS})
    assert "| balance | choosing | 4 | 1,000 |" in block
    assert len([line for line in block.splitlines() if line.startswith("| ---")]) == 5


def test_curves_are_drawn_under_one_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: saved.append(figure))
    draw_curves([*RUNS, a_run("wheel", "fast", 0, 1.0)], tmp_path / "curves.png", x="time")
    (legend,) = saved[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["random", "isac", "benchmarl/mappo", "fast"]
    assert not any(axes.get_legend() for axes in saved[0].axes)


def test_the_halves_are_of_equal_size_and_all_scenarios_are_vmas():
    halves = [scenario.half for scenario in SCENARIOS.values()]
    assert halves.count(CHOOSING) == halves.count(HELD_OUT) == 13
    assert set(SCENARIOS) <= set(vmas_scenarios())


def test_every_scenario_is_named_here_or_among_those_left_out():
    from benchmarks import vmas_scenarios as module

    assert module.__doc__ is not None
    left_out = set(vmas_scenarios()) - set(SCENARIOS)
    assert not {name for name in left_out if name not in module.__doc__}


def test_contenders_differ_in_their_overrides_alone():
    isac, masac = (
        composed_experiment(job.overrides)
        for job in masac_jobs(["balance"], {n: CONTENDERS[n] for n in ("isac", "masac")}, [4])
    )
    assert (isac.algorithm.name, masac.algorithm.name) == ("isac", "masac")
    assert (isac.seed, isac.task, isac.training) == (4, masac.task, masac.training)
    assert isac.task.kwargs == SCENARIOS["balance"].kwargs
    assert isac.training.total_frames == 100_000


def test_a_preset_keeps_the_scenarios_task_and_frames():
    (job,) = masac_jobs(["sampling", "wheel"], {"preset": CONTENDERS["preset"]}, [0], scale=0.5)  # wheel has none
    config = composed_experiment(job.overrides)
    assert config.task.num_envs == 128  # the preset's
    assert config.task.kwargs == SCENARIOS["sampling"].kwargs
    assert config.training.total_frames == 25_000


def test_only_one_side_of_a_game_learns():
    (job,) = masac_jobs(["simple_tag"], {"isac": CONTENDERS["isac"]}, [0])
    assert composed_experiment(job.overrides).training.learning_groups == ("adversary",)


def test_contenders_are_read_from_words():
    assert read_contenders(["isac", "fast=algorithm=isac training.n_step=3"]) == {
        "isac": ["algorithm=isac"],
        "fast": ["algorithm=isac", "training.n_step=3"],
    }
    for text in ("unknown", "fast=", "fast=masac", "a/b=algorithm=isac"):
        with pytest.raises(ValueError, match="--contender must be"):
            read_contenders([text])
    with pytest.raises(ValueError, match="of its own"):
        read_contenders(["isac", "isac"])


def test_a_name_stands_for_the_same_settings_in_a_folder(tmp_path: Path):
    job = Job(task="wheel", system="a/b", seed=0, overrides=["algorithm=isac"], run=lambda folder: {"seconds": 3.0})
    record = tmp_path / "wheel-a-b-seed0.json"
    recorded = {"task": "wheel", "system": "a/b", "seed": 0, "overrides": ["algorithm=isac"], "seconds": 3.0}
    assert result(job, tmp_path) == recorded == json.loads(record.read_text())
    record.write_text(json.dumps({**recorded, "seconds": 4.0}))
    assert result(job, tmp_path)["seconds"] == 4  # it does not run again
    record.write_text(json.dumps({"overrides": ["algorithm=masac"]}))
    with pytest.raises(RuntimeError, match=r"must have the overrides.*algorithm=isac algorithm=masac differ"):
        result(job, tmp_path)


def test_a_run_that_fails_leaves_the_others(tmp_path: Path):
    def fails(folder: Path) -> dict[str, Any]:
        raise RuntimeError("no space left")

    name = {"task": "wheel", "system": "isac", "overrides": []}
    jobs = [
        Job(**name, seed=0, run=fails),
        Job(**name, seed=1, run=lambda folder: {**a_run("wheel", "isac", 1, 5.0), "seconds": 1.0}),
    ]
    arguments = argparse.Namespace(folder=tmp_path, json=tmp_path / "all.json", jobs=1)
    before = [a_run("wheel", "isac", 1, 0.0), a_run("wheel", "masac", 1, 0.0)]
    runs, failed = run_jobs(jobs, before, arguments)
    assert failed == 1
    # in the order of the contenders before, as the others are compared with the first
    assert [(run["system"], run["seed"], final(run)) for run in runs] == [("isac", 1, 5.0), ("masac", 1, 0.0)]
    assert json.loads((tmp_path / "all.json").read_text())["runs"] == runs


def test_benchmarl_gets_the_recipe_or_its_own_settings():
    recipe = settings_of("wheel", "maddpg", 3, fine_tuned=False)
    assert (recipe["algorithm"], recipe["seed"], recipe["num_envs"], recipe["lr"]) == ("maddpg", 3, 64, 1e-3)
    assert recipe["updates_per_batch"] == 16  # of 256 frames, as masac's default
    assert recipe["task_kwargs"] == {"max_steps": 100, **SCENARIOS["wheel"].kwargs}
    tuned = settings_of("wheel", "mappo", 3, fine_tuned=True)
    assert (tuned["num_envs"], tuned["frames_per_batch"], tuned["batch_size"], tuned["lr"]) == (
        600,
        60_000,
        4_096,
        5e-5,
    )
    assert "seconds" not in tuned  # or a recorded run would not fit another call


def test_benchmarl_runs_on_scenarios_with_one_group():
    assert {len(SCENARIOS[task].agents) for task in TASKS} == {1}
    assert not any(SCENARIOS[task].opponents for task in TASKS)
    given = {"seconds": {"wheel": 60.0}, "random": {"wheel": 0.0}}
    jobs = benchmarl_jobs(["wheel"], ["mappo"], [0], **given, python=Path("python"))
    assert [job.name for job in jobs] == ["wheel-benchmarl-mappo-seed0", "wheel-benchmarl-mappo-fine-tuned-seed0"]


@pytest.mark.slow
def test_a_small_run_is_recorded_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = ["task.num_envs=8", "training.warmup_frames=64", "evaluation.episodes=4", "training.batch_size=16"]
    (job,) = masac_jobs(["simple_adversary"], {"isac": words}, [0], scale=0.001)
    run = result(job, tmp_path)
    assert (run["task"], run["system"], run["seed"], run["frames"]) == ("simple_adversary", "isac", 0, 128)
    assert run["evaluations"][-1]["frames"] == 128
    assert run["updates"] > 0
    assert run["seconds"] > 0
    assert len({run["random"], run["untrained"], run["evaluations"][-1]["return"]}) == 3
    assert (tmp_path / job.name / "policy.pt").exists()
    assert not (tmp_path / job.name / "checkpoints").exists()
    monkeypatch.setattr(vmas_suite, "start_or_resume", None)
    assert result(job, tmp_path) == run
