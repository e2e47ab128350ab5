"""Training on every VMAS scenario, and on boxes of all kinds: actions keep to their bounds, however these differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from rich.console import Console

from masac.envs.config import TaskConfig
from masac.envs.vmas.names import vmas_scenarios
from masac.errors import ConfigError
from masac.groups import action_bounds
from masac.training.config import EvaluationConfig
from masac.training.trainer import Trainer
from tests.envs.factories import Spaces
from tests.training.common import tiny

BOXES = {
    "equal": ([-1, -1], [1, 1]),
    "unequal": ([-1, -2], [1, 2]),
    "one_sided": ([0, -1], [10, 0.5]),
    "tiny": ([-1e-6, 0], [1e-6, 1e-5]),
    "huge": ([-1e6, 0], [1e6, 3e5]),
    "narrow": ([100, -1], [100.001, 1]),
}
WRONG = {"one_point": ([-1, 0], [1, 0]), "overflow": ([-3e38, -1], [3e38, 1])}


class Bounded(Spaces):
    """Two agents with a box of actions, float32 or float64; raises for an action outside of it."""

    def __init__(self, bounds, dtype):
        low, high = (np.array(bound, dtype) for bound in {**BOXES, **WRONG}[bounds])
        agents = ("a_0", "a_1")
        observations = {agent: Box(-1, 1, (2,)) for agent in agents}
        super().__init__(observations, {agent: Box(low, high, dtype=dtype) for agent in agents})

    def step(self, actions):
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), action
        return super().step(actions)


def bounded(bounds, dtype="float32"):
    return Bounded(bounds, np.dtype(dtype).type)


def boxes(bounds, **kwargs):
    factory = f"{__name__}:bounded"
    return TaskConfig(
        suite="pettingzoo",
        scenario=None,
        factory=factory,
        kwargs={"bounds": bounds, **kwargs},
        num_envs=4,
        horizon=None,
    )


def vmas(scenario):
    return TaskConfig(scenario=scenario, num_envs=2, horizon=8)


def train(task, path, mode, frames):
    """Updates on 16 frames of random actions and more of the policy's; returns the trainer."""
    config = tiny(training={"total_frames": frames, "warmup_frames": frames // 2, "batch_size": 8, "compile": "false"})
    config = replace(config, task=task, evaluation=EvaluationConfig(every_frames=0, episodes=1))
    if mode == "eager":
        config = replace(config, algorithm=replace(config.algorithm, skip_done_states="drop"))
    if mode == "compile":
        config = replace(config, training=replace(config.training, compile="true"))
    with Trainer(config, path, console=Console(quiet=True)) as trainer:
        assert trainer.run().summary["updates"] > 0
    assert trainer.learner.step.mode == mode
    return trainer


def check_executed(trainer, span=0.0):
    """What was executed is inside of every dimension's bounds, and reaches through so much of each."""
    rows = trainer.replay.sample(4).reshape(-1)
    for group in trainer.learning:
        if group.discrete is None:
            low, high = action_bounds(group.action_spec)
            actions = rows[group.name, "action"]
            assert ((actions >= low) & (actions <= high)).all()
            reached = (actions.amax((0, 1)) - actions.amin((0, 1))) / (high - low)
            assert (reached >= span).all(), reached


@pytest.mark.parametrize(
    ("bounds", "mode"),
    [
        ("unequal", "graph"),
        pytest.param("unequal", "compile", marks=pytest.mark.slow),
        *(pytest.param(bounds, "eager", marks=pytest.mark.slow) for bounds in BOXES),
    ],
)
def test_boxes_train_and_actions_span_and_respect_their_bounds(bounds, mode, tmp_path):
    check_executed(train(boxes(bounds), tmp_path, mode, frames=64), span=0.5)


@pytest.mark.slow
def test_bounds_of_float64_train(tmp_path):
    check_executed(train(boxes("unequal", dtype="float64"), tmp_path, "eager", frames=64), span=0.5)


@pytest.mark.parametrize("bounds", WRONG)
def test_bounds_between_which_nothing_lies_are_an_error(bounds, tmp_path):
    with pytest.raises(ConfigError, match="finite bounds, low below high, a finite distance apart"):
        train(boxes(bounds), tmp_path, "graph", frames=64)


@pytest.mark.parametrize("bounds", BOXES)
def test_the_policy_reaches_its_bounds_and_no_further(bounds, tmp_path):
    config = tiny()
    with Trainer(replace(config, task=boxes(bounds)), tmp_path, console=Console(quiet=True)) as trainer:
        (group,) = trainer.learning
        actions = trainer.policy._direct[group.name]
        low, high = action_bounds(group.action_spec)
        for sign, bound in ((-1, low), (1, high)):
            actions.network.distribution_parameters = lambda out, sign=sign: (
                torch.full((*out.shape[:-1], 2), 50.0 * sign),
                torch.ones(*out.shape[:-1], 2),
            )
            for noisy in (True, False):
                action = actions(torch.zeros(2, 2), noisy=noisy)
                assert ((action >= low) & (action <= high)).all()
                assert ((action - bound).abs() <= 1e-5 * (high - low) + 1e-6 * bound.abs()).all()


RESET_TOGETHER = [
    *("balance", "ball_trajectory", "discovery", "dispersion", "dropout", "flocking", "give_way", "multi_give_way"),
    *("navigation", "reverse_transport", "simple", "simple_spread", "simple_tag", "transport", "wheel"),
]
RESET_ONE_BY_ONE = ["ball_passage", "football", "simple_reference", "simple_push", "wind_flocking"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Force limits not specified")  # vel_control's controller
@pytest.mark.parametrize("scenario", vmas_scenarios())
def test_every_scenario_of_vmas_trains(scenario, tmp_path):
    trainer = train(vmas(scenario), tmp_path, "eager", frames=32)
    check_executed(trainer)
    if scenario in (*RESET_TOGETHER, *RESET_ONE_BY_ONE):
        assert trainer.env.joint_resets == (scenario in RESET_TOGETHER)


def test_a_run_with_other_bounds_starts_with_the_actor_of_another_one_alone(tmp_path):
    def start(bounds, name, parts=None):
        training = {"init_from": str(tmp_path / "source"), "init_parts": parts, "batch_size": 8, "compile": "false"}
        config = replace(tiny(training=training), task=boxes(bounds))
        with Trainer(config, tmp_path / name, console=Console(quiet=True)) as trainer:
            return trainer.start_lines

    train(boxes("equal"), tmp_path / "source", "graph", frames=64)
    assert "a: actor, critic" in start("equal", "same", ["actor", "critic", "buffer"])[0]
    first, second = start("unequal", "other")
    assert first.endswith("a: actor")
    assert "the critics start new" in second
    other = r"group 'a' are bounded by low \[-1.0, -2.0\], high \[1.0, 2.0\], there by low \[-1.0, -1.0\], high \[1"
    for part, message in (("critic", "the critic of .* must fit"), ("buffer", "the replay buffer of .* must fit")):
        with pytest.raises(ConfigError, match=f"{message} this run; actions of {other}"):
            start("unequal", part, ["actor", part])
