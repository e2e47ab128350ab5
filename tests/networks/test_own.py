"""A user's own actors and critics: what fits trains, resumes, loads and is evaluated; what does not gets one line."""

import sys
import types
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded, Categorical
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import IndependentNormal, ProbabilisticActor

from masac import AlgorithmConfig, ConfigError, GroupSACLoss, ModelConfig, Trainer, load_config, load_env, load_policy
from masac.actions.discrete import read_discrete_actions
from masac.algorithm import make_actor, make_loss
from masac.cli.main import main
from masac.errors import RunFailedError
from masac.groups import GroupSpec
from masac.training.policies.direct_actions import read_network
from masac.training.policies.policy import Policy
from tests.training.common import QUIET, rows, tiny

EXAMPLES = str(Path(__file__).parents[2] / "examples")

common = {"name": "agents", "n_agents": 3, "observation_dim": 5}
CONTINUOUS = GroupSpec(**common, action_spec=Bounded(-1, 1, (3, 2)), discrete=None, has_action_mask=False)
CHOICES = Categorical(4, shape=(3,))
DISCRETE = GroupSpec(**common, action_spec=CHOICES, discrete=read_discrete_actions(CHOICES), has_action_mask=True)
ALGORITHM = AlgorithmConfig()


@pytest.fixture(autouse=True)
def examples_found(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


class Two(nn.Module):
    """Mean and standard deviation, each of ``outputs`` features."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, observation):
        return self.linear(observation), self.linear(observation).exp()


class MixesRows(nn.Linear):
    def forward(self, observation):
        return super().forward(observation) + observation.mean()


def of_keys(module, inputs, outputs):
    return lambda spec: TensorDictModule(
        module(spec), in_keys=[(spec.group, key) for key in inputs], out_keys=[(spec.group, key) for key in outputs]
    )


class Uniform(torch.distributions.Uniform):
    """On every dimension of an action alone."""

    def __init__(self, loc, scale, low, high):
        super().__init__(torch.full_like(loc, low), torch.full_like(loc, high))
        self.deterministic_sample = self.mean


def of_distribution(kind, **options):
    def make(spec):
        keys = [(spec.group, "loc"), (spec.group, "scale")]
        module = TensorDictModule(Two(spec.observation_dim, 2), [(spec.group, "observation")], keys)
        return ProbabilisticActor(
            module,
            in_keys=dict(zip(("loc", "scale"), keys, strict=True)),
            out_keys=[(spec.group, "action")],
            distribution_class=kind,
            distribution_kwargs=options,
        )

    return make


class Joint(nn.Linear):
    def forward(self, *entries):
        return super().forward(torch.cat(entries, -1))


class Cut(Joint):
    def forward(self, *entries):
        return super().forward(*entries).detach()


class WithoutAction(nn.Linear):
    def forward(self, observation, action):
        return super().forward(observation)


class Half(nn.Module):
    """A frozen layer, and one that learns."""

    def __init__(self, inputs, outputs, frozen):
        super().__init__()
        self.frozen, self.out = frozen.requires_grad_(False), nn.Linear(inputs, outputs)

    def forward(self, *entries):
        return self.out(torch.cat([self.frozen(entries[0]), *entries[1:]], -1))


class Detached(torch.distributions.Independent):
    """A beta distribution on [0, 1] that draws without a gradient."""

    def __init__(self, loc, scale):
        super().__init__(torch.distributions.Beta(loc.exp(), scale), 1)
        self.deterministic_sample = self.mean

    def rsample(self, sample_shape=()):
        return self.sample(sample_shape)


class NoRsample(Detached):
    has_rsample = property(lambda self: False)  # pyright: ignore[reportAssignmentType]

    def rsample(self, sample_shape=()):
        raise NotImplementedError


ENCODER, LAYER = nn.Linear(5, 4), nn.Linear(5, 4)
SAME = TensorDictModule(
    Joint(7, 1), [("agents", "observation"), ("agents", "action")], [("agents", "state_action_value")]
)

NETWORKS = {
    "keys": of_keys(lambda spec: Two(spec.observation_dim, 2), ["observation"], ["loc", "scale"]),
    "too_wide": lambda spec: nn.Linear(spec.observation_dim, 7),
    "too_narrow": lambda spec: nn.Linear(spec.observation_dim + 1, spec.outputs),
    "nothing": lambda spec: None,
    "mixes_rows": lambda spec: MixesRows(spec.observation_dim, spec.outputs),
    "reads_another": of_keys(lambda spec: Two(spec.observation_dim, 2), ["position"], ["loc", "scale"]),
    "writes_too_little": of_keys(lambda spec: nn.Linear(spec.observation_dim, 2), ["observation"], ["loc"]),
    "keys_too_wide": of_keys(lambda spec: Two(spec.observation_dim, 3), ["observation"], ["loc", "scale"]),
    "batch_norm": lambda spec: nn.Sequential(nn.Linear(spec.observation_dim, 3), nn.BatchNorm1d(3)),
    "out_of_bounds": of_distribution(IndependentNormal),
    "no_log_prob_per_agent": of_distribution(Uniform, low=-1.0, high=1.0),
    "always_the_same": lambda spec: SAME,
    "cut": lambda spec: Cut(spec.observation_dim, spec.outputs),
    "frozen": lambda spec: nn.Linear(spec.observation_dim, spec.outputs).requires_grad_(False),
    "detached": of_distribution(Detached),
    "no_rsample": of_distribution(NoRsample),
    "cut_critic": lambda spec: Cut(spec.observation_dim + spec.action_dim, spec.outputs),
    "without_action": lambda spec: WithoutAction(spec.observation_dim, spec.outputs),
    "half_frozen": lambda spec: Half(4, spec.outputs, ENCODER),
    "half_frozen_critic": lambda spec: Half(4 + spec.action_dim, spec.outputs, ENCODER),
    "one_layer": lambda spec: nn.Sequential(LAYER),
    "half_shared_critic": lambda spec: Half(4 + spec.action_dim, spec.outputs, LAYER).requires_grad_(),
    "joint": lambda spec: Joint(spec.observation_dim + spec.model.memory_dim, spec.outputs),
    "joint_critic": lambda spec: Joint(spec.observation_dim + spec.model.memory_dim + spec.action_dim, spec.outputs),
    "writes_no_value": of_keys(lambda spec: nn.Linear(spec.observation_dim, 1), ["observation"], ["value"]),
}


@pytest.fixture
def nets(monkeypatch):
    module = types.ModuleType("own_nets")
    for name, make in NETWORKS.items():
        setattr(module, name, make)
    monkeypatch.setitem(sys.modules, "own_nets", module)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "too_wide",
            r"model.actor must make .* outputs of shape \[7, 3, 4\] for 7 rows; .*:too_wide' gives \[7, 3, 7\]",
        ),
        (
            "too_narrow",
            r"model.actor must work with group 'agents' \(3 agents, 5 observation .* raised RuntimeError: mat1",
        ),
        ("nothing", "model.actor must be a function that makes an nn.Module; 'own_nets:nothing' made NoneType"),
        (
            "mixes_rows",
            "every row of the batch stands for itself; 'own_nets:mixes_rows' gives the first of 7 rows other",
        ),
        (
            "reads_another",
            r"reads some of \('agents', 'observation'\); 'own_nets:reads_another' reads \('agents', 'pos",
        ),
        (
            "writes_too_little",
            r"that writes \('agents', 'scale'\); 'own_nets:writes_too_little' writes \('agents', 'lo",
        ),
        ("keys_too_wide", r"with \('agents', 'loc'\) of shape \[7, 3, 2\] for 7 rows; .* gives \[7, 3, 3\]"),
        ("batch_norm", "every row of the batch stands for itself; 'own_nets:batch_norm' has a BatchNorm1d"),
        ("out_of_bounds", "within the bounds of spec.action_spec; 'own_nets:out_of_bounds' draws -"),
        ("no_log_prob_per_agent", r"one log-probability per agent, of shape \[7, 3\] for 7 .* has \[7, 3, 2\]"),
        ("cut", "with a gradient from its actions to its parameters; that of 'own_nets:cut' has none. Use a distrib"),
        ("frozen", "with a gradient from its actions to its parameters; that of 'own_nets:frozen' has none"),
        ("detached", "with a gradient from its actions to its parameters; that of 'own_nets:detached' has none"),
        ("no_rsample", "with a gradient from its actions to its parameters; that of 'own_nets:no_rsample' has none"),
        ("absent", r"model.actor must be package.module:function, importable from here; got 'own_nets:absent'"),
    ],
)
def test_an_actor_that_does_not_fit_gets_one_line(nets, name, message):
    with pytest.raises(ConfigError, match=message) as raised:
        make_actor(CONTINUOUS, ALGORITHM, ModelConfig(actor=f"own_nets:{name}"))
    assert "\n" not in str(raised.value)


def test_a_critic_that_does_not_fit_gets_one_line(nets):
    for name, message in [
        ("writes_no_value", r"model.critics.agents must make .* writes \('agents', 'state_action_value'\)"),
        ("cut_critic", "with a gradient from its values to its parameters; that of 'own_nets:cut_critic' has none"),
        ("without_action", "with a gradient from its values to the actions; that of 'own_nets:without_action' has"),
        ("always_the_same", "model.critics.agents must make another network at every call; 'own_nets:always_the_same'"),
        ("too_wide", r"model.critics.agents must work with .* raised TypeError: Linear.forward\(\) takes 2"),
    ]:
        model = ModelConfig(critics={"agents": f"own_nets:{name}"})
        with pytest.raises(ConfigError, match=message):
            make_loss({"agents": make_actor(CONTINUOUS, ALGORITHM, model)}, [CONTINUOUS], ALGORITHM, model)
    groups = [CONTINUOUS, replace(CONTINUOUS, name="wolves")]
    actors = {group.name: make_actor(group, ALGORITHM, ModelConfig()) for group in groups}
    everyone = AlgorithmConfig(critic="centralized", critic_sees="all_groups")
    with pytest.raises(ConfigError, match=r"reads observation and action of the group 'wolves', as algorithm.critic_s"):
        make_loss(actors, groups, everyone, ModelConfig(critics={"agents": "own_networks:deep_set_critic"}))
    with pytest.raises(ConfigError, match=r"model.actors must name a group that learns \(agents\); got 'wolves'"):
        ModelConfig(actors={"wolves": "own_nets:keys"}).check_groups(["agents"])


def test_discrete_networks_that_learn_nothing_get_one_line(nets):
    for name in ("cut", "frozen"):
        with pytest.raises(
            ConfigError, match=r"with a gradient from its logits to its parameters; .* Use parameters th"
        ):
            make_actor(DISCRETE, ALGORITHM, ModelConfig(actor=f"own_nets:{name}"))
        model = ModelConfig(critic=f"own_nets:{name}")
        with pytest.raises(ConfigError, match="with a gradient from its values to its parameters"):
            make_loss({"agents": make_actor(DISCRETE, ALGORITHM, model)}, [DISCRETE], ALGORITHM, model)


def test_networks_that_share_what_they_train_get_one_line(nets):
    model = ModelConfig(actor="own_nets:one_layer", critic="own_nets:half_shared_critic")
    one = AlgorithmConfig(num_qvalue_nets=1)
    with pytest.raises(
        ConfigError, match=r"model.critic must .* a critic of group 'agents' has some of the actor of gr"
    ):
        make_loss({"agents": make_actor(CONTINUOUS, one, model)}, [CONTINUOUS], one, model)
    groups = [CONTINUOUS, replace(CONTINUOUS, name="wolves")]
    actors = {group.name: make_actor(group, ALGORITHM, model) for group in groups}
    with pytest.raises(
        ConfigError, match=r"model.actor must .* the actor of group 'wolves' has some of the actor of gr"
    ):
        make_loss(actors, groups, ALGORITHM, ModelConfig(actor="own_nets:one_layer"))
    with pytest.raises(ValueError, match="must have weights of their own; got some that share them"):
        GroupSACLoss(actors["agents"], [SAME, SAME])


def test_networks_may_have_frozen_parts_and_there_may_be_one_critic(nets):
    model = ModelConfig(actor="own_nets:half_frozen", critic="own_nets:half_frozen_critic")
    for number in (1, 2):
        algorithm = AlgorithmConfig(num_qvalue_nets=number)
        loss = make_loss({"agents": make_actor(CONTINUOUS, algorithm, model)}, [CONTINUOUS], algorithm, model)
        (group_loss,) = loss.group_losses
        trained = {name for name, one in group_loss.qvalue_network_params.named_parameters() if one.requires_grad}
        assert {tuple(one.shape) for one in group_loss.qvalue_network_params.parameters() if one.requires_grad} == {
            (number, 1, 6),
            (number, 1),
        }
        assert len(trained) == 2
        assert torch.equal(
            group_loss.target_qvalue_network_params["module", "out", "weight"],
            group_loss.qvalue_network_params["module", "out", "weight"],
        )


@pytest.mark.parametrize("kind", ["actor", "critic"])
def test_weights_per_agent_are_refused_where_networks_are_a_users(nets, kind):
    model, algorithm = ModelConfig(**{kind: "own_nets:keys"}), AlgorithmConfig(**{f"share_{kind}": False})
    with pytest.raises(ConfigError, match=f"algorithm.share_{kind} must be true with {kind}s of your own"):
        make_loss({"agents": make_actor(CONTINUOUS, ALGORITHM, ModelConfig())}, [CONTINUOUS], algorithm, model)


@pytest.mark.parametrize("group", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
@pytest.mark.parametrize(
    "name",
    [
        "deep_set_actor",
        "multi_agent_mlp",
        pytest.param(
            "graph", marks=pytest.mark.skipif(find_spec("torch_geometric") is None, reason="needs torch_geometric")
        ),
    ],
)
def test_the_networks_of_the_example_give_losses_and_gradients(name, group):
    critic = "deep_set_critic" if group is CONTINUOUS else "multi_agent_mlp"
    model = ModelConfig(actors={"agents": f"own_networks:{name}"}, critic=f"own_networks:{critic}")
    loss = make_loss({"agents": make_actor(group, ALGORITHM, model)}, [group], ALGORITHM, model).group_losses[0]
    first, second = next(loss.qvalue_network_params.parameters())
    assert not torch.equal(first, second)  # each critic begins with weights of its own
    batch = group.action_spec.expand(4, *group.action_spec.shape).rand()
    from tensordict import TensorDict

    seen = {"observation": torch.randn(4, 3, 5), "action": batch}
    if group is DISCRETE:
        seen["action_mask"] = torch.ones(4, 3, 4, dtype=torch.bool)
    next_state = {
        "agents": {**seen, "reward": torch.randn(4, 3, 1), "terminated": torch.zeros(4, 3, 1, dtype=torch.bool)},
    }
    del next_state["agents"]["action"]
    next_state["agents"]["done"] = next_state["agents"]["terminated"]
    data = TensorDict({"agents": seen, "next": next_state}, [4])
    data["agents"].batch_size = data["next", "agents"].batch_size = (4, 3)
    out = loss(data)
    (out["loss_actor"] + out["loss_qvalue"]).backward()
    for params in (loss.actor_network_params, loss.qvalue_network_params):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in params.parameters())


@pytest.mark.parametrize(("kind", "joint"), [("gru", True), ("lstm", False)], ids=["both", "actor"])
def test_networks_read_a_memory_that_learns_with_them(nets, kind, joint, tmp_path):
    """With ``model.memory`` an actor is called with its output after the observation, and so are critics."""
    own = {"actor": "own_nets:joint", "critic": "own_nets:joint_critic"}
    model = {"memory": kind, "memory_size": 6, **(own if joint else {"actor": own["actor"]})}
    training = {"total_frames": 256, "sequence_length": 4, "burn_in": 2, "batch_size": 4}
    config = tiny(training=training, model=model)
    trainer = Trainer(config, tmp_path, console=QUIET)
    loss = trainer.learner.loss.group_losses[0]
    before = [parameter.clone() for parameter in (*loss.actor_parameters, *loss.critic_parameters)]
    assert any(parameter.shape[-1] == 18 + 6 for parameter in loss.actor_network_params.parameters())
    result = trainer.run()
    after = (*loss.actor_parameters, *loss.critic_parameters)
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    policy, env = load_policy(tmp_path), load_env(tmp_path)
    assert env.rollout(3, policy)["agents", "action"].shape == (*env.batch_size, 3, 3, 2)
    env.close()
    assert result.summary["updates"] > 0


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (
            {"actor": "keys"},
            r"model.actor must make a module that reads \('agents', 'actor_memory'\), as model.memory=gru",
        ),
        (
            {"critic": "without_action"},
            "model.critic must work with group 'agents' .*; 'own_nets:without_action' raised",
        ),
    ],
)
def test_a_network_that_does_not_read_the_memory_gets_one_line(nets, networks, message):
    model = ModelConfig(memory="gru", **{name: f"own_nets:{own}" for name, own in networks.items()})
    with pytest.raises(ConfigError, match=message):
        make_loss({"agents": make_actor(CONTINUOUS, ALGORITHM, model)}, [CONTINUOUS], ALGORITHM, model)


@pytest.mark.parametrize("own", ["own_nets:joint", None])
def test_a_network_whose_logits_are_nan_is_named(nets, own):
    policy = Policy([DISCRETE], {"agents": make_actor(DISCRETE, ALGORITHM, ModelConfig(actor=own))}, {})
    state = {"observation": torch.randn(2, 3, 5), "action_mask": torch.ones(2, 3, 4, dtype=torch.bool)}
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        policy(TensorDict({"agents": state}, [2]))
        for parameter in policy.parameters():
            parameter.fill_(torch.nan)
        state["observation"][0] = torch.nan  # of agents that are gone
        with pytest.raises(RunFailedError, match=r"'agents' must compute .* for a finite observation of agent 0"):
            policy(TensorDict({"agents": state}, [2]))
        state["observation"][:] = torch.nan  # then that is to blame
        with pytest.raises(RuntimeError, match="probability tensor contains"):
            policy(TensorDict({"agents": state}, [2]))


def test_what_a_network_raises_itself_is_raised_as_it_is():
    policy = Policy([DISCRETE], {"agents": make_actor(DISCRETE, ALGORITHM, ModelConfig())}, {})
    state = {"observation": torch.randn(2, 3, 6), "action_mask": torch.ones(2, 3, 4, dtype=torch.bool)}
    with set_exploration_type(ExplorationType.RANDOM), pytest.raises(RuntimeError) as raised:
        policy(TensorDict({"agents": state}, [2]))
    assert str(raised.value).startswith("mat1 and mat2 shapes cannot be multiplied (6x6 and 5x")
    assert raised.value.__context__ is None  # and once


def test_masacs_networks_stay_where_none_is_named(nets):
    model = ModelConfig(actor="own_nets:keys", actors={"agents": None})
    assert read_network(make_actor(CONTINUOUS, ALGORITHM, model)) is not None
    assert read_network(make_actor(CONTINUOUS, ALGORITHM, replace(model, actors={}))) is None


@pytest.mark.slow
def test_a_deep_set_trains_resumes_loads_and_is_evaluated(tmp_path, monkeypatch, capsys):
    import own_networks  # pyright: ignore[reportMissingImports]

    config = tiny(training={"total_frames": 128}, algorithm=AlgorithmConfig(skip_done_states="drop"))
    networks = {"actor": own_networks.deep_set_actor, "critic": own_networks.deep_set_critic}
    result = Trainer(config, tmp_path, console=QUIET, **networks).run()
    longer = load_config(tmp_path, ["training.total_frames=192"])
    assert longer.model.actor == "own_networks:deep_set_actor"
    Trainer(longer, console=QUIET, resumes=True).run()
    assert [row["updates"] for row in rows(tmp_path)][-1] == "16"
    policy = load_policy(tmp_path, checkpoint=result.best_checkpoint.name)
    for name, tensor in policy.state_dict().items():
        assert tensor.shape == result.policy.state_dict()[name].shape
    main(["evaluate", str(tmp_path), "--episodes", "2", "task.kwargs.n_agents=5"])  # a deep set fits any number
    assert "agents 4" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path), "-o", str(tmp_path / "policy.pt2")])
    assert "an exported actor must be" in capsys.readouterr().err
