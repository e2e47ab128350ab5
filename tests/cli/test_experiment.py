"""What a run says of itself at its start and end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from masac.algorithm import AlgorithmConfig
from masac.cli.experiment import _changed_rates, _few_updates, _many_choices, _what_critics_see
from masac.envs.config import TaskConfig
from masac.training.config import ExperimentConfig, TrainingConfig
from masac.training.schedule import Schedule
from tests.training.common import tiny


def make_config(total_frames):
    training = TrainingConfig(total_frames=total_frames, warmup_frames=100, steps_per_iteration=4, lr_decay_fraction=1)
    return ExperimentConfig(task=TaskConfig(num_envs=8), training=training)


@pytest.mark.parametrize(
    ("total_frames", "said"),
    [
        (600, None),  # 19 iterations of 32 are 608 frames, before and now
        (
            1200,
            "at 25% of their initial values when the run stopped, now at 62% because it has 1,216 frames",
        ),  # 480 of 608, of 1216
    ],
)
def test_learning_rates_follow_frames_not_iterations(total_frames, said):
    config = make_config(total_frames)
    schedule = Schedule(config)
    resumed_from = SimpleNamespace(config={"training": {"total_frames": 600}})
    trainer = SimpleNamespace(
        config=config, schedule=schedule, total_frames=schedule.total_frames, frames=480, resumed_from=resumed_from
    )
    line = _changed_rates(cast(Any, trainer))
    assert line is None if said is None else said in str(line)


def test_a_run_without_updates_names_its_warm_up():
    assert "training.warmup_frames=100" in _few_updates(make_config(100), 0)
    assert "training.warmup_frames" not in _few_updates(make_config(100), 1)


def test_runs_of_several_groups_say_what_critics_see():
    groups = ["adversary", "agent"]

    def line(model=None, learning=groups, **algorithm):
        return _what_critics_see(tiny(algorithm=AlgorithmConfig(**algorithm), model=model or {}), learning)

    assert line() == "critics see one agent each, and no other group (algorithm.critic=independent)"
    assert line(critic="pooled") == "critics see the agents of their own group (algorithm.critic_sees=group)"
    assert line(critic="centralized", critic_sees="all_groups").startswith(
        "critics see the agents of all groups that le"
    )
    assert line(learning=groups[:1]) is line({"critic": "nets:critic"}) is None


def test_runs_of_many_choices_say_what_they_cost():
    few, many = (SimpleNamespace(name="agents", valued_choices=count) for count in (5, 50))

    def line(*groups, **model):
        return _many_choices(tiny(model=model), cast(Any, groups))

    runs = "critics run once for each of 50 choices of an action (model.choices_as=output is faster)"
    assert line(few, many, choices_as="input") == runs
    assert str(line(few, many)).startswith(
        "critics have an output for each of 50 choices of an action (model.choices_as=a"
    )
    assert line(few) is line(SimpleNamespace(name="agents", valued_choices=None)) is None
    assert line(many, critic="nets:critic") is None
