"""Policies from disk."""

import pytest
import torch

import masac
from masac.checks import ConfigError
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.training.trainer import Trainer
from tests.training.test_trainer import QUIET, tiny

SCRIPTED = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None, num_envs=8)


@pytest.mark.parametrize("task", [None, SCRIPTED])
def test_a_loaded_policy_acts_in_a_rollout_as_the_trained_one(tmp_path, task):
    made = tiny(training={"normalize_observations": True})
    config = made if task is None else type(made)(**{**vars(made), "task": task})
    with Trainer(config, tmp_path, console=QUIET) as trainer:
        trainer.run()
        policy = masac.load_policy(tmp_path)
        env = make_env(config.task, num_envs=2, seed=0)
        rollouts = []
        for acts in (policy, trainer.policy):
            env.set_seed(3)
            rollouts.append(env.rollout(5, acts))
    (group,) = policy.groups
    assert torch.equal(rollouts[0][group.name, "action"], rollouts[1][group.name, "action"])
    assert not policy.training
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), trainer.policy.parameters(), strict=True))


def test_a_policy_trained_on_a_device_that_is_not_here_loads(tmp_path):
    with Trainer(tiny(), tmp_path, console=QUIET) as trainer:
        trainer.run()
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    saved["about"] = saved["about"].replace('"device": "auto"', '"device": "cuda:7"')
    torch.save(saved, tmp_path / "elsewhere.pt")
    assert masac.load_policy(tmp_path, checkpoint=tmp_path / "elsewhere.pt")


def test_what_cannot_be_loaded_is_said(tmp_path):
    with Trainer(tiny(), tmp_path, console=QUIET) as trainer:
        trainer.run()
    with pytest.raises(ConfigError, match="must be a folder that masac train wrote"):
        masac.load_policy(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"a run must have a policy\.pt or a checkpoint for its last policy"):
        masac.load_policy(tmp_path / "checkpoints")
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    saved["about"] = saved["about"].replace('"n_agents": 3', '"n_agents": 4', 2)
    saved["policy"] = {name: value[..., :1] for name, value in saved["policy"].items()}
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="must fit the environment vmas/navigation as it is installed here"):
        masac.load_policy(tmp_path, checkpoint=tmp_path / "other.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "policy.pt").read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"must be a policy that masac wrote; it is damaged"):
        masac.load_policy(tmp_path, checkpoint=tmp_path / "torn.pt")
