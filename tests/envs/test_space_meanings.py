"""What the numbers of observations and actions mean, tried on the environments themselves."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Dict

from masac.envs.config import TaskConfig
from masac.envs.pettingzoo.build import build
from masac.envs.registry import make_env
from masac.envs.space_meanings import read_spaces
from masac.errors import ConfigError
from tests.envs.factories import NESTED, NESTED_VALUE, PICTURED_VALUE


def factory(name, **kwargs):
    return TaskConfig(
        suite="pettingzoo", scenario=None, factory=f"tests.envs.factories:{name}", kwargs=kwargs, horizon=None
    )


def written(parts, observation):
    """One agent's observation as its parts say, in no more than Python and NumPy: what a robot does."""
    vector = np.full(parts[-1].offset + parts[-1].size, np.nan, np.float32)
    for part in parts:
        value = observation
        for key in part.path:
            value = value[key]
        numbers = np.asarray(value).reshape(-1)
        if part.encoding == "one-hot":
            rows = zip(numbers, part.choices, part.start, strict=True)
            numbers = np.concatenate([np.arange(choices) + start == number for number, choices, start in rows])
        vector[part.offset : part.offset + part.size] = numbers / part.divide_by
    return vector


def test_nested_observations_are_written_as_their_parts_say():
    task = factory("nested")
    (spaces,) = read_spaces(task).values()
    assert spaces.agents == ("a_0",)
    paths = {part.path: (part.encoding, part.divide_by) for part in spaces.parts}
    assert paths == {
        ("bits",): ("values", 1),
        ("camera",): ("values", 255),
        ("inner", "kind"): ("one-hot", 1),
        ("inner", "pair", 0): ("one-hot", 1),
        ("inner", "pair", 1): ("values", 1),
        ("position",): ("values", 1),
    }
    kind = next(part for part in spaces.parts if part.path == ("inner", "kind"))
    assert (kind.choices, kind.start, kind.shape, kind.dtype) == ((3,), (1,), (), "int64")
    seen = make_env(task, num_envs=1, seed=0).reset()["a", "observation"][0, 0]
    np.testing.assert_array_equal(written(spaces.parts, NESTED_VALUE), seen.numpy())
    assert isinstance(NESTED, Dict)


def test_images_in_a_tuple_are_divided_as_those_beside_it_are():
    task = factory("pictured")
    (spaces,) = read_spaces(task).values()
    seen = make_env(task, num_envs=1, seed=0).reset()["a", "observation"][0, 0].numpy()
    expected = np.float32([0.2, 0.2, 0.2, 0.2, 0, 0, 1, 3, 1])  # 51 / 255; a choice of 2; bytes up to 3
    np.testing.assert_allclose(seen[:9], expected)
    np.testing.assert_allclose(seen, written(spaces.parts, PICTURED_VALUE))
    seen = make_env(factory("bytes_only"), num_envs=1, seed=0).reset()["a", "observation"][0, 0].numpy()
    np.testing.assert_allclose(seen, [1, 0.2, 3, 1])


def test_torchrl_environments_say_what_their_specs_do():
    task = factory("torch_env")
    (spaces,) = read_spaces(task).values()
    assert [part.path for part in spaces.parts] == [("camera",), ("kind",), ("place",)]
    env = make_env(task, num_envs=1, seed=0)
    vectors, camera = env.reset()["agents", "observation"][0], np.full((2, 2), 51)
    observed = [{"camera": camera, "kind": kind, "place": place} for kind, place in ((0, [0.5, 0.0]), (2, [0.25, 0.0]))]
    for vector, seen in zip(vectors, observed, strict=True):
        np.testing.assert_array_equal(written(spaces.parts, seen), vector.numpy())
    assert spaces.agents == ("agents_0", "agents_1")


def test_actions_have_the_environments_shape_and_lowest_choice():
    forms = {group: (s.action_shape, s.action_start) for group, s in read_spaces(factory("all_actions")).items()}
    assert forms == {
        "discrete": ((), (5,)),
        "several": ((2,), (0, 0)),
        "binary": ((3,), (0, 0, 0)),
        "box": ((2, 2), ()),
    }
    raw = build(factory("all_actions"), num_envs=1)
    for agent in ("discrete_0", "several_0", "binary_0"):
        shape, start = forms[agent.removesuffix("_0")]
        space = raw.action_space(agent)
        assert space.contains(np.array(start, space.dtype).reshape(shape)[()])


def test_vmas_says_what_a_choice_sets():
    task = TaskConfig(scenario="flocking", kwargs={"n_agents": 2}, continuous_actions=False)
    (spaces,) = read_spaces(task).values()
    assert spaces.agents == ("agent_0", "agent_1")
    assert [(part.path, part.size) for part in spaces.parts] == [((), 18)]
    # Of each axis 0 is nothing, 1 back, 2 forth; the second axis changes first.
    assert spaces.controls == tuple(itertools.product((0.0, -1.0, 1.0), repeat=2))


def test_vmas_agents_that_speak_set_what_they_say():
    task = TaskConfig(scenario="simple_reference", continuous_actions=False)
    (spaces,) = read_spaces(task).values()
    assert spaces.controls is not None
    assert len(spaces.controls) == 90
    said = torch.tensor(spaces.controls)[:, 2:]
    assert torch.equal(said, torch.eye(10).repeat(9, 1))


@pytest.mark.parametrize("names", [["place"], ["place", "speed"]])
def test_an_environment_may_name_its_features(monkeypatch, names):
    monkeypatch.setattr(
        "tests.envs.scripted.ScriptedDeaths.observation_names", lambda self, agent: names, raising=False
    )
    task = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None)
    size = read_size(task)
    if len(names) == size:
        assert next(iter(read_spaces(task).values())).feature_names == tuple(names)
    else:
        message = rf"observation_names\(agent\) .* must name {size} features, .*; it names {len(names)} for 'a_0'\."
        with pytest.raises(ConfigError, match=message):
            read_spaces(task)


def read_size(task):
    env = make_env(task, num_envs=1, seed=0)
    return env.reset()["a", "observation"].shape[-1]
