"""What a user's factory or module may make: all kinds of spaces, TorchRL environments, and mistakes."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torchrl.envs.utils import check_env_specs

from masac.envs.agent_groups import read_agent_groups
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.groups import read_groups
from tests.envs.common import wrap
from tests.envs.factories import all_actions, differing, masked, names

OURS = "tests.envs.factories"


def make(factory=None, *, scenario=None, num_envs=2, kwargs=None, horizon=None, **more):
    factory = None if factory is None else f"{OURS}:{factory}"
    task = TaskConfig(
        suite="pettingzoo", scenario=scenario, factory=factory, kwargs=kwargs or {}, horizon=horizon, **more
    )
    return make_env(task, num_envs=num_envs, seed=0)


# --- observations and actions


def test_nested_observations_concatenate_in_key_order():
    env = make("nested")
    check_env_specs(env)
    observation = env.reset()["a", "observation"]
    assert observation.dtype == torch.float32
    # Gymnasium sorts the keys: bits as they are (they do not reach 255), camera 51 / 255, inner.kind one of 1, 2, 3,
    # inner.pair[0] one of 2 and one of 3, inner.pair[1] as it is, position.
    expected = [0, 1, *[0.2] * 12, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0.5, -0.25]
    assert observation.shape == (2, 1, len(expected))
    assert observation[0, 0].tolist() == pytest.approx(expected)


def test_an_image_below_eight_on_a_side_becomes_numbers_up_to_one():
    observation = make("image", kwargs={"side": 7}).reset()["a", "observation"]
    assert observation.shape == (2, 1, 7 * 7 * 3)
    assert 0.9 < observation.max() <= 1


def test_actions_arrive_as_their_spaces_want_them():
    raw = all_actions()
    env = wrap(raw)
    check_env_specs(env)
    data = env.rand_action(env.reset())
    data["discrete", "action"] = torch.tensor([[1]])
    data["several", "action"] = torch.tensor([[[1, 2]]])
    data["binary", "action"] = torch.tensor([[[1, 0, 1]]])
    data["box", "action"] = torch.tensor([[[0.1, -3.0, 0.5, 1.0]]])
    env.step(data)
    got = raw.got[-1]
    assert all(raw.action_space(agent).contains(action) for agent, action in got.items())
    assert got["discrete_0"] == 6  # starts at 5
    assert got["several_0"].tolist() == [1, 2]
    assert got["binary_0"].tolist() == [1, 0, 1]
    assert got["box_0"].dtype == np.float64
    assert got["box_0"] == pytest.approx(np.array([[0.1, -2.0], [0.5, 1.0]]))  # clipped to its bounds
    sizes = [(group.name, group.discrete and group.discrete.sizes) for group in read_groups(env)]
    assert sizes == [("discrete", (3,)), ("several", (2, 3)), ("binary", (2, 2, 2)), ("box", None)]


@pytest.mark.parametrize(
    ("actions", "mask", "sizes", "legal"),
    [
        (Discrete(3, start=1), [0, 1, 1], (3,), [False, True, True]),
        (MultiDiscrete([2, 2]), [0, 1, 1, 0], (2, 2), [False, True, True, False]),
        (MultiDiscrete([1, 3], start=[4, 0]), [1, 0, 0, 1], (1, 3), [True, False, False, True]),
        (Box(-1, 1, (2,)), [0, 1], None, None),
    ],
)
def test_masks_of_all_kinds_of_actions(actions, mask, sizes, legal):
    raw = masked(actions, mask)
    env = wrap(raw)
    check_env_specs(env)
    (group,) = read_groups(env)
    assert (group.discrete and group.discrete.sizes) == sizes
    assert group.has_action_mask == (legal is not None)
    if legal is not None:
        assert env.reset()["a", "action_mask"].tolist() == [[legal, legal]]
    assert all(actions.contains(action) for got in raw.got for action in got.values())


def test_agents_with_different_spaces_become_separate_groups():
    env = make("differing")
    groups = [(group.name, group.n_agents, group.observation_dim) for group in read_groups(env)]
    assert groups == [("a1", 2, 2), ("a2", 1, 3), ("a3", 1, 2)]
    assert read_agent_groups(differing())["a1"] == ["a_0", "a_2"]


def test_agents_are_grouped_by_their_names_before_the_number():
    check_env_specs(make("names"))
    assert read_agent_groups(names()) == {
        "wolf": ["wolf_0", "wolf_1"],
        "sheep": ["sheep7"],
        "dog": ["dog"],
        "pack_x": ["pack.x_0"],
        "agent": [3, 4],
    }


@pytest.mark.parametrize(
    ("factory", "kwargs", "message"),
    [
        (
            "board",
            {"side": 142},
            r"1 to 20,000 features beside its images; .* 'a' of task.factory=.*:board has 20,164\..*\(model.cnn\)",
        ),
        ("sequence", {}, r"that of 'a_0'\['list'\] is in Sequence"),
        (
            "dict_actions",
            {},
            r"actions must be in a Box of floats, Discrete, .* those of 'a_0'\['say'\]\[0\] are in Text",
        ),
        ("no_agents", {}, r"must list all agents that it may ever have in possible_agents; ScriptedDeaths lists none"),
    ],
)
def test_spaces_that_cannot_be_used_are_errors(factory, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make(factory, kwargs=kwargs)


def test_an_agent_that_possible_agents_does_not_list_is_an_error():
    with pytest.raises(ConfigError, match=r"must list every agent; got 'b_0' among its agents, but only 'a_0', 'a_1'"):
        make("stranger").reset()


def test_an_observation_of_the_wrong_shape_is_an_error():
    with pytest.raises(
        ConfigError, match=r"observation of agent 'a_0' must be in .*\(2,\).*; got ndarray of shape \[3\]"
    ):
        make("wrong_shape").reset()


# --- kinds of environments


def test_an_aec_environment_that_can_be_converted_is():
    env = make("aec")
    check_env_specs(env)
    assert env.rollout(5, break_when_any_done=False)["next", "a", "truncated"][:, 4, 1:].all()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"factory": "turn_based"}, "agents take turns .AEC.. Turn-based games are not supported"),
        ({"scenario": "pettingzoo.classic.tictactoe_v3"}, "Turn-based games are not supported"),
        ({"factory": "single_agent"}, "must be an environment of several agents; got .*CartPole"),
        ({"factory": "nothing"}, "must make a PettingZoo ParallelEnv or a TorchRL EnvBase; it made int"),
        ({"factory": "missing"}, "must be package.module:function, importable from here"),
        ({"factory": "NOT_CALLABLE"}, "must name a function"),
        ({"factory": "unwilling"}, r"task.kwargs must fit task.factory=.*:unwilling; got \{\}.*size"),
        ({"factory": "unwilling", "kwargs": {"size": 3}}, "no world has size 3"),
        ({"scenario": "tests.envs.nowhere"}, "must be a module that can be imported; got 'tests.envs.nowhere'"),
        ({"scenario": "tests.envs.own_scenario"}, "must be a module with a parallel_env function"),
        ({"scenario": "mpe2.simple_spread_v3", "kwargs": {"n": 3}}, r"task.kwargs must fit .*unexpected keyword"),
        ({"scenario": "mpe2.simple_spread_v2"}, "There is mpe2.simple_spread_v3"),
        ({"scenario": "pettingzoo.sisl.pursuit_v4"}, "There is pettingzoo.sisl.pursuit_v5"),
        ({"scenario": "mpe2.simple_spraed_v3"}, "Did you mean mpe2.simple_spread_v3"),
        ({"scenario": "pettingzoo.mpe.simple_tag_v3"}, "moved to the package mpe2: mpe2.simple_tag_v3"),
        ({"scenario": "mpe.simple_tag_v2"}, "moved to the package mpe2: mpe2.simple_tag_v3"),
        ({"scenario": "simple_tag"}, "There is mpe2.simple_tag_v3"),
        ({"scenario": "pettingzoo.atari.pong_v3"}, r"needs the package 'multi_agent_ale_py'.*pip install \"pettingzoo"),
    ],
)
def test_an_unusable_environment_is_a_clear_error(how, message):
    with pytest.raises(ConfigError, match=message):
        make(**how)


def test_a_factory_without_a_module_is_an_error():
    with pytest.raises(ConfigError, match=r"must be package\.module:function"):
        make_env(TaskConfig(suite="pettingzoo", scenario=None, factory="factory"), num_envs=1, seed=0)


# --- TorchRL environments


def test_torchrl_environments_become_vectorised_vectors():
    env = make("torch_env", num_envs=3, horizon=4)
    check_env_specs(env)
    (group,) = read_groups(env)
    assert (group.name, group.n_agents, group.observation_dim) == ("agents", 2, 4 + 3 + 2)
    data = env.rollout(5, break_when_any_done=False)
    assert data.batch_size == (3, 5)
    assert data["agents", "observation"].dtype == torch.float32
    # camera / 255, kind one-hot, place: the count of steps, which starts again after the horizon
    assert data["agents", "observation"][0, 3, 1].tolist() == pytest.approx([*[0.2] * 4, 0, 0, 1, 0.25, 3])
    assert data["agents", "observation"][0, 4, 1, -1] == 0
    assert data["next", "truncated"][0, :, 0].tolist() == [False, False, False, True, False]


def test_a_factory_that_takes_num_envs_may_make_a_batch():
    env = make("torch_batch", num_envs=3, horizon=4)
    assert env.batch_size == (3,)
    assert env.rollout(2)["agents", "observation"].shape[:3] == (3, 2, 2)


@pytest.mark.parametrize(
    ("factory", "kwargs", "message"),
    [
        ("torch_batch_of_three", {}, r"without a batch, or with batch size \[2\]; got \[3\]"),
        ("torch_env", {"grouped": False}, r"must make a multi-agent environment, with actions \[N, ...\]"),
    ],
)
def test_torchrl_environments_without_groups_are_refused(factory, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make(factory, kwargs=kwargs)


# --- the config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"suite": "pettingzoo", "scenario": "a", "factory": "b:c"},
            "task.factory must be null beside task.scenario=a",
        ),
        ({"suite": "pettingzoo", "num_workers": 3}, "task.num_workers must divide task.num_envs=64"),
        ({"suite": "pettingzoo", "num_workers": -1}, "task.num_workers must be at least 0"),
        ({"num_workers": 2}, "task.num_workers must be 0 for task.suite=vmas"),
        ({"horizon": None}, "task.horizon must be a number of steps for task.suite=vmas"),
        ({"factory": "a:b"}, "task.factory must be null for task.suite=vmas"),
        ({"scenario": None}, "task.scenario must be a VMAS scenario"),
    ],
)
def test_a_task_that_contradicts_itself_is_an_error(wrong, message):
    with pytest.raises(ConfigError, match=message):
        TaskConfig(**wrong)


def test_the_name_of_a_task_is_that_of_its_scenario_or_factory():
    assert TaskConfig(suite="pettingzoo", scenario="mpe2.simple_tag_v3").name == "simple_tag_v3"
    assert TaskConfig(suite="pettingzoo", scenario=None, factory="a.b:make").name == "make"
