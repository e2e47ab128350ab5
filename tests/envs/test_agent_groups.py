"""What agents and groups may be called, and who is in a group."""

import pytest
from torch import nn

from masac.envs.agent_groups import read_agent_groups, vmas_groups
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.groups import TAKEN_NAMES, check_group_name, read_groups
from tests.envs.factories import Spaces
from tests.envs.misbehaving import Walkers

NAMED = "tests.envs.named_scenario:Named"


def groups_of(*names):
    return read_agent_groups(Walkers(names=names))


def vmas(scenario=NAMED, **kwargs):
    return make_env(TaskConfig(scenario=scenario, kwargs=kwargs, horizon=5), num_envs=2, seed=0)


@pytest.mark.parametrize("name", ["keys", "next", "items", "training", "loss", "forward", "done", "eval", "index"])
def test_ambiguous_group_names_are_errors_in_both_suites(name):
    agents = [f"{name}_0", f"{name}_1"]
    message = f"agents must have names .* use '{name}' for .* got {name}_0, {name}_1. Rename .* example {name}_agent_0"
    with pytest.raises(ConfigError, match=message):
        groups_of(*agents)
    with pytest.raises(ConfigError, match=message):
        vmas(names=agents)
    assert groups_of(f"{name}_agent_0") == {f"{name}_agent": [f"{name}_agent_0"]}


def test_every_name_that_is_let_through_can_be_that_of_a_module():
    for name in dir(nn.ModuleDict()):
        try:
            check_group_name(name)
        except ConfigError:
            continue
        nn.ModuleDict({name: nn.Identity()})
    assert {"next", "done", "eval"} <= TAKEN_NAMES


@pytest.mark.parametrize("name", ["a.b", "a/b", "a\\b", ""])
def test_group_names_with_dots_or_slashes_are_refused(name):
    with pytest.raises(ConfigError, match="a group must have a name without dots and slashes"):
        check_group_name(name)


def test_names_of_groups_can_be_those_of_files():
    assert groups_of("red/uav_0", "red/uav_1", "blue team 1") == {
        "red_uav": ["red/uav_0", "red/uav_1"],
        "blue_team": ["blue team 1"],
    }
    assert vmas_groups(["red/uav_0", "red/uav_1"]) == {"red_uav": ["red/uav_0", "red/uav_1"]}
    assert vmas_groups(["läufer_0"]) == {"läufer": ["läufer_0"]}


def test_no_agent_is_lost_where_names_of_groups_meet():
    from gymnasium.spaces import Box, Discrete

    two, three = Box(-1, 1, (2,)), Box(-1, 1, (3,))
    observations = {"a_0": two, "a_1": three, "a1_0": two, "b.c_0": two, "b_c_0": two, 3: two, "agent_0": two}
    groups = read_agent_groups(Spaces(observations, dict.fromkeys(observations, Discrete(2))))
    assert sorted(str(agent) for members in groups.values() for agent in members) == sorted(map(str, observations))
    assert groups["a1"] == ["a_0"]
    assert groups["a1_2"] == ["a1_0"]
    assert (groups["b_c"], groups["b_c_2"]) == (["b.c_0"], ["b_c_0"])
    assert groups["agent"] == [3, "agent_0"]


def test_an_agent_that_is_listed_twice_is_an_error():
    with pytest.raises(ConfigError, match="possible_agents of the environment must list every agent once; got 'a_0' 2"):
        groups_of("a_0", "a_1", "a_0")
    with pytest.raises(ConfigError, match="agents of a scenario must have different names"):
        vmas_groups(["a_0", "a_0"])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["agent_0", "agent_1"], {"agents": ["agent_0", "agent_1"]}),
        (["scout_0", "tank_0", "scout_1"], {"scout": ["scout_0", "scout_1"], "tank": ["tank_0"]}),
        (["alice", "bob_0"], {"agents": ["alice", "bob_0"]}),
        (["agent0", "agent1"], {"agents": ["agent0", "agent1"]}),
        (["a_b_0", "a_b_1", "agent_0"], {"a_b": ["a_b_0", "a_b_1"], "agent": ["agent_0"]}),
    ],
)
def test_vmas_agents_are_grouped_as_torchrl_groups_them(names, groups):
    from torchrl.envs.libs.vmas import VmasEnv

    assert vmas_groups(names) == groups
    assert VmasEnv._get_default_group_map(None, names) == groups


@pytest.mark.parametrize(("differs", "what"), [("sight", "observations"), ("strength", "actions")])
@pytest.mark.parametrize("names", [["agent_0", "agent_1"], ["alice", "bob"]])
def test_unlike_agents_in_a_vmas_group_are_an_error(differs, what, names):
    with pytest.raises(ConfigError, match=f"got {what} of {names[0]} in .*, of {names[1]} in .*scout_0 and tank_0"):
        vmas(names=names, odd=names[1], differs=differs)
    groups = read_groups(vmas(names=["scout_0", "tank_0"], odd="tank_0", differs=differs))
    assert [group.name for group in groups] == ["scout", "tank"]
    assert [group.observation_dim for group in groups] == [2, 4 if differs == "sight" else 2]
    assert groups[1].action_spec.space.high.max() == (1.0 if differs == "sight" else 2.0)


def test_observations_of_a_scenario_that_are_dicts_are_an_error():
    with pytest.raises(ConfigError, match=r"observations of a VMAS scenario must be tensors .*; got Dict.* of agent_0"):
        vmas("tests.envs.named_scenario:DictSight", names=["agent_0"])
