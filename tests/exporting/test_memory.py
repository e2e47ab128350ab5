"""Exported policies that remember act as in a rollout, if what comes out of a step goes into the next one."""

import json

import numpy as np
import pytest
import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.algorithm import AlgorithmConfig
from masac.envs.registry import make_env
from masac.envs.space_meanings import read_spaces
from masac.exporting.export import export_policy
from masac.exporting.plain_policy import make_plain_policy
from masac.groups import read_groups
from masac.networks.config import ModelConfig
from masac.training.config import ExperimentConfig
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.saved_policy import SavedPolicy, make_policy
from tests.training.policies.common import NAVIGATION


def acted(share, kind):
    """A policy that remembers, and one episode of it without noise, ``[E, T]``."""
    config = ExperimentConfig(
        task=NAVIGATION,
        model=ModelConfig(hidden=(8,), memory=kind, memory_size=4),
        algorithm=AlgorithmConfig(share_actor=share),
    )
    env = make_env(NAVIGATION, num_envs=3, seed=0)
    groups = read_groups(env)
    torch.manual_seed(0)
    policy = make_policy(groups, groups, config)
    policy.normalizers["agents"] = RunningNormalizer(groups[0].observation_dim)
    policy.normalizers["agents"].merge(
        *policy.normalizers["agents"].moments(torch.randn(50, groups[0].observation_dim))
    )
    policy.eval().requires_grad_(False)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        state, steps = policy.begin(env.reset()), []
        for _ in range(4):
            step, state = env.step_and_maybe_reset(policy(state))
            state = policy.carry(step, state)
            steps.append(step)
    return SavedPolicy(policy=policy, config=config, frames=0, file=None), torch.stack(steps, 1)["agents"]


def assert_acts_alike(act, data, state_dim):
    """Whether a function of observation and memory has the actions of the episode."""
    memory = torch.zeros(*data.batch_size[:1], *data.batch_size[2:], state_dim)
    for observation, expected in zip(data["observation"].unbind(1), data["action"].unbind(1), strict=True):
        action, memory = act(observation, memory)
        torch.testing.assert_close(action, expected, atol=1e-5, rtol=1e-5)
    assert memory.abs().min() > 0


@pytest.mark.parametrize(("share", "kind"), [(True, "lstm"), (False, "gru")])
def test_the_policy_and_that_of_one_agent_act_as_in_the_episode(share, kind):
    saved, data = acted(share, kind)
    (group,), state_dim = saved.groups, 8 if kind == "lstm" else 4
    spaces = read_spaces(NAVIGATION)["agents"]
    assert_acts_alike(make_plain_policy(saved.policy, group, spaces), data, state_dim)
    for agent in range(group.n_agents):
        alone = make_plain_policy(saved.policy, group, spaces, agent=agent)
        assert_acts_alike(alone, data[:, :, agent], state_dim)


@pytest.mark.slow
def test_files_take_and_return_the_memory(tmp_path):
    saved, data = acted(True, "gru")
    spaces = read_spaces(NAVIGATION)
    (file,) = export_policy(saved, spaces, tmp_path / "policy.pt2")
    assert_acts_alike(torch.export.load(file).module(), data, 4)
    about = json.loads((tmp_path / "policy.pt2.json").read_text())
    assert about["inputs"]["memory"] == {"shape": ["batch", 2, 4], "dtype": "float32", "first": 0.0}
    assert about["outputs"]["memory_after"]["shape"] == ["batch", 2, 4]
    onnxruntime = pytest.importorskip("onnxruntime")
    (file,) = export_policy(saved, spaces, tmp_path / "policy.onnx", per_agent=True)
    session = onnxruntime.InferenceSession(file)

    def act(observation, memory):
        given = {"observation": observation.numpy(), "memory": memory.numpy()}
        return [torch.from_numpy(np.array(out)) for out in session.run(["action", "memory_after"], given)]

    assert_acts_alike(act, data[:, :, 1], 4)
