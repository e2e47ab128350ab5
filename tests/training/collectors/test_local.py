"""The collector, against TorchRL's; acting, against TorchRL's actors."""

import warnings

import pytest
import torch
from torchrl.collectors import Collector as TorchRLCollector
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.libs.vmas import VmasEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.groups import read_groups
from masac.networks.config import ModelConfig
from masac.training.collectors.local import LocalCollector
from masac.training.config import ExperimentConfig
from masac.training.policies.saved_policy import make_policy

SCRIPTED = {"suite": "pettingzoo", "scenario": None, "num_envs": 4}
TASKS = {
    "vmas": TaskConfig(kwargs={"n_agents": 2}, num_envs=4, horizon=5),
    "vmas, ends apart": TaskConfig(scenario="tests.envs.own_scenario:Scenario", num_envs=4, horizon=5),
    "several groups": TaskConfig(scenario="simple_tag", num_envs=4, horizon=3),
    "pettingzoo": TaskConfig(**SCRIPTED, factory="tests.envs.scripted:parallel_env", horizon=5),
    "action masks": TaskConfig(**SCRIPTED, factory="tests.envs.scripted:parallel_env", kwargs={"action_mask": "info"}),
    "several choices": TaskConfig(**SCRIPTED, factory="tests.envs.factories:masked_factors"),
    "workers": TaskConfig(**SCRIPTED, factory="tests.envs.scripted:parallel_env", horizon=5, num_workers=2),
}


def make(task, seed=1):
    env = make_env(task, num_envs=task.num_envs, seed=seed)
    groups = read_groups(env)
    torch.manual_seed(0)
    policy = make_policy(groups, groups, ExperimentConfig(task=task, model=ModelConfig(hidden=(8,))))
    return env, policy


def torchrls(env, policy, frames):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*auto_register_policy_transforms.*", category=FutureWarning)
        return TorchRLCollector(env, policy, frames_per_batch=frames, total_frames=-1)


def assert_same(ours, theirs):
    theirs = theirs.exclude("collector")
    theirs = theirs.flatten(0, -2) if theirs.ndim > 2 else theirs
    assert ours.batch_size == theirs.batch_size
    assert set(ours.keys(True, True)) == set(theirs.keys(True, True))
    for key in ours.keys(True, True):
        assert torch.equal(ours[key], theirs[key]), key


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("task", [pytest.param(t, marks=pytest.mark.slow) if t == "workers" else t for t in TASKS])
def test_all_data_equal_torchrls_collectors(task):
    task = TASKS[task]
    env, policy = make(task)
    again, same_policy = make(task)
    theirs = torchrls(again, same_policy, 4 * 7)
    ours = LocalCollector(env, policy, steps=7)
    try:
        batches = iter(theirs)
        for turn in range(3):
            torch.manual_seed(turn)
            collected = ours.collect()
            torch.manual_seed(turn)
            assert_same(collected, next(batches))
            assert collected["next", "done"].any()
        env.set_seed(3)
        again.set_seed(3)
        ours.reset()
        theirs.reset()
        torch.manual_seed(3)
        collected = ours.collect()
        torch.manual_seed(3)
        assert_same(collected, next(batches))
    finally:
        ours.close()
        theirs.shutdown()
    ours.close()


def test_vmas_data_equal_torchrls_collectors():
    task = TASKS["vmas"]
    env, policy = make(task)
    their_env = VmasEnv("navigation", num_envs=4, seed=1, scenario_kwargs=dict(task.kwargs))
    theirs = torchrls(TransformedEnv(their_env, StepCounter(max_steps=task.horizon)), policy, 4 * 7)
    ours = LocalCollector(env, policy, steps=7)
    for one, collector in ((env, ours), (their_env, theirs)):
        one.set_seed(1)
        collector.reset()
    batches = iter(theirs)
    for turn in range(3):
        torch.manual_seed(turn)
        collected = ours.collect()
        torch.manual_seed(turn)
        expected = next(batches)
        del expected["agents", "info"], expected["next", "agents", "info"]
        assert_same(collected, expected)
        assert collected["next", "truncated"].any()


def test_batches_follow_one_another_and_do_not_share_memory():
    env, policy = make(TASKS["vmas"])
    first, second = (batch for batch, _ in zip(LocalCollector(env, policy, steps=3), range(2), strict=False))
    assert first.batch_size == (4, 3)
    assert torch.equal(second["step_count"][:, 0], first["next", "step_count"][:, -1])
    kept = second.clone()
    for value in first.values(True, True):
        value.zero_()
    assert (second == kept).all()


@pytest.mark.parametrize("task", [task for task in TASKS if task != "workers"])  # who steps, the policy does not see
@pytest.mark.parametrize("kind", [ExplorationType.RANDOM, ExplorationType.DETERMINISTIC])
@torch.no_grad()
def test_a_policy_equals_its_actors_bit_for_bit(task, kind):
    env, policy = make(TASKS[task])
    state = env.reset()
    with set_exploration_type(kind):
        torch.manual_seed(5)
        acted = policy(state.clone())
        stream = torch.get_rng_state()
        torch.manual_seed(5)
        for group in policy.groups:
            expected = policy.actors[group.name](state.clone())[group.name, "action"]
            assert torch.equal(acted[group.name, "action"], expected)
    assert torch.equal(stream, torch.get_rng_state())
    env.close(raise_if_closed=False)
