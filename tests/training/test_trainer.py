"""Whole runs on real VMAS, in seconds."""

import json
import math
import signal
from importlib.metadata import version

import pytest
import torch

from masac.algorithm import AlgorithmConfig, make_actor
from masac.envs.vmas.make import make_vmas_env
from masac.errors import ConfigError
from masac.groups import read_groups
from masac.training.policies.policy import Policy
from masac.training.trainer import Trainer
from tests.training.common import QUIET, rows, run, tiny, untimed

FILES = {
    *("config.yaml", "metrics.csv", "learning_curve.png", "summary.json", "policy.pt"),
    *("checkpoints", "tensorboard", ".lock"),
}


def test_a_run_leaves_its_files(tmp_path):
    summary = run(tiny(loggers=("tensorboard",)), tmp_path)
    files = {file.name for file in tmp_path.iterdir()}
    assert files == FILES
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written.items() >= summary.items()
    for name in (
        "eval_return_mean",
        "eval_return_std",
        "frames",
        "updates",
        "wall_time_s",
        "frames_per_second",
        "seed",
    ):
        assert name in written
    assert written["versions"]["torch"] == version("torch")
    table = rows(tmp_path)
    assert list(table[0])[:3] == ["frames", "updates", "updates_skipped"]
    assert [int(row["frames"]) for row in table] == list(range(32, 257, 32))
    assert [int(row["updates"]) for row in table] == [0, 0, 4, 8, 12, 16, 20, 24]
    assert [bool(row["eval/return_mean"]) for row in table] == [False, False, False, True, False, False, True, True]
    assert all(math.isfinite(float(row["agents/loss/qvalue"])) for row in table[2:])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics_apart_from_times(tmp_path):
    tables = []
    for name in ("a", "b"):
        run(tiny(seed=3, training={"normalize_observations": True}), tmp_path / name)
        tables.append(untimed(rows(tmp_path / name)))
    assert tables[0] == tables[1]
    run(tiny(seed=4), tmp_path / "c")
    assert rows(tmp_path / "c")[-1]["agents/loss/qvalue"] != tables[0][-1]["agents/loss/qvalue"]


@pytest.mark.parametrize(
    "algorithm",
    [
        {"critic": "independent", "share_actor": False, "share_critic": False},
        {"critic": "pooled", "share_critic": False},
        {"critic": "team", "terminated_reduction": "all", "reward_reduction": "mean"},
        {"skip_done_states": "drop", "actor_gradient": "joint", "alpha_per_agent": True},
        {"skip_done_states": "off", "fixed_alpha": True, "num_qvalue_nets": 3},
        {"terminated_reduction": "all", "posthumous": True, "reward_reduction": "sum"},
    ],
)
def test_every_kind_of_algorithm_trains(tmp_path, algorithm):
    config = tiny(algorithm=AlgorithmConfig(**algorithm), training={"max_grad_norm": 10.0, "reward_scale": 2.0})
    assert math.isfinite(float(run(config, tmp_path)["eval_return_mean"]))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_a_scenario_of_ones_own_trains(tmp_path):
    config = tiny(task={"scenario": "tests.envs.own_scenario:Scenario", "kwargs": {}})
    assert run(config, tmp_path)["task"] == "vmas/Scenario"


@pytest.mark.slow
def test_the_policy_file_loads_without_code_and_acts_the_same(tmp_path):
    config = tiny(training={"normalize_observations": True})
    trainer = Trainer(config, tmp_path, console=QUIET)
    trainer.run()
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    about = json.loads(saved["about"])
    assert about["config"]["seed"] == config.seed
    env = make_vmas_env(config.task, num_envs=2, seed=0)
    (group,) = read_groups(env)
    from masac.training.policies.normalization import RunningNormalizer

    actor = make_actor(group, config.algorithm, config.model)
    policy = Policy([group], {"agents": actor}, {"agents": RunningNormalizer(group.observation_dim)})
    policy.load_state_dict(saved["policy"])
    data = env.reset()
    from torchrl.envs.utils import ExplorationType, set_exploration_type

    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        ours, theirs = policy(data.clone()), trainer.policy(data.clone())
    assert torch.equal(ours["agents", "action"], theirs["agents", "action"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "continuous", "sees"), [("simple_tag", True, "all_groups"), ("simple_adversary", False, "group")]
)
def test_vmas_scenarios_with_several_groups_train(tmp_path, scenario, continuous, sees):
    task = {"scenario": scenario, "kwargs": {}, "continuous_actions": continuous, "success": None}
    config = tiny(task=task, algorithm=AlgorithmConfig(critic="centralized", critic_sees=sees))
    summary = run(config, tmp_path)
    assert len(summary["groups"]) == 2
    last = rows(tmp_path)[-1]
    for group, numbers in summary["groups"].items():
        assert math.isfinite(float(last[f"{group}/loss/qvalue"]))
        assert math.isfinite(numbers["return_mean"])


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["centralized", "pooled", "independent"])
def test_discrete_actions_train(tmp_path, critic):
    config = tiny(task={"continuous_actions": False}, algorithm=AlgorithmConfig(critic=critic))
    assert math.isfinite(run(config, tmp_path)["eval_return_mean"])


def test_a_team_critic_of_discrete_actions_is_refused(tmp_path):
    team = AlgorithmConfig(critic="team", terminated_reduction="all", reward_reduction="mean")
    with pytest.raises(
        ConfigError, match=r"must be centralized, pooled or independent for discrete and hybrid actions.*got 'team'"
    ):
        Trainer(tiny(task={"continuous_actions": False}, algorithm=team), tmp_path, console=QUIET)


@pytest.mark.slow
def test_groups_that_do_not_learn_act_at_random(tmp_path):
    task = {"scenario": "simple_tag", "kwargs": {}, "success": None}
    trainer = Trainer(tiny(task=task, training={"learning_groups": ("adversary",)}), tmp_path, console=QUIET)
    trainer.run()
    data = make_vmas_env(trainer.config.task, num_envs=4, seed=0).reset()
    first, second = (trainer.policy(data.clone()) for _ in range(2))
    assert not torch.equal(first["agent", "action"], second["agent", "action"])
    last = rows(tmp_path)[-1]
    assert "agent/loss/qvalue" not in last
    assert last["train/return_mean"] == last["adversary/train/return_mean"]
    assert json.loads(torch.load(tmp_path / "policy.pt", weights_only=True)["about"])["groups"][1]["learned"] is False


def test_an_unknown_learning_group_lists_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"must name groups of the task; got 'wolves'. There are: agents."):
        Trainer(tiny(training={"learning_groups": ("wolves",)}), tmp_path, console=QUIET)


@pytest.mark.slow
def test_actions_are_random_during_the_warm_up_only(tmp_path):
    trainer = Trainer(tiny(), tmp_path, console=QUIET)
    seen = []
    observe = trainer._observe
    trainer._observe = lambda collected: (seen.append(bool(trainer.policy.random_groups)), observe(collected))
    trainer.run()
    assert seen == [True, True, False, False, False, False, False, False]


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path):
    run(tiny(), tmp_path)
    before = (tmp_path / "metrics.csv").read_text()
    with pytest.raises(ConfigError, match="run_dir must not hold a run yet"):
        Trainer(tiny(), tmp_path, console=QUIET)
    assert (tmp_path / "metrics.csv").read_text() == before


def test_a_failing_environment_ends_with_the_policy_saved(tmp_path):
    trainer = Trainer(tiny(), tmp_path, console=QUIET)
    observe = trainer._observe

    def fail(collected):
        observe(collected)
        if trainer.frames == 96:
            raise ZeroDivisionError("the environment's own mistake")

    trainer._observe = fail
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert (tmp_path / "policy.pt").exists()
    assert len(rows(tmp_path)) == 2


def test_an_interrupt_ends_the_run_with_everything_written(tmp_path):
    trainer = Trainer(tiny(training={"total_frames": 100_000, "compile": "false"}), tmp_path, console=QUIET)
    observe = trainer._observe

    def interrupt(collected):
        observe(collected)
        if trainer.frames == 96:
            signal.raise_signal(signal.SIGINT)

    trainer._observe = interrupt
    handler = signal.getsignal(signal.SIGINT)
    summary = trainer.run().summary
    assert summary["interrupted"] is True
    assert summary["frames"] == 96
    assert {file.name for file in tmp_path.iterdir()} >= {"summary.json", "policy.pt", "learning_curve.png"}
    assert signal.getsignal(signal.SIGINT) is handler


def test_rewards_are_scaled_in_losses_not_in_reports(tmp_path):
    trainer = Trainer(tiny(training={"reward_scale": 10.0}), tmp_path, console=QUIET)
    batch = trainer.replay.transitions(trainer.collector.env.rollout(2).reshape(-1))
    before = batch["next", "agents", "reward"].clone()
    torch.testing.assert_close(trainer.batches.prepare(batch)["next", "agents", "reward"], 10 * before)


@pytest.mark.parametrize("n_step", [1, 2])
def test_rewards_are_clipped_in_losses_not_in_reports(tmp_path, n_step):
    """Before they are summed over n steps, and before their spread is measured."""
    training = {"total_frames": 128, "clip_rewards": 1e-3, "n_step": n_step}
    trainer = Trainer(tiny(training=training), tmp_path, console=QUIET)
    trainer.run()
    stored = trainer.replay.buffer[:]["next", "agents", "reward"]
    assert stored.abs().max() == pytest.approx(1e-3 * (1 + 0.99 * (n_step - 1)), rel=1e-5)
    assert trainer.rewards.spreads["agents"].largest <= 1e-3 * 10
    assert abs(float(rows(tmp_path)[-1]["train/return_mean"])) > 1e-2


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("workers", [0, 2])
def test_pettingzoo_trains_with_and_without_workers(tmp_path, workers):
    task = {"suite": "pettingzoo", "scenario": None, "factory": "tests.envs.scripted:parallel_env", "kwargs": {}}
    config = tiny(task={**task, "horizon": None, "num_envs": 4, "num_workers": workers, "success": None})
    with Trainer(config, tmp_path, console=QUIET) as trainer:
        summary = trainer.run().summary
    assert summary["groups"]["a"]["life_mean"] == 4.0  # (2 + 5 + 5) / 3 steps
    assert all(trainer.replay.buffer[:]["a", "mask"].any(-1))
    assert math.isfinite(float(rows(tmp_path)[-1]["a/loss/qvalue"]))
