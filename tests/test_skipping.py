"""Terminal-state skipping: layouts, fills, drops."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MultiAgentMLP, NormalParamExtractor

from masac import GroupSACLoss, ModelConfig
from masac.layouts import resolve_actor_layout, resolve_critic_layout
from masac.losses.sac import SampledAction
from masac.networks.actors import TanhNormalNetwork
from masac.skipping import resolve_skip_mode
from tests.losses.common import (
    GROUP,
    A,
    B,
    F,
    N,
    actor_of,
    gradients,
    linear_head,
    make_batch,
    noisy_actor,
    noisy_loss,
    our_actor,
    our_critic,
    torchrl_actor,
    torchrl_critic,
    total,
)

MIXED = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=torch.bool).unsqueeze(-1)


class Spy(nn.Module):
    """Remembers the shapes it is called with."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.shapes = []

    def forward(self, *inputs):
        self.shapes.append(tuple(inputs[0].shape))
        return self.network(*inputs)


# -- layouts -----------------------------------------------------------------------------------------------------------


def test_auto_says_shared_only_for_networks_known_to_be():
    shared = [our_actor(True), torchrl_actor(True), noisy_actor(True)]
    per_agent = [
        our_actor(False),
        torchrl_actor(False),
        our_actor(True, model=ModelConfig(agent_ids=True)),
        actor_of(linear_head(nn.Linear(F, 2 * A))),  # nothing says what a bare module does
        actor_of(linear_head(MultiAgentMLP(F, 2 * A, N, centralized=True, share_params=True))),
        actor_of(
            nn.Sequential(
                MultiAgentMLP(F, 8, N, centralized=False, share_params=True), linear_head(nn.Linear(8, 2 * A))
            )
        ),
    ]
    assert [resolve_actor_layout(actor, "auto") for actor in shared] == ["shared"] * 3
    assert [resolve_actor_layout(actor, "auto") for actor in per_agent] == ["per_agent"] * 6


@pytest.mark.parametrize(
    ("actor", "reason"),
    [
        (lambda: our_actor(False), "weights per agent"),
        (lambda: torchrl_actor(False), "weights per agent"),
        (lambda: our_actor(True, model=ModelConfig(agent_ids=True)), "agent ids"),
        (lambda: actor_of(linear_head(MultiAgentMLP(F, 2 * A, N, centralized=True, share_params=True))), "centralized"),
    ],
)
def test_a_wrong_claim_about_a_known_network_is_an_error(actor, reason):
    with pytest.raises(ValueError, match=f"actor_layout='shared' must describe.*{reason}"):
        GroupSACLoss(actor(), our_critic(True, "independent"), target_entropy=-2.0, actor_layout="shared")


class PerAgentWeights(nn.Module):
    """Per-agent weights, written by hand: nothing in it says so."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(N, F, 2 * A))

    def forward(self, observation):
        return torch.einsum("...ni,nio->...no", observation, self.weight)


class PlaceMatters(nn.Module):
    """Takes any number of rows, but adds something that depends on a row's place."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(F, 2 * A)

    def forward(self, observation):
        place = torch.arange(observation.shape[-2], dtype=observation.dtype).unsqueeze(-1)
        return self.linear(observation) + place


class Mixing(nn.Module):
    """Has no weights, but mixes agents before a network that is known to be shared."""

    def __init__(self):
        super().__init__()
        self.network = MultiAgentMLP(F, 2 * A, N, centralized=False, share_params=True)

    def forward(self, observation):
        return self.network(observation - observation.mean(-2, keepdim=True))


class PerAgentBuffer(nn.Module):
    """A shared network behind a normalizer an agent."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(N, F))
        self.network = TanhNormalNetwork(
            n_agents=N, observation_dim=F, action_dim=A, share_params=True, model=ModelConfig()
        )

    def forward(self, observation):
        return self.network(observation - self.mean)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "network", [lambda: linear_head(Mixing()), PerAgentBuffer, lambda: linear_head(PerAgentWeights())]
)
def test_an_actor_that_only_looks_shared_runs_on_rows(network):
    module = network()
    losses = [
        GroupSACLoss(actor_of(module), our_critic(True, "centralized"), target_entropy=-2.0, skip_done_states=skip)
        for skip in (False, "drop")
    ]
    losses[1].load_state_dict(losses[0].state_dict())
    batch = make_batch(terminated=MIXED[:, :1].expand(B, N, 1))
    actions = []
    for loss in losses:
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            loss._act = lambda state, loss=loss: SampledAction(
                loss.actor_network.get_dist(state).deterministic_sample,
                torch.zeros(*state[GROUP].batch_size, 1),
            )
            actions.append(loss._act_next(batch, loss._read_signals(batch)).policy[0])
    on = ~MIXED[:, 0, 0]
    torch.testing.assert_close(actions[1][on], actions[0][on])


def test_a_right_claim_about_an_inner_agent_axis_is_accepted():
    network = nn.Sequential(nn.Linear(F, 8), MultiAgentMLP(8, 2 * A, N, centralized=False, share_params=True))
    loss = GroupSACLoss(
        actor_of(linear_head(network)),
        our_critic(True, "independent"),
        target_entropy=-2.0,
        actor_layout="shared",
        skip_done_states="drop",
    )
    total(loss(make_batch(terminated=MIXED))).backward()
    assert loss._runs_on_pairs is True


@pytest.mark.parametrize("network", [PerAgentWeights, PlaceMatters])
def test_a_wrong_claim_about_a_network_is_an_error(network):
    actor = actor_of(linear_head(network()))
    loss = GroupSACLoss(
        actor, our_critic(True, "independent"), target_entropy=-2.0, actor_layout="shared", skip_done_states="drop"
    )
    with pytest.raises(ValueError, match="actor_layout"):
        loss(make_batch(terminated=MIXED))


def test_a_right_claim_about_an_unknown_network_is_taken():
    actor = actor_of(linear_head(nn.Linear(F, 2 * A)))
    loss = GroupSACLoss(
        actor, our_critic(True, "independent"), target_entropy=-2.0, actor_layout="shared", skip_done_states="drop"
    )
    total(loss(make_batch(terminated=MIXED))).backward()


def test_unknown_options_are_errors():
    with pytest.raises(ValueError, match="skip_done_states must be False, True, 'fill' or 'drop'; got 'skip'"):
        resolve_skip_mode("skip")
    with pytest.raises(ValueError, match="actor_layout must be"):
        resolve_actor_layout(our_actor(True), "both")
    with pytest.raises(ValueError, match="critic_layout must be"):
        resolve_critic_layout(our_critic(True, "team"), "both")
    with pytest.raises(ValueError, match="critic_layout='decentralized' must describe"):
        resolve_critic_layout(our_critic(True, "centralized"), "decentralized")
    for fill in (True, None, "zeros"):
        with pytest.raises(ValueError, match="terminal_fill must be 'current', a number or a function"):
            GroupSACLoss(our_actor(True), our_critic(True, "team"), terminal_fill=fill)  # pyright: ignore[reportArgumentType]


def test_critic_layouts():
    assert resolve_critic_layout(our_critic(True, "centralized"), "auto")
    assert resolve_critic_layout(our_critic(True, "pooled"), "auto")
    assert resolve_critic_layout(our_critic(True, "team"), "auto")
    assert not resolve_critic_layout(our_critic(True, "independent"), "auto")
    assert not resolve_critic_layout(torchrl_critic(True, "independent"), "auto")
    assert resolve_critic_layout(torchrl_critic(True, "centralized"), "auto")
    assert resolve_critic_layout(nn.Linear(2, 2), "auto")  # it does not say: zeros are safe for both


# -- what the actor sees -----------------------------------------------------------------------------------------------


def next_shapes(actor_network, **kwargs):
    spy = Spy(actor_network)
    loss = GroupSACLoss(actor_of(linear_head(spy)), our_critic(True, "independent"), target_entropy=-2.0, **kwargs)
    loss.target_value(make_batch(terminated=MIXED))
    return spy.shapes[-1]


def test_drop_runs_shared_actors_on_surviving_pairs_only():
    on = int((~MIXED).sum())
    assert next_shapes(nn.Linear(F, 2 * A), skip_done_states="drop", actor_layout="shared") == (on, F)


def test_drop_repacks_pairs_for_modules_with_an_agent_axis():
    mlp = MultiAgentMLP(F, 2 * A, N, centralized=False, share_params=True)
    assert next_shapes(mlp, skip_done_states="drop") == (-(-int((~MIXED).sum()) // N), N, F)


def test_drop_runs_per_agent_actors_on_rows_with_a_survivor():
    rows = int((~MIXED).squeeze(-1).any(1).sum())
    assert rows == B - 1
    assert next_shapes(PerAgentWeights(), skip_done_states="drop") == (rows, N, F)


def test_filling_keeps_the_shape():
    assert next_shapes(PerAgentWeights(), skip_done_states="fill") == (B, N, F)


class Recorder(nn.Module):
    """Remembers what it sees."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(F, 2 * A)
        self.seen = torch.zeros(0)

    def forward(self, observation):
        self.seen = observation.detach().clone()
        return self.linear(observation)


@pytest.mark.parametrize("fill", ["current", 0.25, lambda key, current: current + 1])
def test_a_fill_is_seen_where_an_agent_ended_and_nowhere_else(fill):
    recorder = Recorder()
    loss = GroupSACLoss(
        actor_of(linear_head(recorder)),
        our_critic(True, "independent"),
        target_entropy=-2.0,
        skip_done_states="fill",
        terminal_fill=fill,
    )
    batch = make_batch(terminated=MIXED)
    loss.target_value(batch)
    current = batch[GROUP, "observation"]
    filled = current if fill == "current" else torch.full_like(current, 0.25) if fill == 0.25 else current + 1
    expected = torch.where(MIXED, filled, batch["next", GROUP, "observation"])
    assert torch.equal(recorder.seen, expected)


def test_with_skipping_off_terminal_observations_are_seen():
    recorder = Recorder()
    loss = GroupSACLoss(actor_of(linear_head(recorder)), our_critic(True, "independent"), target_entropy=-2.0)
    batch = make_batch(terminated=MIXED)
    loss.target_value(batch)
    assert torch.equal(recorder.seen, batch["next", GROUP, "observation"])


def test_the_dead_at_the_root_are_replaced_by_somebody_living():
    recorder = Recorder()
    loss = GroupSACLoss(actor_of(linear_head(recorder)), our_critic(True, "independent"), target_entropy=-2.0)
    batch = make_batch(mask=~MIXED)
    batch[GROUP, "observation"][MIXED.squeeze(-1)] = float("nan")
    loss.actor_loss(batch)
    living = batch[GROUP, "observation"][~MIXED.squeeze(-1)]
    assert torch.equal(recorder.seen[~MIXED.squeeze(-1)], living)
    assert (recorder.seen[MIXED.squeeze(-1)] == living[0]).all()


def test_a_fill_of_a_wrong_shape_is_an_error():
    loss = noisy_loss(
        noisy_actor(True),
        our_critic(True, "independent"),
        skip_done_states="fill",
        terminal_fill=lambda key, current: current[..., :1, :1, :1],
    )
    loss(make_batch(terminated=MIXED))  # broadcasts
    loss.terminal_fill = lambda key, current: torch.zeros(7)
    with pytest.raises(ValueError, match="terminal_fill must return a tensor that broadcasts to"):
        loss(make_batch(terminated=MIXED))


@pytest.mark.parametrize("skip", ["fill", "drop"])
@pytest.mark.parametrize("layout", ["auto", "shared"])
def test_an_entry_of_the_row_is_read_by_the_actor_too(skip, layout):
    class WithState(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(F + 3, 2 * A)

        def forward(self, observation, state):
            if observation.ndim > state.ndim:
                state = state.unsqueeze(-2).expand(*observation.shape[:-1], 3)
            return NormalParamExtractor()(self.linear(torch.cat([observation, state], -1)))

    actor = actor_of(WithState(), read=("observation", ("state",)))
    loss = GroupSACLoss(
        actor, our_critic(True, "centralized"), target_entropy=-2.0, skip_done_states=skip, actor_layout=layout
    )
    batch = make_batch(terminated=MIXED)
    batch["state"] = torch.randn(B, 3)
    batch["next", "state"] = torch.randn(B, 3)
    batch["next", "state"][2] = float("nan")  # everybody ended in row 2
    losses = loss(batch)
    total(losses).backward()
    assert all(grad.isfinite().all() for grad in gradients(loss).values())


class MultiAgentWithState(nn.Module):
    """A shared ``MultiAgentMLP`` that also reads an entry of the row: pairs of several rows cannot share that."""

    def __init__(self):
        super().__init__()
        self.network = MultiAgentMLP(F + 3, 2 * A, N, centralized=False, share_params=True)

    def forward(self, observation, state):
        state = state.unsqueeze(-2).expand(*observation.shape[:-1], 3)
        return NormalParamExtractor()(self.network(torch.cat([observation, state], -1)))


def test_a_module_that_reads_row_entries_runs_on_rows():
    actor = actor_of(MultiAgentWithState(), read=("observation", ("state",)))
    kwargs = {"target_entropy": -2.0, "skip_done_states": "drop"}
    loss = GroupSACLoss(actor, our_critic(True, "independent"), **kwargs)
    batch = make_batch(terminated=MIXED)
    batch["state"] = torch.randn(B, 3)
    batch["next", "state"] = torch.randn(B, 3)
    total(loss(batch)).backward()
    assert loss.actor_layout == "per_agent"
    with pytest.raises(ValueError, match=r"must read entries of the group 'agents' only; got \['state'\]"):
        GroupSACLoss(actor, our_critic(True, "independent"), actor_layout="shared", **kwargs)


# -- pytorch/rl#2590: an actor that refuses what is not finite ---------------------------------------------------------


class CholeskyActor(nn.Module):
    """Its scale comes from a Cholesky factor of a matrix made of the observation: an error for NaN."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(F, A + A * A)

    def forward(self, observation):
        mean, root = self.linear(observation).split([A, A * A], -1)
        root = root.unflatten(-1, (A, A))
        factor = torch.linalg.cholesky(root @ root.mT + torch.eye(A))
        return mean, factor.diagonal(dim1=-2, dim2=-1)


@pytest.mark.parametrize("skip", ["fill", "drop"])
@pytest.mark.parametrize("layout", ["shared", "per_agent"])
@pytest.mark.parametrize("dead", [False, True])
def test_an_actor_with_a_cholesky_layer_trains(skip, layout, dead):
    actor = actor_of(CholeskyActor())
    loss = GroupSACLoss(
        actor, our_critic(True, "centralized"), target_entropy=-2.0, skip_done_states=skip, actor_layout=layout
    )
    optimizer = torch.optim.Adam(loss.parameters())
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 2] = not dead
    batch = make_batch(terminated=MIXED, mask=mask)
    batch[GROUP, "observation"][~mask.squeeze(-1)] = float("nan")
    batch["next", GROUP, "observation"][(MIXED | ~mask).squeeze(-1)] = float("nan")
    for _ in range(3):
        losses = loss(batch)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        assert all(value.isfinite() for value in losses.values())
    refusing = GroupSACLoss(actor, our_critic(True, "centralized"), target_entropy=-2.0)
    with pytest.raises(torch.linalg.LinAlgError):
        refusing(batch)


def test_the_input_is_not_changed_but_for_the_priority():
    for skip in (False, "fill", "drop"):
        loss = noisy_loss(noisy_actor(False), our_critic(False, "centralized"), skip_done_states=skip)
        batch = make_batch(terminated=MIXED, mask=~MIXED)
        before = batch.clone()
        loss(batch)
        assert set(batch.keys(True, True)) == {*before.keys(True, True), "td_error"}
        assert (batch.exclude("td_error") == before).all()


def test_a_missing_entry_is_an_error_that_lists_those_there_are():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    for key in [(GROUP, "action"), ("next", GROUP, "reward"), ("next", GROUP, "terminated"), (GROUP, "observation")]:
        batch = make_batch()
        del batch[key]
        with pytest.raises(KeyError, match=key[-1]) as error:
            loss(batch)
        assert "noise" in str(error.value)


def test_a_batch_of_the_agents_batch_size_is_an_error():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    batch = make_batch()
    wrong = TensorDict(batch.to_dict(), [B, N])
    with pytest.raises(ValueError, match="batch size of its rows"):
        loss(wrong)
