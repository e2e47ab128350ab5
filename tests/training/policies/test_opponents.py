"""Groups that something else than a learning actor acts for."""

import pytest
import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.groups import read_groups
from masac.training.config import TrainingConfig
from masac.training.policies.policy import learning_groups
from masac.training.policies.saved_policy import load_policy, make_policy, save_policy
from tests.training.policies.common import pettingzoo, save_run, untrained
from tests.training.policies.opponents import TUG, policy_of, state


@set_exploration_type(ExplorationType.DETERMINISTIC)
def acted(policy, data):
    with torch.no_grad():
        return policy(data.clone())


def test_a_frozen_group_acts_as_in_its_run(tmp_path):
    other = load_policy(save_run(tmp_path / "run", TUG, normalize_observations=True))
    other.normalizers["blue"].merge(10, torch.ones(2).double(), 10 * torch.ones(2).double())
    save_policy(tmp_path / "run/policy.pt", other, untrained(TUG, normalize_observations=True)[1], frames=3)
    policy, config, groups = policy_of(TUG, opponents={"blue": f"frozen:{tmp_path}/run"})
    data = state(groups)
    assert torch.equal(acted(policy, data)["blue", "action"], acted(other, data)["blue", "action"])
    assert list(policy.actors) == ["red"]
    assert policy.describe("blue") == f"frozen: {tmp_path}/run, 3 frames"
    save_policy(tmp_path / "policy.pt", policy, config, frames=5)
    (tmp_path / "run").rename(tmp_path / "moved")  # the file has all that acts
    again = load_policy(tmp_path, checkpoint=tmp_path / "policy.pt")
    assert torch.equal(acted(again, data)["blue", "action"], acted(other, data)["blue", "action"])


def test_the_only_group_that_a_run_trained_plays_the_other_side(tmp_path):
    policy, config, groups = policy_of(TUG, opponents={"blue": "random"})
    save_policy(tmp_path / "policy.pt", policy, config, frames=0)
    mirrored, _, _ = policy_of(TUG, opponents={"blue": f"frozen:{tmp_path}"})
    data = state(groups)
    data["blue"] = data["red"].clone()
    assert torch.equal(acted(mirrored, data)["blue", "action"], acted(policy, data)["red", "action"])
    assert mirrored.describe("blue").startswith("frozen as red: ")


def test_a_script_acts_and_is_checked():
    policy, _, groups = policy_of(TUG, opponents={"blue": "scripted:tests.envs.scripts:pull"})
    assert torch.equal(acted(policy, state(groups))["blue", "action"], torch.ones(5, 2, 1))
    for name, message in {
        "too_hard": r"must return actions within their bounds \(-1 and 1\); got 2 to 2",
        "wrong_shape": r"must return actions of shape \[5, 2, 1\]; got \[5\]",
        "broken": "must not fail; got ZeroDivisionError: the rope ran out. Fix the function",
        "words": r"must return a tensor or array of shape \[5, 2, 1\]; got str",
    }.items():
        policy, _, groups = policy_of(TUG, opponents={"blue": f"scripted:tests.envs.scripts:{name}"})
        with pytest.raises(ConfigError, match=f"training.opponents.blue .scripted: .*{message}"):
            acted(policy, state(groups))


def test_scripts_with_action_masks():
    task = pettingzoo(factory="tests.envs.factories:parts")  # of 11 choices, the one with number 7 is legal
    task_groups = policy_of(task)[2]
    data = state(task_groups)
    mask = torch.zeros(5, 2, 11, dtype=torch.bool)
    mask[..., 7] = True
    data["car"].set("action_mask", mask)
    opponents = {name: policy_of_car(task, name).opponents["car"] for name in ("legal", "illegal")}
    assert torch.equal(opponents["legal"](data).flatten(), torch.full((10,), 7))
    with pytest.raises(ConfigError, match="must return choices that the action mask allows; got 0"):
        opponents["illegal"](data)


def policy_of_car(task, name):
    """A policy whose only group is scripted, which a run could not have: nothing would learn."""
    env = make_env(task, num_envs=1, seed=0)
    groups = read_groups(env)
    env.close(raise_if_closed=False)
    _, config = untrained(task, opponents={"car": f"scripted:tests.envs.scripts:{name}"})
    return make_policy(groups, [], config)


@pytest.mark.parametrize(
    ("opponents", "message"),
    [
        ({"green": "random"}, "training.opponents must name groups of the task; got 'green'. There are: red, blue."),
        ({"red": "random", "blue": "random"}, "a group must learn"),
        ({"blue": "frozen:nowhere"}, "training.opponents.blue must be frozen:RUN_DIR of a run: .*'nowhere' is not a f"),
        ({"blue": "scripted:tests.envs.scripts:nothing"}, "training.opponents.blue must be package.module:function"),
        ({"blue": "scripted:tests.envs.scripts:NOT_CALLABLE"}, "training.opponents.blue must name a function; got"),
    ],
)
def test_an_opponent_that_does_not_exist_gets_one_line(opponents, message):
    with pytest.raises(ConfigError, match=message):
        policy_of(TUG, opponents=opponents)


@pytest.mark.parametrize("text", ["frozen", "frozen:", "scripted:module", "strong", "random:1", ""])
def test_other_forms_are_refused(text):
    with pytest.raises(ConfigError, match=r"training.opponents.blue must be random, frozen:RUN_DIR\["):
        TrainingConfig(opponents={"blue": text})


def test_a_frozen_run_with_other_spaces_is_refused(tmp_path):
    save_run(tmp_path / "wide", pettingzoo(factory="tests.envs.two_teams:tug", features=3))
    save_run(tmp_path / "discrete", pettingzoo(factory="tests.envs.two_teams:tug", discrete=True))
    for name, message in {
        "wide": r"group 'blue', parameter actor mlp.hidden.0.weight: expected \[2, 8\], found \[3, 8\]",
        "discrete": r"group 'blue' has continuous \[1\] actions, the policy categorical \[3\] ones",
    }.items():
        with pytest.raises(ConfigError, match=f"must be a run with the same observations and actions; .*{message}"):
            policy_of(TUG, opponents={"blue": f"frozen:{tmp_path / name}"})


def test_a_group_with_an_opponent_cannot_learn_too():
    groups = policy_of(TUG)[2]
    with pytest.raises(ConfigError, match="a group must either learn or have an opponent in its place; 'blue' is in"):
        learning_groups(groups, ("blue",), {"blue": "random"})
    assert [group.name for group in learning_groups(groups, None, {"blue": "self-play"})] == ["red", "blue"]


def test_opponents_act_in_the_warm_up(tmp_path):
    policy, _, _ = policy_of(TUG, opponents={"blue": "scripted:tests.envs.scripts:pull"})
    assert policy.explorers(()) == {"red"}
    assert policy.explorers({"red"}) == frozenset()
