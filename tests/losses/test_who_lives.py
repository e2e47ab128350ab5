"""Design: who lives, what ends; what the dead hold never matters."""

import pytest
import torch
from tensordict import TensorDict

from masac import GroupSACLoss
from tests.losses.common import (
    GROUP,
    NETWORKS,
    SHARE_AND_CRITIC,
    B,
    N,
    critic_of,
    gradients,
    make_batch,
    noisy_actor,
    noisy_loss,
    our_critic,
    total,
)

SKIPS = (False, "fill", "drop")
NAN = float("nan")


def flags(*true):
    out = torch.zeros(B, N, 1, dtype=torch.bool)
    for index in true:
        out[index] = True
    return out


def alive_mask():
    mask = torch.rand(B, N, 1, generator=torch.Generator().manual_seed(5)) < 0.6
    mask[0] = False  # a row without a living agent
    mask[1] = torch.tensor([[True], [False], [True]])
    return mask


@pytest.mark.parametrize("skip", SKIPS)
def test_terminated_agents_get_the_reward_exactly(skip):
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), skip_done_states=skip)
    batch = make_batch(terminated=flags((0, 1), (2,)))
    target, reward = loss.target_value(batch), batch["next", GROUP, "reward"]
    assert torch.equal(target[0, 1], reward[0, 1])
    assert torch.equal(target[2], reward[2])
    assert (target[0, 0] != reward[0, 0]).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize(("share", "kind"), SHARE_AND_CRITIC)
def test_truncated_agents_still_bootstrap(share, kind, skip):
    loss = noisy_loss(noisy_actor(share), our_critic(share, kind), skip_done_states=skip)
    cut, going = make_batch(truncated=flags((0,), (1, 2))), make_batch()
    torch.testing.assert_close(loss.target_value(cut), loss.target_value(going), rtol=0, atol=0)


@pytest.mark.parametrize("skip", SKIPS)
def test_terminated_wins_where_both_flags_are_set(skip):
    loss = noisy_loss(noisy_actor(True), our_critic(True, "independent"), skip_done_states=skip)
    batch = make_batch(terminated=flags((0, 1)), truncated=flags((0, 1)))
    assert torch.equal(loss.target_value(batch)[0, 1], batch["next", GROUP, "reward"][0, 1])


@pytest.mark.parametrize("skip", SKIPS)
def test_a_time_limit_bootstraps_though_the_next_mask_is_false(skip):
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), skip_done_states=skip)
    everybody = torch.ones(B, N, 1, dtype=torch.bool)
    batch = make_batch(truncated=everybody, mask=everybody)
    expected = loss.target_value(batch)
    batch["next", GROUP, "mask"] = torch.zeros(B, N, dtype=torch.bool)
    assert torch.equal(loss.target_value(batch), expected)
    assert (expected != batch["next", GROUP, "reward"]).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize(("torchrl", "share", "kind"), NETWORKS)
def test_what_a_dead_pair_holds_changes_no_loss_and_no_gradient(torchrl, share, kind, skip):
    loss = noisy_loss(noisy_actor(share, torchrl=torchrl), critic_of(torchrl, share, kind), skip_done_states=skip)
    mask = alive_mask()
    results = []
    for garbage in (0.0, 7.0, NAN):
        batch = make_batch(mask=mask, terminated=flags((1, 0)))
        dead = ~mask.squeeze(-1)
        for key in ("observation", "action", "noise"):
            batch[GROUP, key][dead] = garbage
        for key in ("observation", "noise", "reward"):
            batch["next", GROUP, key][dead] = garbage
        batch["next", GROUP, "terminated"][dead] = garbage == 7.0
        loss.zero_grad()
        losses = loss(batch)
        total(losses).backward()
        results.append((losses, gradients(loss), batch["td_error"]))
    for losses, grads, td_error in results[1:]:
        for name, value in losses.items():
            assert value.isfinite()
            torch.testing.assert_close(value, results[0][0][name], rtol=0, atol=0)
        for name, grad in grads.items():
            torch.testing.assert_close(grad, results[0][1][name], rtol=0, atol=0)
        torch.testing.assert_close(td_error, results[0][2], rtol=0, atol=0)
    assert results[0][2][0] == 0.0  # nobody lives in row 0


@pytest.mark.usefixtures("float64")
def test_independent_critics_ignore_the_dead():
    mask = alive_mask()
    terminated = flags((1, 0), (3, 2))
    batch = make_batch(mask=mask, terminated=terminated)
    loss = noisy_loss(noisy_actor(True), our_critic(True, "independent"), skip_done_states="fill")
    living = mask.squeeze(-1)

    def pairs(agents):
        return TensorDict(
            {
                key: agents[key][living].unsqueeze(1)
                for key in ("observation", "action", "noise", "reward", "terminated")
                if key in agents
            },
            [int(living.sum()), 1],
        )

    rows = TensorDict({GROUP: pairs(batch[GROUP]), "next": {GROUP: pairs(batch["next", GROUP])}}, [int(living.sum())])
    alone = noisy_loss(noisy_actor(True, n_agents=1), our_critic(True, "independent", n_agents=1))
    alone.load_state_dict(loss.state_dict())
    expected, losses = alone(rows), loss(batch)
    for name in ("loss_actor", "loss_qvalue", "loss_alpha", "entropy"):
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_centralized_critic_sees_zeros_for_the_inactive():
    mask = alive_mask()
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    batch = make_batch(mask=mask, terminated=flags((1, 0)))
    signals = loss._read_signals(batch)
    seen = loss._critic_inputs(batch, batch, signals, loss._executed(batch, signals), ())
    dead = ~mask.squeeze(-1)
    assert (seen[GROUP, "observation"][dead] == 0).all()
    assert (seen[GROUP, "action"][dead] == 0).all()
    assert torch.equal(seen[GROUP, "observation"][~dead], batch[GROUP, "observation"][~dead])
    assert torch.equal(seen[GROUP, "alive"], mask)
    assert not signals.alive_next[1, 0]


@pytest.mark.parametrize("group_flags", [False, True], ids=["root-flags", "group-flags"])
@pytest.mark.parametrize("team_reward", [False, True], ids=["own-rewards", "team-reward"])
@pytest.mark.parametrize("shape", ["[B]", "[B, 1]"])
def test_root_signals_and_group_signals_give_the_same_losses(group_flags, team_reward, shape):
    ended = torch.tensor([True, False, False, True, False, False])
    batch = make_batch(terminated=ended.reshape(B, 1, 1).expand(B, N, 1))
    batch["next", GROUP, "reward"] = batch["next", GROUP, "reward"][:, :1].expand(B, N, 1).clone()
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    expected = loss.target_value(batch)
    team = (B,) if shape == "[B]" else (B, 1)
    if not group_flags:
        for name in ("terminated", "done", "truncated"):
            del batch["next", GROUP, name]
        batch["next", "terminated"] = ended.reshape(team)
    if team_reward:
        reward = batch["next", GROUP, "reward"][:, 0, 0]
        del batch["next", GROUP, "reward"]
        batch["next", "reward"] = reward.reshape(team)
    assert torch.equal(loss.target_value(batch), expected)


def test_the_end_of_one_ends_all_with_any():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), terminated_reduction="any")
    batch = make_batch(terminated=flags((0, 1)))
    assert torch.equal(loss.target_value(batch)[0], batch["next", GROUP, "reward"][0])
    assert (loss.target_value(batch)[1] != batch["next", GROUP, "reward"][1]).all()


def test_a_dead_agents_stale_flag_ends_nobody():
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1] = False
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), terminated_reduction="any")
    batch = make_batch(mask=mask, terminated=flags((0, 1)))
    assert (loss.target_value(batch)[0, 0] != batch["next", GROUP, "reward"][0, 0]).all()


def test_all_with_a_value_an_agent_is_refused_without_posthumous():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), terminated_reduction="all")
    with pytest.raises(ValueError, match=r"must come with posthumous=True.*nothing trains"):
        loss(make_batch())


def test_posthumous_needs_all_and_a_team_reward():
    networks = noisy_actor(True), our_critic(True, "centralized")
    with pytest.raises(ValueError, match="must come with terminated_reduction='all'"):
        noisy_loss(*networks, posthumous=True)
    with pytest.raises(ValueError, match="must come with a team reward"):
        noisy_loss(*networks, posthumous=True, terminated_reduction="all")(make_batch())


# -- team critics ------------------------------------------------------------------------------------------------------


def team_loss(**kwargs):
    kwargs = {"terminated_reduction": "all", "reward_reduction": "mean", **kwargs}
    return noisy_loss(noisy_actor(True), our_critic(True, "team"), **kwargs)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("how", ["any", "all"])
@pytest.mark.parametrize("reward", ["mean", "sum"])
def test_a_team_target_is_that_of_the_equation(skip, how, reward):
    mask = alive_mask()
    terminated = flags((1, 0), (2,), (3, 1))
    batch = make_batch(mask=mask, terminated=terminated)
    loss = team_loss(terminated_reduction=how, reward_reduction=reward, skip_done_states=skip, gamma=0.5)
    target = loss.target_value(batch)
    assert target.shape == (B, 1)
    for row in range(B):
        living = [i for i in range(N) if mask[row, i]]
        if not living:
            continue
        rewards = sum(batch["next", GROUP, "reward"][row, i] for i in living)
        expected = rewards / N if reward == "mean" else rewards
        ended = {"any": any, "all": all}[how](bool(terminated[row, i]) for i in living)
        if not ended:
            acting = [i for i in living if not terminated[row, i]]
            on = torch.zeros(1, N, 1, dtype=torch.bool)
            on[0, acting] = True
            action, log_prob = loss._act(batch["next"][row : row + 1])
            state = TensorDict({GROUP: TensorDict({}, [1, N])}, [1])
            state[GROUP, "observation"] = batch["next", GROUP, "observation"][row : row + 1] * on
            state[GROUP, "action"], state[GROUP, "alive"] = action * on, on
            values = loss._q_values(state, loss.target_qvalue_network_params, N)
            entropy = sum(log_prob[0, i, 0] for i in acting)
            expected = expected + 0.5 * (values.amin(0)[0] - loss.alpha * entropy)
        torch.testing.assert_close(target[row], expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("how", ["any", "all"])
def test_stale_flags_of_the_dead_do_not_affect_the_team(how):
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1] = mask[1, 1] = False
    # row 0: the dead one's flag is set, nobody else's; row 1: the living ended, the dead one's flag is not set
    loss = team_loss(terminated_reduction=how)
    batch = make_batch(mask=mask, terminated=flags((0, 1), (1, 0), (1, 2)))
    signals = loss._read_signals(batch)
    assert signals.ends(torch.zeros(B, 1))[:2].tolist() == [[False], [True]]
    assert signals.alive_next[0].tolist() == [[True], [False], [True]]


@pytest.mark.usefixtures("float64")
def test_a_posthumous_value_has_no_entropy():
    kwargs = {"terminated_reduction": "all", "posthumous": True, "reward_reduction": "mean", "gamma": 0.5}
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), alpha_init=1.0, **kwargs)
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1] = False
    batch = make_batch(mask=mask, terminated=flags((2, 0)))
    hot = loss.target_value(batch)
    loss.log_alpha.data.fill_(-50.0)
    cold = loss.target_value(batch)
    change = hot - cold  # -γ α log π of those who act next, 0 for the dead
    assert change[0, 1] == 0
    assert change[2, 0] == 0
    assert (change[0, [0, 2]] != 0).all()
    assert (change[1] != 0).all()


def test_what_a_posthumous_value_is_off_by_draws_no_row():
    kwargs = {"terminated_reduction": "all", "posthumous": True, "reward_reduction": "mean"}
    loss = noisy_loss(noisy_actor(True), our_critic(False, "independent"), **kwargs)
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0, 1:] = False
    priorities = []
    for _ in range(2):
        torch.manual_seed(0)
        batch = make_batch(mask=mask)
        loss(batch)
        priorities.append(batch["td_error"])
        # Now the values of agents 1 and 2, dead in row 0, are far off.
        biases = [leaf for path, leaf in loss.qvalue_network_params.items(True, True) if path[-1] == "bias"]
        biases[-1].data[:, 1:] += 1e3
    assert priorities[1][0] == priorities[0][0]
    assert (priorities[1][1:] > 900).all()


def test_a_team_critic_must_be_told_how_to_reduce():
    with pytest.raises(ValueError, match="terminated_reduction='any' or 'all'"):
        team_loss(terminated_reduction="none")(make_batch())
    with pytest.raises(ValueError, match="reward_reduction='mean' or 'sum'"):
        team_loss(reward_reduction=None)(make_batch())


@pytest.mark.usefixtures("float64")
def test_the_team_entropy_gradient_is_independent_of_size():
    # Copies of one agent, a critic that is flat: only the entropy term moves the actor. Each agent adds its own share,
    # so the gradient of the shared actor grows with N; a mean over agents would keep it as it is.
    sizes = {}
    for n_agents in (1, 4):
        torch.manual_seed(0)
        actor, critic = noisy_actor(True, n_agents=n_agents), our_critic(True, "team", n_agents=n_agents)
        loss = noisy_loss(actor, critic, terminated_reduction="all", reward_reduction="mean")
        for parameter in loss.qvalue_network_params.values(True, True):
            parameter.data.zero_()
        one = make_batch(n_agents=1)
        agents = TensorDict(
            {key: one[GROUP, key].expand(B, n_agents, -1).clone() for key in ("observation", "action", "noise")},
            [B, n_agents],
        )
        value, _ = loss.actor_loss(TensorDict({GROUP: agents, "next": make_batch(n_agents=n_agents)["next"]}, [B]))
        value.backward()
        sizes[n_agents] = sum(p.grad.norm() ** 2 for p in loss.actor_network_params.values(True, True)) ** 0.5
    torch.testing.assert_close(sizes[4], 4 * sizes[1], rtol=1e-9, atol=1e-12)


def test_own_and_joint_are_the_same_for_a_team():
    grads = []
    for how in ("own", "joint"):
        torch.manual_seed(0)
        loss = team_loss(actor_gradient=how)
        total(loss(make_batch())).backward()
        grads.append(gradients(loss))
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name])


def test_priorities_are_the_largest_error_of_the_living():
    mask = alive_mask()
    loss = noisy_loss(noisy_actor(True), our_critic(True, "independent"))
    batch = make_batch(mask=mask)
    loss(batch)
    target = loss.target_value(batch)
    signals = loss._read_signals(batch)
    inputs = loss._critic_inputs(batch, batch, signals, loss._executed(batch, signals), ())
    error = (loss._q_values(inputs, loss.qvalue_network_params, N) - target).abs()
    for row in range(B):
        errors = [error[k, row, i].item() for k in range(2) for i in range(N) if mask[row, i]]
        assert batch["td_error"][row].item() == pytest.approx(max(errors, default=0.0))


def test_a_rows_own_number_of_steps_sets_its_discount():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "independent"), gamma=0.5)
    batch = make_batch()
    reward = batch["next", GROUP, "reward"]
    one_step = loss.target_value(batch) - reward
    batch["steps_to_next_obs"] = torch.tensor([1, 2, 3, 1, 2, 3])
    expected = one_step * torch.tensor([1.0, 0.5, 0.25, 1.0, 0.5, 0.25]).reshape(B, 1, 1)
    torch.testing.assert_close(loss.target_value(batch) - reward, expected)


def test_importance_weights_are_one_a_row():
    # Weight 0 for all rows but the first: the weighted means are those of the first row alone.
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    batch = make_batch()
    first = loss(batch[:1].clone())
    batch["priority_weight"] = torch.tensor([2.0, 0, 0, 0, 0, 0])
    weighted = loss(batch)
    for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
        torch.testing.assert_close(weighted[name], first[name])
    batch["priority_weight"] = torch.ones(B, N)
    with pytest.raises(ValueError, match="one per row"):
        loss(batch)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_weight_of_a_row_of_the_dead_may_be_nan(reduction):
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), reduction=reduction)
    batch = make_batch(mask=alive_mask())
    batch["priority_weight"] = torch.ones(B)
    batch["priority_weight"][0] = NAN
    total(loss(batch)).sum().backward()
    assert all(grad.isfinite().all() for grad in gradients(loss).values())


def test_reduction_none_keeps_agents_with_zero_for_the_dead():
    mask = alive_mask()
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), reduction="none")
    losses = loss(make_batch(mask=mask))
    reference = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    reference.load_state_dict(loss.state_dict())
    means = reference(make_batch(mask=mask))
    for name in ("loss_actor", "loss_qvalue", "loss_alpha"):
        assert losses[name].shape == (B, N)
        assert (losses[name][~mask.squeeze(-1)] == 0).all()
        torch.testing.assert_close(losses[name].sum() / mask.sum(), means[name])


def test_one_temperature_per_agent():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), alpha_per_agent=True, n_agents=N)
    assert loss.log_alpha.shape == (N,)
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[:, 2] = False
    losses = loss(make_batch(mask=mask))
    total(losses).backward()
    assert losses["alpha"].shape == (N,)
    assert loss.log_alpha.grad is not None
    assert (loss.log_alpha.grad[:2] != 0).all()
    assert loss.log_alpha.grad[2] == 0


# -- a chain whose values are known ------------------------------------------------------------------------------------


class ChainCritic(torch.nn.Module):
    """Q_i of the joint state: who is alive, and where; the action does not matter in the chain."""

    def __init__(self, start):
        super().__init__()
        self.hidden = torch.nn.Linear(2 * 4, 64)
        self.out = torch.nn.Linear(64, 2)
        self.start = start

    def forward(self, observation, alive):
        joint = torch.cat([observation, alive.to(observation.dtype)], -1).flatten(-2)
        return (self.out(torch.tanh(self.hidden(joint))) + self.start).unsqueeze(-1)


@pytest.mark.parametrize("start", [1.9, *(pytest.param(start, marks=pytest.mark.slow) for start in (-3.5, 5.5))])
def test_posthumous_values_of_a_chain_converge_to_the_truth(start):
    """Two agents, three states, reward 1 a step for the team, γ = 0.9, no entropy.

    Agent 0 dies on the step from s0; agent 1 plays on to the end after s2. The team's return is the same for both:
    V(s2) = 1, V(s1) = 1 + 0.9 * 1 = 1.9, V(s0) = 1 + 0.9 * 1.9 = 2.71, for the dead agent 0 in s1 and s2 too.
    """
    from tensordict.nn import TensorDictModule

    states = torch.eye(3)
    alive = torch.tensor([[True, True], [False, True], [False, True]])
    next_states = torch.stack([states[1], states[2], torch.full((3,), NAN)])
    terminated = torch.tensor([[True, False], [False, False], [False, True]])
    observation = states.unsqueeze(1).expand(3, 2, 3).clone()
    observation[1:, 0] = NAN  # the dead see nothing
    chain = TensorDict(
        {
            GROUP: TensorDict({"observation": observation, "action": torch.zeros(3, 2, 1), "mask": alive}, [3, 2]),
            "next": {
                GROUP: TensorDict({"observation": next_states.unsqueeze(1).expand(3, 2, 3).clone()}, [3, 2]),
                "reward": torch.ones(3, 1),
            },
        },
        [3],
    )
    chain["next", GROUP, "terminated"] = terminated
    from torchrl.data import Bounded

    from masac import ModelConfig, make_tanh_normal_actor

    actor = make_tanh_normal_actor(
        group=GROUP,
        n_agents=2,
        observation_dim=3,
        action_spec=Bounded(-1, 1, (2, 1)),
        share_params=True,
        model=ModelConfig(hidden=(8,)),
    )
    critic = TensorDictModule(
        ChainCritic(start), in_keys=[(GROUP, "observation"), (GROUP, "alive")], out_keys=[(GROUP, "state_action_value")]
    )
    loss = GroupSACLoss(
        actor,
        critic,
        num_qvalue_nets=1,
        gamma=0.9,
        alpha_init=1e-9,
        fixed_alpha=True,
        terminated_reduction="all",
        posthumous=True,
        loss_function="l2",
        skip_done_states="fill",
        delay_qvalue=False,
    )
    optimizer = torch.optim.Adam(loss.qvalue_network_params.parameters(), lr=2e-2)
    for _ in range(500):
        optimizer.zero_grad()
        loss.qvalue_loss(chain)[0].backward()
        optimizer.step()
    target = loss.target_value(chain).squeeze(-1)
    expected = torch.tensor([[2.71, 2.71], [1.9, 1.9], [1.0, 1.0]])
    torch.testing.assert_close(target, expected, rtol=0, atol=0.03)


def test_shapes_are_those_of_the_design():
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"))
    batch = make_batch()
    losses = loss(batch)
    as_torchrl = ["loss_actor", "loss_qvalue", "loss_alpha", "alpha", "entropy"]
    said = ["target_entropy", "qvalue", "td_error", "fraction_masked", "fraction_terminal"]
    assert list(losses.keys()) == loss.out_keys == [*as_torchrl, *said]
    assert all(value.shape == () for value in losses.values())
    assert loss.target_value(batch).shape == (B, N, 1)
    assert not loss.target_value(batch).requires_grad
    assert batch["td_error"].shape == (B,)


def test_what_a_loss_says_of_itself_is_of_the_living():
    mask = torch.ones(B, N, 1, dtype=torch.bool)
    mask[0] = False
    mask[1, 1:] = False
    loss = noisy_loss(noisy_actor(True), our_critic(False, "independent"), target_entropy=-1.5)
    batch = make_batch(mask=mask, terminated=flags((0, 0), (1, 0), (2, 1)))
    losses = loss(batch)
    living = B * N - N - (N - 1)
    assert losses["fraction_masked"].item() == pytest.approx(1 - living / (B * N))
    assert losses["fraction_terminal"].item() == pytest.approx(2 / living)  # that of row 0 is dead
    assert losses["target_entropy"].item() == -1.5
    assert batch["td_error"][0] == 0
    assert losses["td_error"].item() == pytest.approx(batch["td_error"][1:].mean().item())  # nobody lives in row 0
    # Of agents that are dead wherever they are looked at, values do not count.
    for leaf in loss.qvalue_network_params.values(True, True):
        leaf.data.zero_()
    biases = [leaf for path, leaf in loss.qvalue_network_params.items(True, True) if path[-1] == "bias"]
    biases[-1].data += 3.0
    assert loss(batch)["qvalue"].item() == pytest.approx(3.0)
