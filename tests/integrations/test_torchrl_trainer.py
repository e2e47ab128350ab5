"""masac's losses in TorchRL's trainers, from the command line, with a recipe that knows nothing of masac."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import hydra
from torchrl.trainers.algorithms.configs import *


@hydra.main(config_path=".", config_name="recipe", version_base="1.3")
def main(cfg):
    trainer = hydra.utils.instantiate(cfg.trainer)
    loss = trainer.loss_module
    before = [parameter.detach().clone() for parameter in loss.parameters()]
    trainer.train()
    moved = sum(bool((parameter != old).any()) for parameter, old in zip(loss.parameters(), before))
    finite = all(bool(parameter.isfinite().all()) for parameter in loss.parameters())
    print("said:", type(loss).__name__, loss.skip_done_states, loss.target_entropy.item(), loss.group, finite)
    print("moved:", moved == len(before), "updated:", all(loss._has_update_associated.values()))


main()
"""

RECIPE = """
defaults:
  - env@env: transformed_env
  - env@env.base_env: vmas
  - transform@env.transform: reward_sum
  - transform@flags.done: expand_as
  - transform@flags.terminated: expand_as
  - transform@postproc: compose
  - collector: sync
  - replay_buffer: base
  - storage@replay_buffer.storage: lazy_tensor
  - writer@replay_buffer.writer: round_robin
  - sampler@replay_buffer.sampler: random
  - trainer: sac
  - optimizer: adam
  - loss@loss: sac
  - target_net_updater: soft
  - _self_

agents: 2
mlp: torchrl.modules.models.multiagent.MultiAgentMLP
actor:
  _target_: torchrl.trainers.algorithms.configs.modules._make_tanh_normal_model
  network: {_target_: "${mlp}", n_agents: "${agents}", n_agent_inputs: 16, n_agent_outputs: 4, centralized: false,
    share_params: true, depth: 1, num_cells: 8}
  return_log_prob: true
  in_keys: [[agents, observation]]
  param_keys: [[agents, loc], [agents, scale]]
  out_keys: [[agents, action]]
critic:
  _target_: torchrl.trainers.algorithms.configs.modules._make_value_model
  network: {_target_: "${mlp}", n_agents: "${agents}", n_agent_inputs: 18, n_agent_outputs: 1, centralized: true,
    share_params: true, depth: 1, num_cells: 8}
  in_keys: [[agents, observation], [agents, action]]
  out_keys: [state_action_value]

env:
  base_env: {scenario: balance, num_envs: 3, continuous_actions: true, max_steps: 4, seed: 0, device: cpu,
    scenario_kwargs: {n_agents: "${agents}"}}
  transform: {in_keys: [[agents, reward]], out_keys: [[agents, episode_reward]]}
flags:
  done: {in_key: [next, done], ref_key: [next, agents, reward], out_key: [next, agents, done]}
  terminated: {in_key: [next, terminated], ref_key: [next, agents, reward], out_key: [next, agents, terminated]}
postproc:
  transforms: ["${flags.done}", "${flags.terminated}"]
collector:
  create_env_fn: ${env}
  policy: ${actor}
  frames_per_batch: 30
  total_frames: 60
  postproc: ${postproc}
  _partial_: true
replay_buffer:
  storage: {max_size: 30, ndim: 1}
  batch_size: 8
loss:
  actor_network: ${actor}
  qvalue_network: ${critic}
  delay_qvalue: true
  target_entropy: auto
target_net_updater: {tau: 0.005}
optimizer: {lr: 1e-3}
trainer:
  collector: ${collector}
  optimizer: ${optimizer}
  replay_buffer: ${replay_buffer}
  target_net_updater: ${target_net_updater}
  loss_module: ${loss}
  logger: null
  total_frames: 60
  optim_steps_per_batch: 2
  save_trainer_file: null
  progress_bar: false
  seed: 0
  reward_key: [agents, reward]
  episode_reward_key: [agents, episode_reward]
  done_key: [agents, done]
  terminated_key: [agents, terminated]
  action_key: [agents, action]
  observation_key: [agents, observation]
"""

CHOICES = """
import hydra
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from torchrl.data import Categorical
from torchrl.trainers.algorithms.configs import *

import masac

ConfigStore.instance().store(name="one_loss", node={"defaults": ["_self_", {"loss@loss": "sac"}]})
sizes = {"group": "agents", "n_agents": 2, "observation_dim": 4, "share_params": True, "model": masac.ModelConfig()}
actor = masac.make_categorical_actor(**sizes, action_spec=Categorical(5, shape=(2,)))
critic = masac.make_critic("independent", **sizes, action_dim=5, n_actions=5)
# A recipe for TorchRL's discrete loss has fields that only one of its losses takes.
discrete = ["loss.action_space=categorical", "loss.num_actions=5", "loss.target_entropy_weight=0.2"]
for choice in (["loss=group_discrete_sac"], ["loss=group_sac", "loss.discrete=true"]):
    with initialize(config_path=None, version_base="1.3"):
        cfg = compose("one_loss", overrides=[*choice, *discrete, "loss.group=[agents]", "loss.gamma=null"])
    loss = hydra.utils.instantiate(cfg.loss, actor_network=actor, qvalue_network=critic)
    print(type(loss).__name__, loss.action_space, loss.group, round(loss.target_entropy.item(), 3))
with initialize(config_path=None, version_base="1.3"):
    cfg = compose("one_loss", overrides=["loss=group_sac", "loss.validate_actions=false"])
try:
    hydra.utils.instantiate(cfg.loss, actor_network=actor, qvalue_network=critic)
except hydra.errors.InstantiationException as error:
    print(error)
"""


def run(*args, cwd):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def has_the_multi_agent_trainer():
    """Whether TorchRL's trainer configs can train groups: 0.14.1 and later."""
    return importlib.util.find_spec("torchrl.trainers.algorithms.configs.hooks") is not None


@pytest.mark.slow
@pytest.mark.skipif(not has_the_multi_agent_trainer(), reason="needs TorchRL 0.14.1")
def test_a_recipe_of_torchrls_trainer_trains_vmas(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    said = run("train.py", "loss=group_sac", "loss.skip_done_states=drop", cwd=tmp_path)
    assert "said: GroupSACLoss drop -2.0 agents True" in said
    assert "moved: True updated: True" in said


@pytest.mark.slow
def test_torchrls_fields_work_and_unknown_ones_are_named(tmp_path):
    said = run("-c", CHOICES, cwd=tmp_path).splitlines()
    assert said[:2] == ["GroupDiscreteSACLoss categorical ('agents',) 0.322"] * 2  # 0.2 ln 5
    assert "GroupSACLoss has no argument 'validate_actions'" in "".join(said[2:])
