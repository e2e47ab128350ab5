"""Training from Python: configs without the command line, the result of a run, environments and folders."""

import re
import threading
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from masac import AlgorithmConfig, ConfigError, ExperimentConfig, Trainer, load_config, load_env, load_policy
from masac.cli.composing import composed_experiment
from masac.envs.config import TaskConfig
from masac.named_objects import name_of, warn_if_shared
from masac.training.own_parts import with_own_parts
from tests.envs.scripted import ScriptedDeaths, parallel_env
from tests.training.common import QUIET, rows, tiny

UNTRACED = AlgorithmConfig(skip_done_states="drop")
"""Its updates begin at once."""


def test_the_default_config_is_what_masac_train_runs():
    trained = replace(composed_experiment(), run_dir=None)
    assert repr(ExperimentConfig()) == repr(trained)  # types too
    assert load_config() == trained
    first, second = ExperimentConfig(), ExperimentConfig()
    first.task.kwargs["n_agents"] = 7
    assert second.task.kwargs["n_agents"] == ExperimentConfig().task.kwargs["n_agents"] == 3


def test_a_preset_with_overrides_is_what_masac_train_runs():
    words = ["algorithm=masac", "task.kwargs.size=4", "training.learning_groups=[adversary]"]
    composed = composed_experiment(["task=pettingzoo/simple_tag", *words])
    assert load_config("pettingzoo/simple_tag", words) == replace(composed, run_dir=None)
    assert load_config(overrides=["run_dir=here"]).run_dir == "here"


def test_presets_whose_critics_see_all_groups_take_independent_critics_too():
    for words, sees in ([], "all_groups"), (["algorithm=isac"], "group"):
        assert load_config("pettingzoo/simple_tag", words).algorithm.critic_sees == sees
    with pytest.raises(ConfigError, match=r"with algorithm.critic_sees=group, or the critic with algorithm.critic=cen"):
        AlgorithmConfig(critic="independent", critic_sees="all_groups")


def test_presets_of_several_steps_take_a_memory():
    for words, n_step in ([], 3), (["training.n_step=2"], 2), (["model.memory=gru"], 1):
        assert load_config("pettingzoo/simple_speaker_listener", words).training.n_step == n_step
    with pytest.raises(ConfigError, match=r"training.n_step must be 1 with model.memory=gru; got 2"):
        load_config("pettingzoo/simple_tag", ["model.memory=gru", "training.n_step=2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vmas/navigatoin",), "task must be a preset.*got 'vmas/navigatoin'. Did you mean"),
        (
            ("vmas/navigation", ["training.batchsize=3"]),
            "training.batchsize is not a config key. Here it is called training.batch_size",
        ),
        ((["seed=1"],), r"the name of a config must be a string or Path; got \['seed=1'\]"),
        (("vmas/navigation", ["--multirun"]), "overrides must be a list of key=value words; got --multirun"),
        (("vmas/navigation", "seed=1"), r"overrides must be a list of key=value words; got 'seed=1'\. Write"),
        (("vmas/navigation", ["algorithm=mappo"]), "algorithm/mappo"),
    ],
)
def test_what_is_no_config_gets_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(*arguments)
    assert "\n" not in str(raised.value)


def test_a_new_folder_is_named_as_masac_train_names_it():
    config = ExperimentConfig(seed=4)
    timeless = [re.sub(r"\d{8}-\d{6}$", "TIME", name or "") for name in (config.new_run_dir(), composed_dir(seed=4))]
    assert timeless == ["runs/navigation/isac-seed4-TIME"] * 2


def composed_dir(seed):
    return composed_experiment([f"seed={seed}"]).run_dir


def test_a_function_of_python_trains_in_a_thread_and_gives_a_result(tmp_path, monkeypatch):
    """As in a notebook's background thread: no signals, a function that cannot be imported, a text as the folder."""
    task = TaskConfig(suite="pettingzoo", scenario=None, num_envs=4, horizon=None)
    config = replace(tiny(training={"total_frames": 128}, algorithm=UNTRACED), task=task)
    found = []
    made = []

    def make():
        made.append(1)
        return parallel_env()

    def train():
        found.append(Trainer(config, str(tmp_path / "run"), env=make, console=QUIET).run())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    (result,) = found
    assert made
    assert result.run_dir == tmp_path / "run"
    assert result.summary["frames"] == 128
    table = rows(tmp_path / "run")
    assert list(result.metrics) == list(table[0])
    np.testing.assert_array_equal(result.metrics["frames"], range(16, 129, 16))
    assert result.best_checkpoint == tmp_path / "run/checkpoints/frames-000000000128"
    assert re.fullmatch(
        r"RunResult\(run_dir='.*/run', 128 frames, 8 updates, .* s, evaluation return -?\d.*\)", repr(result)
    )
    assert (
        "task:\n  suite: pettingzoo\n  scenario: null\n  factory: python:env:make"
        in (result.run_dir / "config.yaml").read_text()
    )
    data = load_env(result.run_dir, num_envs=2).reset()
    saved = load_policy(result.run_dir)
    assert not any(parameter.requires_grad for parameter in result.policy.parameters())
    for group in saved.group_names:
        torch.testing.assert_close(result.policy(data.clone())[group, "action"], saved(data.clone())[group, "action"])
    monkeypatch.setattr("masac.named_objects._PASSED", {})  # another process
    with pytest.raises(ConfigError, match=r"task.factory must be importable in every process; got 'make', which was"):
        load_policy(result.run_dir)


@pytest.mark.parametrize(("make", "name"), [(parallel_env, "parallel_env"), (lambda: parallel_env(), "lambda")])
def test_an_environment_without_metadata_gives_the_run_folder_its_functions_name(make, name, tmp_path, monkeypatch):
    monkeypatch.delattr(ScriptedDeaths, "metadata")
    monkeypatch.chdir(tmp_path)
    task = TaskConfig(suite="pettingzoo", scenario=None, num_envs=1, horizon=None)
    with closing(
        Trainer(replace(tiny(algorithm=UNTRACED), task=task, run_dir=None), env=make, console=QUIET)
    ) as trainer:
        assert trainer.run_dir.parts[:2] == ("runs", name)
        with pytest.raises(TypeError, match=r"must be a TensorDict with \[\('a', 'observation'\)\]; got dict\. Stack"):
            trainer.policy({"a_0": np.zeros(7)})


def test_a_name_on_disk_that_two_functions_have_had_gets_a_warning():
    one, again = (lambda spec: spec for _ in range(2))
    other = lambda spec: [spec]  # noqa: E731
    for passed, shared in ((one, False), (again, False), (other, True)):
        name = name_of(passed, "test")  # again: as after a notebook's cell was run twice
        with pytest.warns(RuntimeWarning, match="several objects") if shared else nullcontext():
            warn_if_shared([name, None], "the policy")


def test_functions_of_modules_are_recorded_by_name():
    task = with_own_parts(ExperimentConfig(), env=parallel_env).task
    assert (task.suite, task.scenario, task.factory) == ("pettingzoo", None, "tests.envs.scripted:parallel_env")
    assert (task.kwargs, task.success) == ({}, None)  # those were of another environment
    own = TaskConfig(suite="pettingzoo", scenario=None, factory="some:thing", kwargs={"size": 2})
    assert with_own_parts(ExperimentConfig(task=own), env=parallel_env).task.kwargs == {"size": 2}
    with pytest.raises(ConfigError, match=r"env must be a function that makes it; got \w*Path\. Pass a function"):
        with_own_parts(ExperimentConfig(), env=Path("not a function"))
