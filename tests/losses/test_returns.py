"""n-step targets of TorchRL's own transforms, and λ-returns, with numbers by hand and a loop beside them."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.data.postprocs import MultiStep
from torchrl.envs import MultiStepTransform
from torchrl.objectives import ValueEstimators
from torchrl.objectives.value.functional import td_lambda_return_estimate

from masac import GroupSACLoss, functional
from tests.losses.common import GROUP, N, make_batch, noisy_actor, noisy_loss, our_critic, total

NAN = float("nan")
GAMMA = 0.5


class ValueIsObservation(torch.nn.Module):
    """An agent's value is what it observes (times 1)."""

    def __init__(self, *, team=False):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(()))
        self.team = team

    def forward(self, observation, action):
        value = self.one * observation[..., :1]
        return value.sum(-2) if self.team else value


def known_loss(*, team=False, **kwargs):
    """γ = 1/2 and no entropy, so that targets are rewards and observations."""
    critic = TensorDictModule(
        ValueIsObservation(team=team),
        in_keys=[(GROUP, "observation"), (GROUP, "action")],
        out_keys=["state_action_value" if team else (GROUP, "state_action_value")],
    )
    settings = {"gamma": GAMMA, "alpha_init": 1e-12, "fixed_alpha": True, "delay_qvalue": False, **kwargs}
    return GroupSACLoss(noisy_actor(True, n_agents=2), critic, group=GROUP, target_entropy=-2.0, **settings)


def trajectory(rewards, values, *, terminated=(), truncated=(), mask=None):
    """One trajectory ``[1, T]`` of two agents; rewards and next values ``T`` rows of two; flags as (step, agent)."""
    steps = len(rewards)
    flags = torch.zeros(2, 1, steps, 2, 1, dtype=torch.bool)
    for index, pairs in enumerate((terminated, truncated)):
        for step, agent in pairs:
            flags[index, 0, step, agent] = True
    batch = make_batch(batch=(1, steps), n_agents=2, terminated=flags[0], truncated=flags[1], mask=mask)
    batch["next", GROUP, "reward"] = torch.tensor(rewards).reshape(1, steps, 2, 1)
    batch["next", GROUP, "observation"][..., 0] = torch.tensor(values).reshape(1, steps, 2)
    return batch


def at_root(batch):
    """The flags of the group as the team's, where VMAS has them."""
    for name in ("done", "terminated", "truncated"):
        batch["next", name] = batch["next", GROUP, name].all(-2)
        del batch["next", GROUP, name]
    return batch


STEPS = {
    # Four steps, values of the states after them; both agents are alike.
    "rewards": [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [8.0, 8.0]],
    "values": [[16.0, 16.0], [32.0, 32.0], [64.0, 64.0], [128.0, 128.0]],
}


@pytest.mark.parametrize("how", ["MultiStep", "MultiStepTransform"])
@pytest.mark.parametrize("flags", ["root", "group"])
@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # Two steps each: 1 + 2/2 + 32/4, 2 + 4/2 + 64/4, 4 + 8/2 + 128/4; nothing follows the last: 8 + 128/2.
        ([], [], [10.0, 20.0, 40.0, 72.0]),
        # Terminated after the second step: 1 + 2/2; 2; the next two are an episode of their own.
        ([1], [], [2.0, 2.0, 40.0, 72.0]),
        # Truncated there: 1 + 2/2 + 32/4; 2 + 32/2.
        ([], [1], [10.0, 18.0, 40.0, 72.0]),
    ],
)
def test_n_step_targets_of_torchrls_transforms(how, flags, terminated, truncated, expected):
    both = [(step, agent) for step in terminated for agent in (0, 1)]
    cut = [(step, agent) for step in truncated for agent in (0, 1)]
    batch = trajectory(**STEPS, terminated=both, truncated=cut)
    if flags == "root":
        batch = at_root(batch)
    else:
        batch["next", "done"] = batch["next", GROUP, "done"].all(-2)  # where the transforms look for the end
    target = known_loss().target_value(n_step(batch, how))
    steps = target.shape[1]
    assert target.shape == (1, steps, 2, 1)
    assert steps == {"MultiStep": 4, "MultiStepTransform": 2}[how]  # a buffer waits for the steps that follow
    for agent in (0, 1):
        assert target[0, :, agent, 0].tolist() == pytest.approx(expected[:steps])


def n_step(batch, how):
    """Two-step data, by the settings that docs/moving_from_sacloss.md gives for groups."""
    reward = (GROUP, "reward")
    if how == "MultiStep":
        post = MultiStep(gamma=GAMMA, n_steps=2)
        post.reward_keys, post.done_keys = (reward,), ()
        return post(batch)
    transform = MultiStepTransform(n_steps=2, gamma=GAMMA, reward_keys=[reward], done_keys=[])
    return transform._inv_call(batch)


def test_an_n_step_target_of_an_agent_that_dies_is_its_rewards():
    # Agent 1 dies after the second step: 1 + 2/2, then 2; dead after it. Agent 0 plays on: 1 + 2/2 + 32/4, ...
    mask = torch.tensor([[True, True], [True, True], [True, False], [True, False]]).reshape(1, 4, 2, 1)
    batch = trajectory(**STEPS, terminated=[(1, 1), (2, 1), (3, 1)], mask=mask)
    batch["next", GROUP, "reward"][0, 2:, 1] = 0.0  # as TorchRL's PettingZoo environments leave it
    batch["next", "done"] = torch.zeros(1, 4, 1, dtype=torch.bool)
    target = known_loss().target_value(n_step(batch, "MultiStep"))
    assert target[0, :, 0, 0].tolist() == pytest.approx([10.0, 20.0, 40.0, 72.0])
    assert target[0, :, 1, 0].tolist() == pytest.approx([2.0, 2.0, 0.0, 0.0])


# -- λ-returns ---------------------------------------------------------------------------------------------------------


def test_soft_td_lambda_target_by_hand():
    # γ = λ = 1/2. From the last: 8 + 128/2 = 72 (cut); 4 (ends); 2 + (32/2 + 4/2)/2 = 11; 1 + (16/2 + 11/2)/2 = 7.75
    column = lambda *values: torch.tensor(values).unsqueeze(-1)  # noqa: E731
    target = functional.soft_td_lambda_target(
        column(1.0, 2.0, 4.0, 8.0),
        column(False, False, True, False),
        column(False, False, True, True),
        column(16.0, 32.0, NAN, 128.0),
        GAMMA,
        0.5,
        0,
    )
    assert target.squeeze(-1).tolist() == [7.75, 11.0, 4.0, 72.0]


def lambda_loss(lmbda=0.5, **kwargs):
    loss = known_loss(**kwargs)
    loss.make_value_estimator(ValueEstimators.TDLambda, gamma=GAMMA, lmbda=lmbda)
    return loss


def test_lambda_returns_end_with_each_agents_own_flag():
    # Agent 0 is terminated after the third step, agent 1 truncated after the second.
    # Agent 0: as by hand above. Agent 1: 72; 4 + (64/2 + 72/2)/2 = 38; cut: 2 + 32/2 = 18; 1 + (16/2 + 18/2)/2 = 9.5
    batch = trajectory(**STEPS, terminated=[(2, 0)], truncated=[(1, 1)])
    target = lambda_loss().target_value(batch)
    assert target[0, :, 0, 0].tolist() == pytest.approx([7.75, 11.0, 4.0, 72.0])
    assert target[0, :, 1, 0].tolist() == pytest.approx([9.5, 18.0, 38.0, 72.0])


def test_the_roots_flags_cut_the_trajectories_of_all():
    # Truncated after the second step: 2 + 32/2 = 18, 1 + (16/2 + 18/2)/2 = 9.5, as for agent 1 above.
    batch = at_root(trajectory(**STEPS, truncated=[(1, 0), (1, 1)]))
    target = lambda_loss().target_value(batch)
    for agent in (0, 1):
        assert target[0, :, agent, 0].tolist() == pytest.approx([9.5, 18.0, 38.0, 72.0])


def test_what_comes_after_a_death_reaches_no_lambda_return():
    mask = torch.tensor([[True, True], [True, True], [True, True], [True, False]]).reshape(1, 4, 2, 1)
    batch = trajectory(**STEPS, terminated=[(2, 1)], mask=mask)
    batch["next", GROUP, "reward"][0, 3, 1] = NAN
    batch["next", GROUP, "observation"][0, 2:, 1] = NAN
    target = lambda_loss(skip_done_states="fill").target_value(batch)
    assert target[0, :, 1, 0].tolist() == pytest.approx([7.75, 11.0, 4.0, 0.0])


def test_a_teams_lambda_return_goes_on_to_its_last_member():
    # Agent 1 dies after the first step; the team ends after the third. Rewards 2, 4, 8, 16 (sums); the value is the sum
    # of what those who act see: 16 (agent 1 is gone: 0), 32. From the last: 8; 4 + (32/2 + 8/2)/2 = 14;
    # 2 + (16/2 + 14/2)/2 = 9.5.
    mask = torch.tensor([[True, True], [True, False], [True, False]]).reshape(1, 3, 2, 1)
    steps = {"rewards": [[2.0, 0.0], [4.0, NAN], [8.0, NAN]], "values": STEPS["values"][:3]}
    batch = trajectory(**steps, terminated=[(0, 1), (1, 1), (2, 0), (2, 1)], mask=mask)
    rules = {"terminated_reduction": "all", "reward_reduction": "sum", "critic_layout": "centralized"}
    target = lambda_loss(team=True, **rules).target_value(batch)
    assert target.shape == (1, 3, 1)
    assert target.flatten().tolist() == pytest.approx([9.5, 14.0, 8.0])


@pytest.mark.parametrize("lmbda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_lambda_returns_equal_a_loop_over_rows_agents_and_steps(lmbda, seed):
    rows, steps = 4, 7
    draw = torch.Generator().manual_seed(seed)
    terminated, truncated = (torch.rand(rows, steps, N, 1, generator=draw) < 0.2 for _ in range(2))
    mask = torch.rand(rows, steps, N, 1, generator=draw) < 0.8
    batch = make_batch(batch=(rows, steps), terminated=terminated, truncated=truncated, mask=mask)
    root = torch.rand(rows, steps, 1, generator=draw) < 0.1
    batch["next", "done"] = root
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), gamma=0.9, skip_done_states="fill")
    one_step = loss.target_value(batch)
    loss.make_value_estimator(ValueEstimators.TDLambda, gamma=0.9, lmbda=lmbda)
    target = loss.target_value(batch)
    reward = batch["next", GROUP, "reward"]
    for row in range(rows):
        for agent in range(N):
            after = None
            for step in reversed(range(steps)):
                at = (row, step, agent, 0)
                if not mask[at]:
                    assert target[at] == 0
                    after = None
                    continue
                value = (one_step[at] - reward[at]) / 0.9  # 0 where it ends
                if after is not None and not (terminated[at] or truncated[at] or root[row, step, 0]):
                    value = (1 - lmbda) * value + lmbda * after
                after = reward[at] + (0.0 if terminated[at] else 0.9 * value)
                torch.testing.assert_close(target[at], after, rtol=1e-4, atol=1e-5)


def test_they_equal_torchrls_where_nobody_is_dead():
    done = torch.zeros(4, 7, 1, dtype=torch.bool)
    done[1, 3] = done[2, 5] = True
    reward, value = torch.randn(4, 7, 1), torch.randn(4, 7, 1)
    for terminated in (done, torch.zeros_like(done)):
        cuts = done.clone()
        cuts[:, -1] = True
        ours = functional.soft_td_lambda_target(reward, terminated, cuts, value, 0.9, 0.8, 1)
        theirs = td_lambda_return_estimate(0.9, 0.8, value, reward, done, terminated)
        torch.testing.assert_close(ours, theirs)


def test_lambda_returns_give_finite_gradients_and_priorities():
    batch = make_batch(batch=(4, 5))
    batch["next", GROUP, "done"][:, 2] = batch["next", GROUP, "terminated"][:, 2] = True
    batch["next", GROUP, "observation"][:, 2] = NAN
    loss = noisy_loss(noisy_actor(True), our_critic(True, "centralized"), skip_done_states="fill")
    loss.make_value_estimator(ValueEstimators.TDLambda, lmbda=0.9)
    total(loss(batch)).backward()
    assert all(bool(p.grad.isfinite().all()) for p in loss.parameters() if p.grad is not None)
    assert batch["td_error"].shape == (4, 5)
    assert ("next", GROUP, "done") in loss.in_keys


def test_lambda_returns_of_unfit_data_are_errors():
    loss = lambda_loss()
    with pytest.raises(ValueError, match=r"must be given whole trajectories, batch size \[\.\.\., T\]; got \[6\]"):
        loss.target_value(make_batch(n_agents=2))
    batch = trajectory(**STEPS)
    batch["steps_to_next_obs"] = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="must be given data of single steps"):
        loss.target_value(batch)
    batch = trajectory(**STEPS)
    del batch["next", GROUP, "done"]
    with pytest.raises(KeyError, match="λ-returns need the done flags"):
        loss.target_value(batch)


def test_a_state_dict_keeps_lambda():
    loss = lambda_loss(lmbda=0.25)
    state = loss.state_dict()
    other = lambda_loss(lmbda=0.75)
    other.load_state_dict(state)
    assert other.value_estimator.lmbda.item() == 0.25
    used = lambda_loss(lmbda=0.25)
    used.load_state_dict(known_loss().state_dict())  # of a loss whose estimator was not made yet
    assert used.value_estimator.lmbda.item() == 0.25


def test_shapes_of_rows_of_slices():
    """What SliceSampler gives, flat, as trajectories again."""
    flat = make_batch(batch=(12,))
    loss = noisy_loss(noisy_actor(True), our_critic(True, "independent"))
    loss.make_value_estimator(ValueEstimators.TDLambda)
    assert isinstance(flat, TensorDict)
    assert loss.target_value(flat.reshape(3, 4)).shape == (3, 4, N, 1)
