"""Runs that start with the policy of another one."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from masac import AlgorithmConfig
from masac.errors import ConfigError
from masac.training.checkpointing.start_from import Source
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny


def make(**kwargs):
    """A config with normalized observations and centralized critics, and without a warm-up."""
    training = {
        "warmup_frames": 0,
        "normalize_observations": True,
        "checkpoint_every": "64",
        **kwargs.pop("training", {}),
    }
    return tiny(training=training, **kwargs)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source")
    with Trainer(make(training={"total_frames": 160}), path, console=QUIET) as trainer:
        trainer.run()
    return path


class OwnCritic(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, observation, action):
        return self.linear(torch.cat([observation, action], -1))


def own_critic(spec):
    return OwnCritic(spec.observation_dim + spec.action_dim)


def started(source, path, checkpoint="", **kwargs):
    training = {"init_from": f"{source}{checkpoint}", **kwargs.pop("training", {})}
    with Trainer(make(training=training, **kwargs), path, console=QUIET) as trainer:
        pass
    return trainer


def state_of(trainer):
    learner = trainer.learner.state()
    return {
        **{name: value for name, value in learner.items() if "target_entropy" not in name},
        **{f"normalizers/{name}": value for name, value in trainer.policy.normalizers.state_dict().items()},
        **{f"rewards/{name}": value for name, value in trainer.rewards.state().items()},
    }


def test_networks_and_statistics_are_those_of_the_run(source, tmp_path):
    trainer = started(source, tmp_path, training={"init_parts": ["actor", "critic", "normalizer", "optimizer"]})
    saved = torch.load(max((source / "checkpoints").glob("frames-*")) / "state.pt", weights_only=True)
    for name, value in state_of(trainer).items():
        whole = name if name.startswith(("normalizers/", "rewards/")) else f"learner/{name}"
        assert torch.equal(value, saved[whole]), name
    assert trainer.frames == trainer.learner.updates == 0
    (line,) = trainer.start_lines
    assert line.endswith("(160 frames), agents: actor, critic, normalizer, optimizer")


def test_parts_that_are_not_named_are_new(source, tmp_path):
    whole, actor = (
        started(source, tmp_path / name, training={"init_parts": parts})
        for name, parts in (("a", None), ("b", ["actor"]))
    )
    assert not any(name.startswith("optimizer") for name in whole.learner.state())
    same = {name for name, value in state_of(actor).items() if torch.equal(value, state_of(whole)[name])}
    assert {name for name in same if "network_params" in name} == {n for n in state_of(whole) if ".actor_network" in n}
    assert actor.policy.normalizers["agents"].count == 0
    assert whole.policy.normalizers["agents"].count > 0


def test_more_agents_keep_the_actor_and_get_new_critics(source, tmp_path):
    five = {"kwargs": {"n_agents": 5}}
    trainer = started(source, tmp_path / "a", task=five)
    first, second = trainer.start_lines
    assert first.endswith("agents: actor, normalizer")
    assert "the critics start new" in second
    assert "parameter qvalue_network_params.module.mlp.hidden.0.weight: expected [2, " in second
    with pytest.raises(ConfigError, match=r"the critic of .* must fit this run; .*expected \[2, .*Leave critic out"):
        started(source, tmp_path / "b", task=five, training={"init_parts": ["actor", "critic"]})


@pytest.mark.parametrize(
    "changes", [{"normalize_rewards": False}, {"reward_scale": 10.0}, {"clip_rewards": 1}], ids=str
)
def test_critics_of_another_unit_start_new(source, tmp_path, changes):
    first, second = started(source, tmp_path, training=changes).start_lines
    assert first.endswith("agents: actor, normalizer")
    assert f"training.{next(iter(changes))} is" in second


def test_critics_of_another_horizon_start_new_unless_they_are_asked_for(source, tmp_path):
    near = {"algorithm": AlgorithmConfig(critic="centralized", gamma=0.9)}
    first, second = started(source, tmp_path / "a", **near).start_lines
    assert first.endswith("agents: actor, normalizer")
    assert second.endswith("do not fit: algorithm.gamma is 0.9, there it was 0.99")
    asked = started(source, tmp_path / "b", training={"init_parts": ["critic"]}, **near)
    first, second = asked.start_lines
    assert first.endswith("agents: critic")
    assert second.endswith("learn another horizon from here on: algorithm.gamma is 0.9, there it was 0.99")
    same = started(source, tmp_path / "c", training={"init_parts": ["critic"]})
    assert all(torch.equal(one, state_of(same)[name]) for name, one in state_of(asked).items() if "qvalue" in name)


def test_networks_are_compared_part_by_part(source, tmp_path):
    own = {"critics": {"agents": "tests.training.checkpointing.test_start_from:own_critic"}}
    assert len(started(source, tmp_path / "a", model=own, training={"init_parts": ["actor"]}).start_lines) == 1
    assert "do not fit: model.critics is" in started(source, tmp_path / "b", model=own).start_lines[1]
    with pytest.raises(ConfigError, match=r"must fit this run; model.activation is tanh, there it was relu\. L"):
        started(source, tmp_path / "c", model={"activation": "tanh"}, training={"init_parts": ["critic"]})


def test_rows_of_several_steps_keep_their_discount(source, tmp_path):
    trainer = started(source, tmp_path)
    there = Source(trainer.config, trainer.learning)
    there.trained = replace(
        there.trained,
        algorithm=replace(there.trained.algorithm, gamma=0.9),
        training=replace(there.trained.training, n_step=3),
    )
    with pytest.raises(ConfigError, match=r"algorithm.gamma must be as in the run .* got 0.99, there it is 0.9\. L"):
        there.load_buffer([trainer.replay], trainer.env.fake_tensordict())


def test_rows_have_rewards_that_are_clipped_alike(source, tmp_path):
    with pytest.raises(
        ConfigError, match=r"training.clip_rewards must be as in the run .* got 5.0, there it is None\. L"
    ):
        started(source, tmp_path, training={"init_parts": ["buffer"], "clip_rewards": 5.0})


def test_how_critics_would_value_choices_is_no_matter_to_what_is_loaded(source, tmp_path):
    """The actions are continuous; where they are not, the shapes of critics differ, and actors are the same."""
    (line,) = started(source, tmp_path, model={"choices_as": "output"}).start_lines
    assert line.endswith("agents: actor, critic, normalizer")


def test_loaded_actors_act_in_the_warm_up(source, tmp_path):
    trainer = started(source, tmp_path, training={"warmup_frames": 64})
    trainer._warm_up()
    assert trainer.policy.random_groups == frozenset()


@pytest.mark.slow
def test_a_resumed_run_does_not_load_again(source, tmp_path):
    config = make(training={"init_from": str(source), "total_frames": 64})
    with Trainer(config, tmp_path, console=QUIET) as trainer:
        trainer.run()
    gone = replace(config, training=replace(config.training, init_from=str(source)))
    source.rename(source.with_name("moved"))
    try:
        with Trainer(gone, tmp_path, console=QUIET, resumes=True) as resumed:
            assert resumed.start_lines == []
            assert resumed.frames == 64
    finally:
        source.with_name("moved").rename(source)


def test_the_buffer_comes_too(source, tmp_path):
    parts = ["actor", "critic", "normalizer", "buffer"]
    trainer = started(source, tmp_path / "a", training={"init_parts": parts})
    assert len(trainer.replay) == 160
    assert trainer.start_lines[0].endswith(", 160 rows of its buffer")
    alone = started(source, tmp_path / "alone", training={"init_parts": ["buffer"]})
    assert alone.start_lines[0].endswith("(160 frames), 160 rows of its buffer")
    smaller = started(source, tmp_path / "b", training={"init_parts": parts, "buffer_size": 100})
    assert torch.equal(
        smaller.replay.rows(0, 100)["agents", "observation"], trainer.replay.rows(60, 160)["agents", "observation"]
    )
    with pytest.raises(ConfigError, match=r"entry .*agents/observation of a row: expected \[5, 18\], found \[3, 18\]"):
        started(source, tmp_path / "c", task={"kwargs": {"n_agents": 5}}, training={"init_parts": ["actor", "buffer"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"init_from": "nowhere"}}, "'nowhere' is not a folder"),
        ({"checkpoint": "@frames-7"}, "there is no file 'frames-7'"),
        ({"training": {"normalize_observations": False}}, "training.normalize_observations must be as in the run"),
        ({"training": {"normalize_observations": False, "init_parts": ["actor"]}}, "normalize_observations must be"),
        ({"training": {"normalize_observations": False, "init_parts": ["critic"]}}, "normalize_observations must be"),
        ({"training": {"init_groups": ["wolves"]}}, "training.init_groups must name groups that learn; got 'wolves'"),
        ({"training": {"init_parts": ["actor", "optimizer"]}}, "must have actor and critic of all groups with the opt"),
        (
            {"task": {"scenario": "balance"}},
            r"parameter actor mlp.hidden.0.weight: expected \[16, 16\], found \[18, 16\]",
        ),
        (
            {"task": {"continuous_actions": False}},
            r"group 'agents' has categorical \[9\] actions, the policy continuous \[2\] ones",
        ),
        ({"model": {"activation": "tanh"}}, "model.activation must be as in the run .* got tanh, there it is relu"),
    ],
)
def test_what_does_not_fit_gets_one_line(source, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        started(source, tmp_path, **changes)
    assert "\n" not in str(error.value)
