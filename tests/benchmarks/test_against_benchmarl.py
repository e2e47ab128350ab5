"""The parts of the comparison that need no BenchMARL."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.benchmarl.actor import read_benchmarl_policy
from benchmarks.benchmarl.recipes import (
    ALGORITHMS,
    ONE_VALUE,
    RECIPES,
    UNWATCHED,
    benchmarl_job,
    recipe_overrides,
)
from benchmarks.benchmarl.tables import TEAM, WALL_COLUMNS, wall_rows
from benchmarks.masac_runs import seconds_of
from benchmarks.report import runs_except
from masac.cli.composing import composed_experiment
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.groups import GroupSpec, read_groups


def a_run(system: str, seed: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "task": "navigation",
        "algorithm": "isac",
        "system": system,
        "seed": seed,
        "seconds": seconds,
        "frames": 1_024,
        "updates": 8,
        "evaluations": [{"frames": 1_024, "seconds": seconds, "return": 0.5 + seed}],
        **more,
    }


@pytest.mark.parametrize("task", list(RECIPES))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_both_libraries_get_the_same_settings(task: str, algorithm: str) -> None:
    config = composed_experiment([*recipe_overrides(task, algorithm), *UNWATCHED, "seed=3"])
    job = benchmarl_job(config)

    training = config.training
    assert (job["task"], job["algorithm"], job["seed"]) == (task, algorithm, 3)
    assert job["task_kwargs"] == {"max_steps": 100, **config.task.kwargs}
    assert job["frames"] == training.total_frames == RECIPES[task].frames
    assert job["gamma"] == config.algorithm.gamma == RECIPES[task].gamma
    assert (job["num_envs"], job["frames_per_batch"], job["updates_per_batch"]) == (64, 256, 8)  # 256 frames / 32
    assert job["frames"] % job["frames_per_batch"] == 0
    assert (job["lr"], job["batch_size"], job["warmup_frames"]) == (1e-3, 256, 2_560)
    assert (job["hidden"], job["activation"], job["loss_function"]) == ([128, 128], "ReLU", "l2")
    assert training.final_lr_factor == 1
    assert config.evaluation.every_frames == 0


def test_a_recipe_that_benchmarl_cannot_follow_is_refused() -> None:
    words = recipe_overrides("navigation", "isac")
    with pytest.raises(ValueError, match="final_lr_factor must be 1"):
        benchmarl_job(composed_experiment([*words, "training.final_lr_factor=0.05"]))
    with pytest.raises(ValueError, match="whole number"):
        benchmarl_job(composed_experiment([*words, "training.updates_per_frame=0.03"]))


def test_fine_tuned_settings_keep_task_frames_and_seed() -> None:
    config = composed_experiment([*recipe_overrides("sampling", "masac"), "seed=2"])
    job, tuned = benchmarl_job(config), benchmarl_job(config, fine_tuned=True)
    for name in ("task", "task_kwargs", "algorithm", "frames", "seed", "loss_function"):
        assert tuned[name] == job[name]
    assert (tuned["num_envs"], tuned["updates_per_batch"], tuned["gamma"]) == (60, 1_000, 0.9)
    assert tuned.keys() == job.keys()


def test_a_trial_has_part_of_the_frames() -> None:
    assert composed_experiment(recipe_overrides("balance", "isac", scale=0.1)).training.total_frames == 19_200


def test_the_clock_leaves_out_the_first_batch_and_evaluations() -> None:
    rows = [
        {"updates": "0", "eval/return_mean": "", "wall_time_s": "2.5", "time/evaluate_s": "0"},
        {"updates": "8", "eval/return_mean": "", "wall_time_s": "3", "time/evaluate_s": "0"},
        {"updates": "16", "eval/return_mean": "0.1", "wall_time_s": "5", "time/evaluate_s": "1.5"},
        {"updates": "24", "eval/return_mean": "", "wall_time_s": "6", "time/evaluate_s": "0"},
    ]
    assert seconds_of(rows) == [0.0, 0.5, 1.0, 2.0]
    with pytest.raises(RuntimeError, match="must only collect"):
        seconds_of(rows[1:])


@pytest.fixture
def groups() -> list[GroupSpec]:
    env = make_env(TaskConfig(num_envs=2), num_envs=2, seed=0)
    found = read_groups(env)
    env.close()
    return found


def an_actor(path: Path, group: GroupSpec) -> dict[str, torch.Tensor]:
    """One layer, with its actions computed by other means."""
    dim, n_agents = group.observation_dim, group.n_agents
    weight, bias = torch.randn(4, dim), torch.randn(4)
    observation = torch.randn(5, n_agents, dim)
    mean = torch.einsum("bnf,of->bno", observation, weight[:2]) + bias[:2]
    low, high = torch.full((n_agents, 2), -1.0), torch.full((n_agents, 2), 3.0)
    tensors = {"layer.0.weight": weight, "layer.0.bias": bias, "low": low, "high": high}
    tensors |= {"observation": observation, "action": 1 + 2 * mean.tanh()}
    torch.save(tensors, path)
    return tensors


def test_an_actor_with_benchmarls_actions_is_read(tmp_path: Path, groups: list[GroupSpec]) -> None:
    tensors = an_actor(tmp_path / "actor.pt", groups[0])
    policy = read_benchmarl_policy(tmp_path / "actor.pt", "ReLU", groups)
    assert torch.allclose(policy.actors["agents"].module(tensors["observation"]), tensors["action"], atol=1e-5)


def test_an_actor_without_a_standard_deviation_is_read(tmp_path: Path, groups: list[GroupSpec]) -> None:
    tensors = an_actor(tmp_path / "actor.pt", groups[0])
    torch.save({**tensors, **{name: tensors[name][:2] for name in tensors if "layer" in name}}, tmp_path / "actor.pt")
    policy = read_benchmarl_policy(tmp_path / "actor.pt", "ReLU", groups)  # of DDPG
    assert torch.allclose(policy.actors["agents"].module(tensors["observation"]), tensors["action"], atol=1e-5)


def test_an_actor_with_other_actions_is_refused(tmp_path: Path, groups: list[GroupSpec]) -> None:
    tensors = an_actor(tmp_path / "actor.pt", groups[0])
    torch.save({**tensors, "action": tensors["action"] + 1e-4}, tmp_path / "actor.pt")
    with pytest.raises(RuntimeError, match="must act as BenchMARL's"):
        read_benchmarl_policy(tmp_path / "actor.pt", "ReLU", groups)


def test_wall_times_are_medians_and_their_ratio() -> None:
    ours = [a_run("masac", seed, seconds) for seed, seconds in enumerate((10.0, 12.0, 11.0))]
    theirs = [a_run("benchmarl", seed, seconds) for seed, seconds in enumerate((40.0, 33.0, 30.0))]
    (row,) = wall_rows([*theirs, *ours[::-1]])
    named = dict(zip(WALL_COLUMNS, row, strict=True))
    assert named["masac, s"] == "11.0 (10.0 to 12.0)"
    assert named["BenchMARL, s"] == "33.0 (30.0 to 40.0)"
    assert named["BenchMARL / masac"] == "3.00"
    assert named["masac's returns per agent"] == "0.50, 1.50, 2.50"


def test_one_value_for_all_is_compared_with_the_same_runs_of_benchmarl() -> None:
    seconds = {"masac": 20.0, TEAM: 10.0, "benchmarl": 30.0}
    runs = [a_run(system, 0, found, algorithm="masac") for system, found in seconds.items()]
    rows = [dict(zip(WALL_COLUMNS, row, strict=True)) for row in wall_rows(runs)]
    assert [(row["algorithm"], row["masac, s"], row["BenchMARL / masac"]) for row in rows] == [
        ("masac", "20.0", "1.50"),
        ("masac, critic=team", "10.0", "3.00"),
    ]
    assert len(wall_rows(runs[1:])) == 1
    assert len(wall_rows(runs[2:])) == 1


def test_one_value_for_all_is_the_recipe_but_for_the_critic() -> None:
    words = recipe_overrides("sampling", "masac")
    team, usual = composed_experiment([*words, *ONE_VALUE]), composed_experiment(words)
    assert team.algorithm.critic == "team"
    same = replace(team.algorithm, critic="centralized", terminated_reduction="none", reward_reduction=None)
    assert replace(team, algorithm=same, run_dir=None) == replace(usual, run_dir=None)


def test_runs_with_different_updates_are_not_compared() -> None:
    with pytest.raises(RuntimeError, match="must have equal frames and updates"):
        wall_rows([a_run("masac", 0, 10.0), a_run("benchmarl", 0, 20.0, updates=9)])


def test_earlier_runs_are_kept_unless_they_run_again() -> None:
    runs = [a_run("masac", 0, 10.0), a_run("masac", 1, 11.0), a_run("benchmarl", 0, 30.0)]
    assert runs_except(runs, ("system", "seed"), [("masac", 0)]) == runs[1:]
