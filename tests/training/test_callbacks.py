"""Callbacks: when they are called, what they may do, and what happens if one fails."""

from dataclasses import replace

import pytest
import torch

from masac import AlgorithmConfig, Callback, ConfigError, RunFailedError, Trainer, load_config
from masac.training.callbacks import Callbacks
from masac.training.checkpointing.checkpoints import newest_of
from tests.training.common import QUIET, rows, tiny

UNTRACED = AlgorithmConfig(skip_done_states="drop")
"""Its updates begin at once."""


class Curriculum(Callback):
    """Makes obstacles larger, logs that, and ends the run when its time has come."""

    end_at = 96

    def __init__(self):
        self.level, self.events, self.weights = 0, [], torch.zeros(2)

    def on_collect(self, run, data):
        self.events.append(("collect", run.frames, tuple(data.batch_size)))

    def on_update(self, run, numbers):
        self.events.append(("update", run.frames, sorted(numbers)[0]))

    def on_evaluate(self, run, numbers):
        self.events.append(("evaluate", run.frames, "eval/return_mean" in numbers))
        self.level += 1
        run.set_environment(agent_radius=0.1 * self.level)
        run.log("curriculum/level", self.level)

    def on_checkpoint(self, run, folder):
        self.events.append(("checkpoint", run.frames, folder.name))
        run.log("curriculum/saved", run.frames)
        if run.frames >= self.end_at:
            run.end("late")

    def on_end(self, run, result):
        self.events.append(("end", run.frames, result.summary["frames"]))
        with pytest.raises(ValueError, match=r"run.log must be called before the run ends; got 'late' in on_end\. Wri"):
            run.log("late", 1.0)

    def state_dict(self):
        return {"level": self.level, "weights": self.weights + self.level}

    def load_state_dict(self, state):
        self.level, self.weights = state["level"], state["weights"]


class Fails(Callback):
    def on_evaluate(self, run, numbers):
        return 1 / 0


def test_a_callback_sees_logs_changes_and_ends_a_run_and_resumes(tmp_path):
    config = tiny(training={"total_frames": 1024, "stop_at_return": 1e9}, algorithm=UNTRACED)
    config = replace(config, evaluation=replace(config.evaluation, every_frames=64, episodes=2))
    first = Curriculum()
    trainer = Trainer(config, tmp_path, callbacks=[first], console=QUIET)
    result = trainer.run()
    assert result.summary["ended_by"] == "late"
    assert result.summary["interrupted"] is False
    assert "late" in repr(result)
    assert first.events[0] == ("collect", 32, (8, 4))
    last = result.summary["frames"]
    assert [event for event in first.events if event[0] in ("evaluate", "end")][-1] == ("end", last, last)
    assert {event[0] for event in first.events} == {"collect", "update", "evaluate", "checkpoint", "end"}
    assert trainer.env.vmas.scenario.agent_radius == 0.1 * first.level
    assert trainer.evaluator.env.vmas.scenario.agent_radius == 0.1
    levels = [row["curriculum/level"] for row in rows(tmp_path)]
    assert levels[:2] == ["", "1"]  # a column added while the run is on
    saved = {str(frames) for event, frames, _ in first.events if event == "checkpoint"}
    assert [row["curriculum/saved"] for row in rows(tmp_path)] == [
        row["frames"] if row["frames"] in saved else "" for row in rows(tmp_path)
    ]
    assert str(last) in saved

    second = Curriculum()
    second.end_at = 10**9
    longer = load_config(tmp_path, [f"training.total_frames={last + 32}"])
    resumed = Trainer(longer, callbacks=[second], console=QUIET, resumes=True)
    assert second.level == first.level
    assert second.weights.tolist() == [first.level] * 2
    assert resumed.env.vmas.scenario.agent_radius == 0.1 * first.level
    resumed.run()
    assert [row["curriculum/level"] for row in rows(tmp_path)][: len(levels)] == levels


def test_attributes_of_another_rank_follow_and_a_missing_callback_is_said(tmp_path):
    with Trainer(tiny(algorithm=UNTRACED), tmp_path, console=QUIET, callbacks=[Curriculum()]) as trainer:
        run = trainer.callbacks.run
        run.set_environment(agent_radius=0.2)
        assert run.take_set() == {"agent_radius": 0.2}
        run.follow({"agent_radius": 0.3})
        assert (trainer.env.vmas.scenario.agent_radius, run.take_set()) == (0.3, {})
        state, said = trainer.callbacks.state(), []
        Callbacks(trainer.config.training, [], trainer, warn=said.append).set_state(state)
    assert said[0].startswith("the run had a callback Curriculum with a state, which is not here")


def test_a_callback_that_raises_is_named_and_the_run_is_saved(tmp_path):
    config = tiny(training={"callbacks": ["tests.training.test_callbacks:Fails"]}, algorithm=UNTRACED)
    with pytest.raises(
        RunFailedError, match=r"test_callbacks:Fails.on_evaluate raised ZeroDivisionError: .* Fix it"
    ) as error:
        Trainer(config, tmp_path, console=QUIET).run()
    assert "return 1 / 0" in error.value.traceback
    assert newest_of(tmp_path).frames == 128
    assert len(rows(tmp_path)) == 4  # the row of the iteration too


def test_a_run_ends_at_a_return(tmp_path):
    result = Trainer(tiny(training={"stop_at_return": -1e9}, algorithm=UNTRACED), tmp_path, console=QUIET).run()
    assert result.summary["frames"] == 128  # its first evaluation
    assert result.summary["ended_by"].endswith("has reached training.stop_at_return=-1e+09")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.training.test_callbacks:UNTRACED", "training.callbacks must name callbacks that are made without arg"),
        ("collections:Counter", "training.callbacks=collections:Counter must be a masac.Callback; got Counter"),
        ("tests.training.test_callbacks:Absent", "training.callbacks must be package.module:Callback, importable"),
    ],
)
def test_what_is_no_callback_gets_one_line(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        Callbacks(tiny(training={"callbacks": [name]}).training, [], trainer=None)
    with pytest.raises(ConfigError, match=r"callbacks must be a list; got Curriculum\. Use Trainer"):
        Callbacks(tiny().training, Curriculum(), trainer=None)


def test_unknown_attributes_and_columns_of_masac_are_refused(tmp_path):
    with Trainer(tiny(algorithm=UNTRACED), tmp_path, console=QUIET) as trainer:
        run = trainer.callbacks.run
        with pytest.raises(
            ConfigError, match=r"must exist in the environment; Scenario has no 'radius'\. It has: .*agent_radius"
        ):
            run.set_environment(radius=1)
        with pytest.raises(ValueError, match="must not be a column of masac's own; got 'frames'"):
            run.log("frames", 1.0)
