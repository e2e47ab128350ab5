"""Evaluation episodes."""

import random

import numpy as np
import torch

from masac.algorithm import AlgorithmConfig, make_actor
from masac.envs.config import TaskConfig
from masac.envs.vmas.make import make_vmas_env
from masac.groups import read_groups
from masac.plotting.statistics import wilson_interval
from masac.training.evaluator import evaluate
from masac.training.logging import metrics
from masac.training.policies.policy import Policy
from tests.training.common import SMALL


class Still(Policy):
    """A policy that does nothing."""

    def forward(self, data):
        return data.set(("agents", "action"), torch.zeros(*data.batch_size, self.groups[0].n_agents, 2))


def test_evaluation_counts_each_environments_first_episode_alone():
    task = TaskConfig(scenario="tests.envs.own_scenario:Scenario", horizon=8)
    env = make_vmas_env(task, num_envs=4, seed=0)
    found = evaluate(Still(read_groups(env), {}, {}), env, seed=0, success="terminated")
    assert found.successes is not None
    assert found.successes.tolist() == [True, False, True, False]
    short, full, *_ = found.lengths.tolist()
    assert found.lengths.tolist() == [short, full, short, full]
    assert (short < 8, full) == (True, 8)
    assert found.returns["agents"].abs().max() == 0
    assert found.lives["agents"][:, 0].tolist() == found.lengths.tolist()
    numbers = metrics.evaluation_numbers(found, ["agents"])
    assert numbers["eval/success_rate"] == 0.5
    assert (numbers["eval/success_low"], numbers["eval/success_high"]) == wilson_interval(2, 4)
    assert numbers["agents/eval/life_mean"] == (short + full) / 2


def test_evaluating_twice_gives_the_same():
    task = TaskConfig(horizon=20)
    env = make_vmas_env(task, num_envs=8, seed=0)
    (group,) = read_groups(env)
    policy = Policy([group], {"agents": make_actor(group, AlgorithmConfig(), SMALL)}, {})
    first, second = (evaluate(policy, env, seed=3, success=None) for _ in range(2))
    assert torch.equal(first.returns["agents"], second.returns["agents"])
    assert first.successes is None
    other = evaluate(policy, env, seed=4, success=None)
    assert not torch.equal(other.returns["agents"], first.returns["agents"])


def test_evaluation_noise_is_seeded_and_leaves_training_alone():
    env = make_vmas_env(TaskConfig(horizon=20), num_envs=8, seed=0)
    (group,) = read_groups(env)
    policy = Policy([group], {"agents": make_actor(group, AlgorithmConfig(), SMALL)}, {})
    state = torch.get_rng_state()
    first = evaluate(policy, env, seed=3, success=None, stochastic=True)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    second = evaluate(policy, env, seed=3, success=None, stochastic=True)
    assert torch.equal(first.returns["agents"], second.returns["agents"])
    plain = evaluate(policy, env, seed=3, success=None)
    assert not torch.equal(first.returns["agents"], plain.returns["agents"])


def test_environments_that_draw_from_global_random_numbers_leave_training_alone():
    class Draws(Still):
        def forward(self, data):
            drawn.append((np.random.rand(), random.random()))
            return super().forward(data)

    env = make_vmas_env(TaskConfig(horizon=3), num_envs=2, seed=0)
    policy, drawn = Draws(read_groups(env), {}, {}), []
    states = [np.random.get_state()[1].tolist(), random.getstate()]
    evaluate(policy, env, seed=3, success=None)
    assert [np.random.get_state()[1].tolist(), random.getstate()] == states
    np.random.rand()
    evaluate(policy, env, seed=3, success=None)
    assert drawn[:3] == drawn[3:]
