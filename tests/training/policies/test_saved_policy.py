"""Policies from disk."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf
from torchrl.envs.utils import ExplorationType, set_exploration_type

import masac
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env
from masac.errors import ConfigError
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny
from tests.training.policies.common import NAVIGATION, save_run

SCRIPTED = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None, num_envs=8)


@pytest.mark.slow
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
    save_run(tmp_path, NAVIGATION)
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    assert '"device": "auto"' in saved["about"]
    saved["about"] = saved["about"].replace('"device": "auto"', '"device": "cuda:7"')
    torch.save(saved, tmp_path / "elsewhere.pt")
    assert masac.load_policy(tmp_path, checkpoint=tmp_path / "elsewhere.pt")


def test_a_policy_is_loaded_without_worker_processes(tmp_path, monkeypatch):
    """A script without ``if __name__ == "__main__"`` may load one."""
    save_run(tmp_path, SCRIPTED)
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    assert '"num_workers": 0' in saved["about"]
    saved["about"] = saved["about"].replace('"num_workers": 0', '"num_workers": 2', 1)
    torch.save(saved, tmp_path / "policy.pt")
    monkeypatch.setattr("masac.envs.worker_processes.WorkerProcesses.__init__", lambda *_, **__: pytest.fail("started"))
    assert masac.load_policy(tmp_path, checkpoint=tmp_path / "policy.pt")


def test_what_cannot_be_loaded_is_said(tmp_path):
    save_run(tmp_path, NAVIGATION)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="must be a folder that masac train wrote"):
        masac.load_policy(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"a run must have a policy\.pt or a checkpoint for its last policy"):
        masac.load_policy(tmp_path / "checkpoints")
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    saved["about"] = saved["about"].replace('"n_agents": 2', '"n_agents": 4', 2)
    saved["policy"] = {name: value[..., :1] for name, value in saved["policy"].items()}
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="must fit the environment vmas/navigation as it is installed here"):
        masac.load_policy(tmp_path, checkpoint=tmp_path / "other.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "policy.pt").read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"must be a policy that masac wrote; it is damaged"):
        masac.load_policy(tmp_path, checkpoint=tmp_path / "torn.pt")


OWN = TaskConfig(
    suite="pettingzoo", scenario=None, factory="my_own:make", kwargs={"n_agents": 2}, horizon=7, num_envs=3
)


def test_load_env_returns_the_runs_environment(tmp_path, monkeypatch):
    (tmp_path / "my_own.py").write_text(
        "from tests.envs.scripted import ScriptedDeaths\n\n"
        "def make(n_agents):\n    assert n_agents == 2\n    return ScriptedDeaths()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part not in ("", str(tmp_path))])
    with pytest.raises(ConfigError, match="must be a folder that masac train wrote"):
        masac.load_env("runs/mine")  # makes the folder importable, too
    save_run(tmp_path / "run", OWN)
    policy = masac.load_policy("run")
    env = masac.load_env("run", num_envs=2, seed=5)
    again = masac.load_env("run", num_envs=2, seed=5)
    assert masac.load_env("run").batch_size == (3,)
    steps, same = (one.rollout(20, policy, break_when_any_done=False) for one in (env, again))
    assert steps.batch_size == (2, 20)
    assert not steps["a", "action"].requires_grad
    assert torch.equal(steps["a", "observation"], same["a", "observation"])
    with pytest.raises(ConfigError, match="num_envs must be at least 1; got 0"):
        masac.load_env("run", num_envs=0)


def test_a_policy_of_another_version_is_refused(tmp_path):
    save_run(tmp_path, NAVIGATION)
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    config = json.loads(saved["about"])["config"]
    config["training"]["of_tomorrow"] = 1
    torch.save({**saved, "about": json.dumps({**json.loads(saved["about"]), "config": config})}, tmp_path / "policy.pt")
    with pytest.raises(ConfigError, match="of_tomorrow"):
        masac.load_policy(tmp_path)
    with pytest.raises(ConfigError, match="of_tomorrow"):
        masac.load_env(tmp_path)
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="must be a config of this version of masac"):
        masac.load_env(tmp_path)


def test_a_shared_policy_acts_for_any_number_of_agents(tmp_path):
    save_run(tmp_path, NAVIGATION)
    policy = masac.load_policy(tmp_path)
    env = make_env(replace(NAVIGATION, kwargs={"n_agents": 5}), num_envs=3, seed=0)
    for how in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM, None):
        with set_exploration_type(how):
            assert env.rollout(2, policy)["agents", "action"].shape == (3, 2, 5, 2)
