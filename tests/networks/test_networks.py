"""Actors and critics: stacks equal loops, and critics tell agents apart."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac import GroupSACLoss, ModelConfig, make_tanh_normal_actor
from masac.algorithm import AlgorithmConfig
from masac.compat import parameters_in
from masac.errors import ConfigError
from masac.networks.critics import CRITICS, CriticNetwork, make_critic
from masac.networks.layers import ChoiceMLP, StackedLinear, StackedMLP
from masac.networks.pooled import PooledCriticNetwork
from tests.losses.common import GROUP, A, B, F, N, our_actor, our_critic

SIZES = {"n_agents": N, "observation_dim": F, "action_dim": A}
MODELS = [
    ModelConfig(hidden=(8, 8)),
    ModelConfig(hidden=(8,), layer_norm=True, activation="silu"),
    ModelConfig(hidden=()),
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("stack", [(3,), (2, 3)])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_stack_of_weights_equals_a_loop_over_it(stack, layer_norm):
    mlp = StackedMLP(5, 2, hidden=(7, 6), activation="tanh", layer_norm=layer_norm, stack=stack)
    x = torch.randn(*stack, 4, 5)
    out = mlp(x)
    for index in torch.cartesian_prod(*(torch.arange(size) for size in stack)).reshape(-1, len(stack)).tolist():
        one = StackedMLP(5, 2, hidden=(7, 6), activation="tanh", layer_norm=layer_norm)
        one.load_state_dict({name: value[tuple(index)] for name, value in mlp.state_dict().items()})
        torch.testing.assert_close(out[tuple(index)], one(x[tuple(index)]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_value_of_a_choice_is_that_of_an_mlp_that_sees_it(stack, layer_norm):
    kinds = {"hidden": (7, 6), "activation": "tanh", "layer_norm": layer_norm, "stack": stack}
    mlp, one = ChoiceMLP(5, 4, **kinds), StackedMLP(5 + 4, 1, **kinds)
    one.load_state_dict(mlp.state_dict())
    x = torch.randn(*stack, 3, 5)
    values = mlp(x)
    assert values.shape == (*stack, 3, 4)
    for choice in range(4):
        seen = torch.nn.functional.one_hot(torch.tensor(choice), 4).to(x.dtype).expand(*stack, 3, 4)
        torch.testing.assert_close(values[..., choice, None], one(torch.cat([x, seen], -1)))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["independent", "centralized", "pooled"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("way", ["input", "output"])
def test_the_values_of_executed_actions_are_among_those_of_all(kind, share, way):
    model = ModelConfig(hidden=(8, 8), choices_as=way)
    critic = make_critic(kind, group=GROUP, **SIZES, share_params=share, model=model, n_actions=A)
    params = TensorDict.from_modules(
        critic, make_critic(kind, group=GROUP, **SIZES, share_params=share, model=model, n_actions=A)
    )
    action = torch.nn.functional.one_hot(torch.randint(A, (B, N)), A)
    data = {"observation": torch.randn(B, N, F), "action": action.double(), "alive": torch.rand(B, N, 1) < 0.7}
    inputs = TensorDict({GROUP: TensorDict(data, [B, N])}, [B])
    values = critic.chosen_values(inputs, params, action)
    assert values.shape == (2, B, N, 1)
    of_all = critic.stacked_values(inputs, params)
    torch.testing.assert_close(values, (of_all * action).sum(-1, keepdim=True))


@pytest.mark.parametrize(
    ("model", "n_actions", "inputs"),
    [
        (ModelConfig(), 20, True),
        (ModelConfig(), 21, False),
        (ModelConfig(choices_as="input"), 21, True),
        (ModelConfig(choices_as="output"), 2, False),
        (ModelConfig(hidden=(), choices_as="input"), 2, False),  # a choice could only shift the value
    ],
)
def test_critics_value_choices_as_inputs_or_as_outputs(model, n_actions, inputs):
    sizes = {"n_agents": N, "observation_dim": F, "action_dim": n_actions, "share_params": True, "n_actions": n_actions}
    for network in (CriticNetwork("centralized", **sizes, model=model), PooledCriticNetwork(**sizes, model=model)):
        assert isinstance(network.mlp, ChoiceMLP) == inputs
        assert network.mlp.output.weight.shape[-1] == (1 if inputs else n_actions)


def test_a_linear_layer_is_torchs_linear():
    layer, reference = StackedLinear(5, 3), torch.nn.Linear(5, 3)
    with torch.no_grad():
        reference.weight.copy_(layer.weight.T)
        reference.bias.copy_(layer.bias.squeeze(0))
    x = torch.randn(4, 5)
    torch.testing.assert_close(layer(x), reference(x))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["independent", "centralized", "pooled", "team"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_k_critics_in_one_pass_equal_k_critics_one_by_one(kind, share, model):
    critic = our_critic(share, kind, model=model)
    loss = GroupSACLoss(our_actor(share), critic, num_qvalue_nets=3)
    names = ("observation", "action") if kind == "independent" else ("observation", "action", "alive")
    data = {"observation": torch.randn(B, N, F), "action": torch.randn(B, N, A), "alive": torch.rand(B, N, 1) < 0.7}
    inputs = TensorDict({GROUP: TensorDict({name: data[name] for name in names}, [B, N])}, [B])
    stacked = critic.stacked_values(inputs, loss.qvalue_network_params)
    assert stacked.shape == ((3, B, 1) if kind == "team" else (3, B, N, 1))
    for values, params in zip(stacked, loss.qvalue_network_params.unbind(0), strict=True):
        with parameters_in(critic, params):
            torch.testing.assert_close(critic(inputs.clone())[critic.out_keys[0]], values)


@pytest.mark.parametrize("kind", ["centralized", "pooled"])
def test_shared_centralized_critics_tell_agents_apart(kind):
    network = our_critic(True, kind).module
    values = network(torch.randn(B, N, F), torch.randn(B, N, A), torch.ones(B, N, 1))
    assert (values[:, 0] != values[:, 1]).all()


def test_an_agent_sees_itself_first_then_the_others():
    from masac.networks.critics import _ego_first

    features = torch.arange(3.0).reshape(1, 3, 1)
    assert _ego_first(features, features, None)[0].tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


@pytest.mark.parametrize("kind", ["centralized", "pooled"])
def test_own_gradient_reaches_only_the_agents_action(kind):
    network = our_critic(False, kind).module
    action = torch.randn(B, N, A, requires_grad=True)
    observation, alive = torch.randn(B, N, F), torch.ones(B, N, 1)
    own = network(observation, action, alive, own_gradient=True)
    torch.testing.assert_close(own, network(observation, action, alive))
    (gradient,) = torch.autograd.grad(own[:, 0].sum(), action)
    assert (gradient[:, 0] != 0).all()
    assert (gradient[:, 1:] == 0).all()


@pytest.mark.parametrize("kind", ["centralized", "pooled"])
def test_centralized_critics_tell_a_dead_agent_from_one_at_zero(kind):
    network = our_critic(True, kind).module
    observation, action = torch.zeros(1, N, F), torch.zeros(1, N, A)
    living, dead = torch.ones(1, N, 1), torch.ones(1, N, 1)
    dead[0, 1] = 0
    assert (network(observation, action, living) != network(observation, action, dead)).all()


def test_a_kind_of_critic_is_one_entry_of_the_registry(monkeypatch):
    monkeypatch.setitem(CRITICS, "mine", replace(CRITICS["centralized"], of_team=True))
    assert our_critic(True, "mine").out_keys == ["state_action_value"]
    with pytest.raises(ConfigError, match=r"terminated_reduction must be any or all with algorithm.critic=mine"):
        AlgorithmConfig(critic="mine")
    with pytest.raises(ConfigError, match=r"algorithm.critic must be one of independent, .*, mine; got 'other'"):
        AlgorithmConfig(critic="other")


def test_the_pages_explain_every_kind_of_critic():
    for page in ("algorithm", "choosing"):
        text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
        assert all(f"\n| `{kind}` | " in text for kind in CRITICS), page


def test_an_unknown_kind_and_an_unknown_activation_are_errors():
    with pytest.raises(ValueError, match="kind of a critic must be"):
        our_critic(True, "central")
    with pytest.raises(ValueError, match=r"model.activation must be one of .*; got 'rely'"):
        ModelConfig(activation="rely")


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("model", [*MODELS, ModelConfig(agent_ids=True)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_actors_write_actions_within_their_bounds(share, model, batch):
    actor = our_actor(share, model=model)
    data = actor(TensorDict({GROUP: TensorDict({"observation": 10 * torch.randn(*batch, N, F)}, [*batch, N])}, batch))
    assert data[GROUP, "action"].shape == (*batch, N, A)
    assert data[GROUP, "action"].abs().max() <= 1
    assert data[GROUP, "scale"].min() >= torch.tensor(-5.0).exp()
    assert data[GROUP, "scale"].max() <= torch.tensor(2.0001).exp()


@pytest.mark.parametrize(
    ("low", "high"),
    [(-0.5, 0.5), (torch.tensor([-1.0, 0.0]).expand(N, 2), torch.tensor([3.0, 2.0]).expand(N, 2))],
)
def test_actions_fill_the_bounds_of_the_spec(low, high):
    spec = Bounded(low, high, (N, A))
    actor = make_tanh_normal_actor(
        group=GROUP,
        n_agents=N,
        observation_dim=F,
        action_spec=spec,
        share_params=True,
        model=ModelConfig(log_std_min=1),
    )
    data = TensorDict({GROUP: TensorDict({"observation": torch.randn(2000, N, F)}, [2000, N])}, [2000])
    with set_exploration_type(ExplorationType.RANDOM):
        action = actor(data)[GROUP, "action"]
    assert spec.is_in(action[0])
    torch.testing.assert_close(action.amin(0), spec.space.low, rtol=0, atol=0.05)
    torch.testing.assert_close(action.amax(0), spec.space.high, rtol=0, atol=0.05)


def test_agents_with_bounds_of_their_own():
    low = -torch.arange(1.0, N + 1).unsqueeze(-1).expand(N, A)
    spec = Bounded(low, -low, (N, A))
    actor = make_tanh_normal_actor(
        group=GROUP, n_agents=N, observation_dim=F, action_spec=spec, share_params=True, model=ModelConfig()
    )
    data = TensorDict({GROUP: TensorDict({"observation": torch.randn(500, N, F)}, [500, N])}, [500])
    with set_exploration_type(ExplorationType.RANDOM):
        reach = actor(data)[GROUP, "action"].abs().amax((0, 2))
    assert (reach > torch.arange(1.0, N + 1) * 0.8).all()
    assert GroupSACLoss(actor, our_critic(True, "independent")).actor_layout == "per_agent"


def test_agent_ids_let_a_shared_actor_treat_agents_differently():
    actor = our_actor(True, model=ModelConfig(agent_ids=True))
    same = torch.randn(1, 1, F).expand(4, N, F).clone()
    loc = actor(TensorDict({GROUP: TensorDict({"observation": same}, [4, N])}, [4]))[GROUP, "loc"]
    assert (loc[:, 0] != loc[:, 1]).all()


@pytest.mark.parametrize("spec", [Bounded(-1, 1, (A,)), Bounded(-1, 1, (N + 1, A)), None])
def test_an_actor_of_a_spec_that_does_not_fit_is_an_error(spec):
    with pytest.raises(ValueError, match=rf"action_spec must be a bounded continuous spec of shape \[{N}, d\]"):
        make_tanh_normal_actor(
            group=GROUP, n_agents=N, observation_dim=F, action_spec=spec, share_params=True, model=ModelConfig()
        )


def test_a_group_of_another_size_is_an_error():
    for network in (
        our_actor(False).module[0].module,
        our_actor(True, model=ModelConfig(agent_ids=True)).module[0].module,
    ):
        with pytest.raises(ValueError, match=rf"must be given entries of shape \[\*B, {N}, F\]"):
            network(torch.randn(5, 1, F))


def test_per_agent_weights_differ():
    actor = copy.deepcopy(our_actor(False))
    same = torch.randn(1, 1, F).expand(4, N, F).clone()
    loc = actor(TensorDict({GROUP: TensorDict({"observation": same}, [4, N])}, [4]))[GROUP, "loc"]
    assert (loc[:, 0] != loc[:, 1]).all()
