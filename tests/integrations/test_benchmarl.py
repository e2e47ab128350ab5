"""masac's algorithms in BenchMARL: its conventions, its environments and models, and what its losses do not do."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

pytest.importorskip("benchmarl", reason="BenchMARL wants an environment of its own: the extra benchmarl")

from benchmarl.algorithms import (  # pyright: ignore[reportMissingImports]
    IsacConfig,
    MasacConfig,
    algorithm_config_registry,
)
from benchmarl.hydra_config import (  # pyright: ignore[reportMissingImports]
    load_algorithm_config_from_hydra,
    load_experiment_from_hydra,
    reload_experiment_from_file,
)
from hydra import compose, initialize_config_module

from masac import GroupDiscreteSACLoss, GroupSACLoss
from masac.integrations.benchmarl import CONFIGS, GroupIsac, GroupIsacConfig, GroupMasac, GroupMasacConfig
from masac.integrations.benchmarl.critics import EgoCritic, ego_first, side_by_side
from masac.losses.critic_values import own_gradient
from tests.integrations.experiments import copied, experiment, rows, settings

# BenchMARL and its dependencies announce much that is theirs to change.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

BOTH = pytest.mark.parametrize("config", [GroupMasacConfig, GroupIsacConfig])
KINDS = pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "discrete"])
TEAM = {"critic_value": "team", "terminated_reduction": "any", "reward_reduction": "mean"}
ROOT = Path(__file__).parents[2]


def changed(config, **values):
    algorithm = config.get_from_yaml()
    for name, value in values.items():
        assert hasattr(algorithm, name)
        setattr(algorithm, name, value)
    return algorithm


# -- BenchMARL's conventions -------------------------------------------------------------------------------------------


@BOTH
def test_the_yaml_has_every_field_and_benchmarls_defaults(config):
    ours = config.get_from_yaml()
    own = (MasacConfig if config is GroupMasacConfig else IsacConfig).get_from_yaml()
    assert {name: getattr(ours, name) for name in own.__dict__} == own.__dict__
    assert ours.__dict__.keys() == {field.name for field in fields(config)}
    assert ours.skip_done_states == "fill"


@BOTH
def test_a_config_is_read_from_a_path(config, tmp_path):
    written = {**config.get_from_yaml().__dict__, "alpha_init": 0.25}
    (tmp_path / "own.yaml").write_text(json.dumps(written))
    assert config.get_from_yaml(str(tmp_path / "own.yaml")).__dict__ == written


@BOTH
def test_what_it_says_it_supports(config):
    assert config.supports_continuous_actions()
    assert config.supports_discrete_actions()
    assert not config.on_policy()
    assert config.has_centralized_critic() == (config is GroupMasacConfig)
    assert config.has_independent_critic() == (config is GroupIsacConfig)
    assert config.get_from_yaml().has_critic()


@pytest.mark.parametrize("name", CONFIGS)
def test_hydra_gives_what_the_yaml_says(name):
    assert algorithm_config_registry[name] is CONFIGS[name]
    with initialize_config_module("benchmarl.conf", version_base=None):
        cfg = compose("config", overrides=[f"algorithm={name}", "task=vmas/navigation"])
    assert load_algorithm_config_from_hydra(cfg.algorithm) == CONFIGS[name].get_from_yaml()


def test_hydra_overrides_our_fields(tmp_path):
    words = ["algorithm=group_masac", "task=vmas/navigation", f"experiment.save_folder={tmp_path}"]
    words += ["algorithm.skip_done_states=drop", "algorithm.reward_reduction=mean", "algorithm.alpha_per_agent=true"]
    with initialize_config_module("benchmarl.conf", version_base=None):
        cfg = compose("config", overrides=[*words, "experiment.loggers=[]", "experiment.render=false"])
    made = load_experiment_from_hydra(cfg, task_name="vmas/navigation")
    assert made.losses["agents"].skip_mode == "drop"
    assert made.losses["agents"].log_alpha.shape == (3,)
    made.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"skip_done_states": "skip"}, "skip_done_states must be"),
        ({"actor_gradient": "both"}, "actor_gradient must be 'own' or 'joint'"),
        ({"critic_value": "group"}, "critic_value must be 'agent' or 'team'"),
        ({"terminated_reduction": "all"}, "posthumous must be True"),
        ({"critic_value": "team"}, "critic_value='team' must come with"),
        ({**TEAM, "share_param_critic": False}, "share_param_critic must be True"),
    ],
    ids=lambda value: None if isinstance(value, str) else ",".join(value),
)
def test_settings_that_no_loss_takes_are_refused(values, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        experiment(changed(GroupMasacConfig, **values), settings(tmp_path))


def test_a_config_refuses_what_no_loss_takes():
    with pytest.raises(ValueError, match="terminated_reduction must be"):
        GroupMasacConfig(**{**GroupMasacConfig.get_from_yaml().__dict__, "terminated_reduction": "some"})


def test_sequences_cannot_be_dropped_in_part(tmp_path):
    with pytest.raises(ValueError, match="with recurrent models"):
        experiment(changed(GroupIsacConfig, skip_done_states="drop"), settings(tmp_path), model="gru")


@pytest.mark.parametrize(("model", "burn_in", "steps"), [("gru", 10, 10), ("gru", -1, 10), ("mlp", 1, 1)])
def test_burn_in_is_shorter_than_a_sequence(model, burn_in, steps, tmp_path):
    with pytest.raises(
        ValueError, match=f"burn_in must be .* less than the steps of a sequence, {steps} .* got {burn_in}"
    ):
        experiment(changed(GroupIsacConfig, burn_in=burn_in), settings(tmp_path), model=model)


def test_a_team_has_no_value_of_discrete_actions(tmp_path):
    with pytest.raises(ValueError, match="must be 'agent' for discrete actions"):
        experiment(changed(GroupMasacConfig, **TEAM), settings(tmp_path, continuous=False))


# -- experiments -------------------------------------------------------------------------------------------------------


@BOTH
@KINDS
@pytest.mark.parametrize("task", ["vmas/navigation", "pettingzoo/simple_tag"])
def test_experiments_run(config, continuous, task, tmp_path):
    ran = experiment(config.get_from_yaml(), settings(tmp_path, continuous=continuous), task=task)
    before = {group: loss.state_dict()["log_alpha"].clone() for group, loss in ran.losses.items()}
    ran.run()
    assert ran.total_frames == 40
    for group, loss in ran.losses.items():
        assert type(loss) is (GroupSACLoss if continuous else GroupDiscreteSACLoss)
        assert all(torch.isfinite(parameter).all() for parameter in loss.parameters())
        assert loss.log_alpha != before[group]


@pytest.mark.parametrize(
    ("model", "critic", "values", "continuous"),
    [
        ("mlp", "deepsets", {}, True),
        ("mlp", "deepsets", {"coupled_discrete_values": False}, False),
        ("mlp", "deepsets", TEAM, True),
        ("mlp", "mlp", TEAM, True),
        ("mlp", "mlp", {"coupled_discrete_values": False, "share_param_critic": False}, False),
        ("mlp", "mlp", {"skip_done_states": "drop", "alpha_per_agent": True, "share_param_critic": False}, True),
        ("gnn", "gnn", {}, True),
        ("gnn", "gnn", {"actor_gradient": "joint"}, True),
        ("gnn", "gnn", {}, False),
        ("gru", "gru", {}, True),
        ("gru", "gru", {"burn_in": 4}, True),
        ("gru", "mlp", {}, False),
    ],
)
def test_benchmarls_models_train(model, critic, values, continuous, tmp_path):
    if "gnn" in (model, critic):
        pytest.importorskip("torch_geometric")
    algorithm = changed(GroupMasacConfig, **values)
    ran = experiment(algorithm, settings(tmp_path, continuous=continuous), model=model, critic=critic)
    before = [parameter.clone() for parameter in ran.losses["agents"].parameters()]
    ran.run()
    after = list(ran.losses["agents"].parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_models_with_a_global_state_train(tmp_path):
    values = {"coupled_discrete_values": False}
    ran = experiment(
        changed(GroupMasacConfig, **values), settings(tmp_path, continuous=False), task="pettingzoo/simple_tag"
    )
    assert "state" in ran.losses["adversary"].qvalue_network.in_keys
    ran.run()


def test_a_graph_network_cannot_hide_an_action(tmp_path):
    pytest.importorskip("torch_geometric")
    with pytest.raises(ValueError, match="coupled_discrete_values must be True with a graph network"):
        experiment(
            changed(GroupMasacConfig, coupled_discrete_values=False), settings(tmp_path, continuous=False), critic="gnn"
        )


@BOTH
def test_an_experiment_goes_on_from_a_checkpoint(config, tmp_path):
    first = experiment(config.get_from_yaml(), settings(tmp_path, checkpoint_at_end=True))
    first.run()
    file = first.folder_name / "checkpoints" / "checkpoint_40.pt"
    more = settings(tmp_path, restore_file=str(file), max_n_iters=3)
    second = experiment(config.get_from_yaml(), more)
    assert second.n_iters_performed == 2
    saved, loaded = (list(one.losses["agents"].parameters()) for one in (first, second))
    assert all(torch.equal(before, after) for before, after in zip(saved, loaded, strict=True))
    second.run()
    assert second.total_frames == 60


def test_benchmarls_command_line_takes_them_and_resumes(tmp_path):
    words = "algorithm=group_masac task=vmas/navigation experiment.max_n_iters=1 experiment.max_n_frames=null "
    words += "experiment.off_policy_collected_frames_per_batch=20 experiment.off_policy_n_envs_per_worker=2 "
    words += "experiment.off_policy_n_optimizer_steps=1 experiment.off_policy_train_batch_size=10 "
    words += "experiment.evaluation=false experiment.loggers=[] experiment.create_json=false experiment.render=false "
    words += "experiment.checkpoint_at_end=true algorithm.actor_gradient=joint model.num_cells=[16]"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarl.run", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = tmp_path.rglob("checkpoint_20.pt")
    again = reload_experiment_from_file(str(file))
    assert again.total_frames == 20
    assert isinstance(again.algorithm, GroupMasac)
    assert again.losses["agents"].actor_gradient == "joint"
    again.close()


# -- what the losses make of the data ----------------------------------------------------------------------------------


@BOTH
@KINDS
def test_a_terminal_observation_that_is_nan_poisons_nothing(config, continuous, tmp_path):
    made = experiment(config.get_from_yaml(), settings(tmp_path, continuous=continuous))
    data = rows(made)
    data["next", "agents", "terminated"][:] = False
    data["next", "agents", "terminated"][0] = True
    data["next", "agents", "observation"][0] = float("nan")
    loss = made.losses["agents"]
    assert loss.value_estimator.gamma == 0.9  # the experiment's
    losses = loss(data)
    sum(losses[name] for name in ("loss_actor", "loss_qvalue", "loss_alpha")).backward()
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters() if p.grad is not None)
    torch.testing.assert_close(loss.target_value(data)[0], data["next", "agents", "reward"][0])


def test_benchmarls_memories_run_over_burn_in_which_trains_nothing(tmp_path):
    ran = experiment(changed(GroupMasacConfig, burn_in=4), settings(tmp_path), model="gru", critic="gru")
    ran.run()
    data, loss = ran.replay_buffers["agents"].sample(), ran.losses["agents"]
    assert data.shape == (1, 10)
    seen = data["agents", "observation"].requires_grad_()
    losses = loss(data)
    assert not data["td_error"][:, :4].any()
    (gradient,) = torch.autograd.grad(losses["loss_qvalue"], seen)
    assert gradient[:, :4].any()
    of_two_rewards = []
    for more in (0.0, 1.0):
        unlike = data.detach().clone()
        unlike["next", "agents", "reward"][:, :4] += more
        torch.manual_seed(0)
        of_two_rewards.append(loss(unlike)["loss_qvalue"])
    assert of_two_rewards[0] == of_two_rewards[1]


@BOTH
def test_dead_agents_entries_do_not_matter(config, tmp_path):
    made = experiment(changed(config, agent_mask_key="lives"), settings(tmp_path))
    data = rows(made)
    data["agents", "lives"] = torch.ones(6, 3, dtype=torch.bool)
    data["agents", "lives"][0, 1] = False
    poisoned = copied(data)
    for key in (("agents", "observation"), ("agents", "action"), ("next", "agents", "reward")):
        poisoned[key][0, 1] = float("nan")
    loss = made.losses["agents"]
    results = []
    for batch in (data, poisoned):
        torch.manual_seed(0)
        results.append(loss(batch))
    torch.testing.assert_close(*(result["loss_qvalue"] for result in results))
    torch.testing.assert_close(*(result["loss_actor"] for result in results))


def test_independent_critics_match_benchmarls_at_terminal_rows(tmp_path):
    ours, theirs = (
        experiment(config, settings(tmp_path))
        for config in (GroupIsacConfig.get_from_yaml(), IsacConfig.get_from_yaml())
    )
    data = rows(ours)
    data["next", "agents", "terminated"][:] = True  # so no action is drawn that counts
    data["next", "agents", "done"][:] = True
    theirs.losses["agents"].load_state_dict(ours.losses["agents"].state_dict())
    got, want = ours.losses["agents"](copied(data)), theirs.losses["agents"](copied(data))
    torch.testing.assert_close(got["loss_qvalue"], want["loss_qvalue"])
    assert ours.losses["agents"].target_entropy == theirs.losses["agents"].target_entropy == -2


def test_values_are_of_own_rewards_or_of_the_teams_mean(tmp_path):
    for values in ({}, TEAM):
        made = experiment(changed(GroupMasacConfig, **values), settings(tmp_path))
        data = rows(made)
        data["next", "agents", "terminated"][:] = True
        reward = torch.arange(18.0).view(6, 3, 1)
        data["next", "agents", "reward"] = reward
        target = made.losses["agents"].target_value(data)
        torch.testing.assert_close(target, reward.mean(-2) if values else reward)


def test_priorities_are_where_the_buffer_looks(tmp_path):
    made = experiment(GroupMasacConfig.get_from_yaml(), settings(tmp_path))
    data = rows(made)
    made.losses["agents"](data)
    assert data[made.replay_buffers["agents"].priority_key].shape == (6,)


def test_the_horizon_of_benchmarls_vmas_is_a_termination(tmp_path):
    made = experiment(GroupMasacConfig.get_from_yaml(), settings(tmp_path))
    end = made.test_env.rollout(made.max_steps)[:, -1]["next"]
    assert end["terminated"].all()


# -- critics with a value per agent ------------------------------------------------------------------------------------


def test_every_agent_sees_itself_first():
    seen = ego_first(torch.tensor([[[1.0], [2.0], [3.0]]]), 1)
    assert seen.squeeze(-1).tolist() == [[[1, 2, 3], [2, 3, 1], [3, 1, 2]]]
    assert side_by_side(seen, 1).tolist() == [[[1, 2, 3], [2, 3, 1], [3, 1, 2]]]


def test_pictures_are_put_side_by_side_by_channel():
    pictures = torch.arange(2 * 4 * 4 * 3.0).view(2, 4, 4, 3)
    seen = side_by_side(ego_first(pictures, 0), 0)
    assert seen.shape == (2, 4, 4, 6)
    assert torch.equal(seen[1, ..., :3], pictures[1])
    assert torch.equal(seen[1, ..., 3:], pictures[0])


def values_of(critic: EgoCritic, data: TensorDict) -> torch.Tensor:
    return critic(data.copy()).get(critic.out_keys[0])


@pytest.fixture(params=["mlp", "deepsets"])
def critic_and_data(request, tmp_path):
    made = experiment(GroupMasacConfig.get_from_yaml(), settings(tmp_path), critic=request.param)
    return made.algorithm.get_continuous_value_module("agents"), rows(made).select("agents")


def test_shared_weights_go_with_the_agents(critic_and_data):
    critic, data = critic_and_data
    round_the_group = TensorDict(
        {"agents": TensorDict({k: data["agents", k].roll(1, 1) for k in ("observation", "action")}, [6, 3])}, [6]
    )
    torch.testing.assert_close(values_of(critic, round_the_group), values_of(critic, data).roll(1, 1))


def test_a_value_depends_on_everybody(critic_and_data):
    critic, data = critic_and_data
    data["agents", "action"] = action = data["agents", "action"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(values_of(critic, data)[:, 0].sum(), action)
    assert (gradient.abs().sum((0, 2)) > 0).all()


def test_own_gradients_are_those_of_one_backward_pass_an_agent(critic_and_data):
    critic, data = critic_and_data
    params = TensorDict.from_module(critic).data.unsqueeze(0)
    data["agents", "action"] = action = data["agents", "action"].clone().requires_grad_()
    cheap = critic.stacked_values(data, params, own_gradient=True)[0]
    dear = own_gradient(critic.stacked_values(data, params)[0], action)
    torch.testing.assert_close(cheap, dear)
    gradients = [torch.autograd.grad(value.square().sum(), action, retain_graph=True)[0] for value in (cheap, dear)]
    torch.testing.assert_close(*gradients)


def test_discrete_values_depend_on_teammates_actions_only(tmp_path):
    algorithm = changed(GroupMasacConfig, coupled_discrete_values=False)
    made = experiment(algorithm, settings(tmp_path, continuous=False))
    critic, data = made.algorithm.get_discrete_value_module_decoupled("agents"), rows(made).select("agents")
    n_actions = made.action_spec["agents", "action"].space.n
    one_hot = torch.nn.functional.one_hot(data["agents", "action"], n_actions).float().requires_grad_()
    data["agents", "action"] = one_hot
    values = values_of(critic, data)
    assert values.shape == (6, 3, n_actions)
    (gradient,) = torch.autograd.grad(values[:, 0].sum(), one_hot)
    moved = gradient.abs().sum((0, 2))
    assert moved[0] == 0
    assert (moved[1:] > 0).all()


def test_an_ensemble_takes_our_algorithms(tmp_path):
    from benchmarl.algorithms import EnsembleAlgorithmConfig  # pyright: ignore[reportMissingImports]

    each = {"adversary": GroupMasacConfig.get_from_yaml(), "agent": GroupIsacConfig.get_from_yaml()}
    ran = experiment(EnsembleAlgorithmConfig(each), settings(tmp_path), task="pettingzoo/simple_tag")
    ran.run()
    assert isinstance(ran.losses["adversary"].qvalue_network, EgoCritic)
    assert isinstance(ran.algorithm.algorithms_map["agent"], GroupIsac)


# -- docs --------------------------------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "benchmarl.md"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
def test_python_blocks_of_the_page_run(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {})
    printed = [line for line in capsys.readouterr().out.splitlines() if "[torchrl]" not in line]
    assert printed == re.findall(r"print\(.*\)\s+# (.*)", code)


def test_lines_of_the_page_are_arguments_that_benchmarl_takes():
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    runs = [shlex.split(line.partition("#")[0])[3:] for line in lines if "-m benchmarl.run" in line]
    assert runs
    for words in runs:
        with initialize_config_module("benchmarl.conf", version_base=None):
            cfg = compose("config", overrides=[word.partition(",")[0] for word in words if word != "-m"])
        load_algorithm_config_from_hydra(cfg.algorithm)


def test_the_table_of_the_page_has_every_field_of_ours():
    from masac.integrations.benchmarl.options import GroupOptions

    names = [*(field.name for field in fields(GroupOptions)), "critic_value"]
    page, comparison, _ = PAGE.read_text().partition("## Comparison")  # its table has other names
    assert comparison
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == sorted(names)
