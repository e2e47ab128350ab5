"""Real VMAS scenarios."""

import pytest
import torch
from torchrl.envs.utils import check_env_specs

from masac.envs.config import TaskConfig
from masac.envs.vmas.make import make_vmas_env
from masac.envs.vmas.names import vmas_scenarios
from masac.errors import ConfigError
from masac.groups import read_groups

NAVIGATION = TaskConfig(kwargs={"n_agents": 3, "shared_rew": False}, horizon=5)
OWN = "tests.envs.own_scenario:Scenario"
SEVERAL_GROUPS = {
    "simple_adversary",
    "simple_crypto",
    "simple_push",
    "simple_speaker_listener",
    "simple_tag",
    "simple_world_comm",
}
MAIN = [
    *("balance", "ball_passage", "ball_trajectory", "buzz_wire", "discovery", "dispersion", "dropout", "flocking"),
    *("football", "give_way", "joint_passage", "joint_passage_size", "multi_give_way", "navigation", "passage"),
    *("reverse_transport", "road_traffic", "sampling", "transport", "wheel", "wind_flocking"),
    *("simple", "simple_reference", "simple_spread", *sorted(SEVERAL_GROUPS)),
]


def make(task, num_envs=4, seed=0):
    return make_vmas_env(task, num_envs=num_envs, seed=seed)


@pytest.mark.parametrize("scenario", MAIN)
def test_every_scenario_builds_and_its_groups_are_read(scenario):
    groups = read_groups(make(TaskConfig(scenario=scenario), num_envs=2))
    assert (len(groups) > 1) == (scenario in SEVERAL_GROUPS)
    assert all(group.discrete is None for group in groups)


def test_navigation_passes_torchrls_checks():
    env = make(NAVIGATION)
    check_env_specs(env)
    (group,) = read_groups(env)
    assert (group.name, group.n_agents, group.observation_dim) == ("agents", 3, 18)
    assert group.action_spec.shape == (3, 2)


def test_the_horizon_is_a_truncation_not_a_termination():
    env = make(NAVIGATION)
    rollout = env.rollout(5, break_when_any_done=False)
    last = rollout["next"][:, -1]
    assert last["truncated"].all()
    assert not last["terminated"].any()
    assert not rollout["next"][:, :-1]["truncated"].any()


def test_partial_resets_leave_other_environments_alone():
    env = make(TaskConfig(scenario=OWN, horizon=100))
    data = env.reset()
    data["agents", "action"] = torch.ones(4, 2, 2)
    data, following = env.step_and_maybe_reset(data)
    while not data["next", "terminated"].any():
        following["agents", "action"] = torch.ones(4, 2, 2)
        data, following = env.step_and_maybe_reset(following)
    terminated = data["next", "terminated"].squeeze(-1)
    moved = following["agents", "observation"].abs().sum((1, 2)) > 0
    assert terminated.tolist() == [True, False, True, False]
    assert moved.tolist() == [False, True, False, True]  # a reset puts agents back to the origin
    assert following["step_count"].squeeze(-1).tolist() == [0, data["step_count"][1].item() + 1] * 2


def test_a_scenario_of_ones_own():
    (group,) = read_groups(make(TaskConfig(scenario=OWN, kwargs={"n_agents": 5})))
    assert (group.n_agents, group.observation_dim) == (5, 4)


def test_seeds_decide_and_environments_do_not_disturb_each_other():
    def steps(env, between=lambda: None):
        torch.manual_seed(0)
        env.set_seed(7)
        data, seen = env.reset(), []
        for _ in range(12):
            between()
            data["agents", "action"] = torch.zeros(4, 3, 2)
            data, following = env.step_and_maybe_reset(data)
            seen.append(following["agents", "observation"])
            data = following
        return torch.stack(seen)

    other = make(NAVIGATION, seed=3)
    alone = steps(make(NAVIGATION))
    disturbed = steps(make(NAVIGATION), between=other.reset)
    assert torch.equal(alone, disturbed)
    assert not torch.equal(make(NAVIGATION, seed=1).reset()["agents", "observation"], alone[0])


def test_an_unknown_scenario_is_an_error_that_lists_close_names():
    with pytest.raises(
        ConfigError, match=r"task.scenario must be a VMAS scenario; got 'navigatoin'. Did you mean navigation"
    ):
        make(TaskConfig(scenario="navigatoin"))
    assert "simple_spread" in vmas_scenarios()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.envs.nowhere:Scenario", "importable from here"),
        ("tests.envs.own_scenario:Nothing", "importable from here"),
        ("tests.envs.own_scenario:NoScenario", "must name a subclass of vmas's BaseScenario"),
    ],
)
def test_a_scenario_of_ones_own_that_is_none_is_an_error(name, message):
    with pytest.raises(ConfigError, match=message):
        make(TaskConfig(scenario=name))


def test_an_unknown_keyword_of_a_scenario_is_an_error():
    with pytest.raises(
        ConfigError,
        match=r"task.kwargs must be keywords of the scenario 'navigation'; got n_agnets, which it never looks up. "
        r"Did you mean n_agents\?$",
    ):
        make(TaskConfig(kwargs={"n_agnets": 3, "collisions": False}))
    with pytest.raises(ConfigError, match=r"task.kwargs must fit the scenario .*unknown"):
        make(TaskConfig(scenario=OWN, kwargs={"unknown": 3}))
    with pytest.raises(ConfigError, match=r"task.kwargs must fit the scenario .*multiple values .*max_steps"):
        make(TaskConfig(kwargs={"max_steps": 3}))


def test_discrete_actions_are_seen_as_such():
    (group,) = read_groups(make(TaskConfig(continuous_actions=False)))
    assert group.discrete is not None


@pytest.mark.parametrize("wrong", [{"num_envs": 0}, {"horizon": 0}, {"suite": "gym"}, {"success": "always"}])
def test_a_task_that_cannot_be_meant_is_an_error(wrong):
    with pytest.raises(ConfigError, match=f"task.{next(iter(wrong))} must"):
        TaskConfig(**wrong)
