"""The scale of rewards does not decide what is learned."""

import math
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from masac.group_signals import EndRules, read_group_signals
from masac.groups import GroupSpec
from masac.training.reward_scaling import ReturnSpread, RewardScaling
from tests.training.common import rows, run, tiny

GROUP = GroupSpec(
    name="agents",
    n_agents=2,
    observation_dim=1,
    action_spec=Bounded(-1, 1, (2, 1)),
    discrete=None,
    has_action_mask=False,
)
TIMES_EIGHT = "tests.envs.scaled_navigation:Scenario"


def follow(spread, rewards, *, done, alive=None):
    """One environment with one agent: rewards [T], done [T]."""
    rewards, done = torch.tensor(rewards).view(1, -1, 1), torch.tensor(done).view(1, -1)
    alive = torch.ones_like(rewards, dtype=torch.bool) if alive is None else torch.tensor(alive).view(1, -1, 1)
    spread.merge(*spread.follow(rewards, alive, done))


def test_the_factor_is_one_over_the_deviation_of_returns():
    spread = ReturnSpread(1, 1, 0.5)
    assert spread.factor == 1.0
    # G = 4, 4/2 + 2 = 4, 4/2 - 2 = 0; a new episode begins: 8. The batch ends within it: 8/2 + 0 = 4.
    follow(spread, [4.0, 2.0, -2.0, 8.0], done=[False, False, True, False])
    follow(spread, [0.0], done=[False])
    # Mean 4, squared deviations 0, 0, 16, 16, 0: variance 32/5.
    assert spread.factor == pytest.approx(1 / math.sqrt(32 / 5))


def test_a_restart_forgets_the_return_so_far():
    spread = RewardScaling([GROUP], num_envs=2, gamma=1.0, scale=1.0, normalize=True)
    spread.spreads["agents"].running[:] = 3.0
    spread.restart([1])
    assert spread.spreads["agents"].running.tolist() == [[3.0, 3.0], [0.0, 0.0]]
    spread.restart()
    assert not spread.spreads["agents"].running.any()


def scaling(**options):
    return RewardScaling([GROUP], num_envs=1, gamma=0.5, **{"scale": 1.0, "normalize": False, **options})


def collected(reward, *, of_group=True):
    """Steps of one environment; ``reward``: ``[T, 2]`` of the agents, or ``[T]`` of the environment."""
    reward, steps = torch.tensor(reward).unsqueeze(0).unsqueeze(-1), len(reward)
    done = torch.zeros(1, steps, 1, dtype=torch.bool)
    agents = TensorDict({"reward": reward} if of_group else {}, (1, steps))
    return TensorDict(
        {"next": {"agents": agents, "done": done, **({} if of_group else {"reward": reward})}}, (1, steps)
    )


@pytest.mark.parametrize("of_group", [True, False])
def test_rewards_are_clipped_where_they_are(of_group):
    rewards = [[-110.0, 2.0], [12.0, -3.0]] if of_group else [-110.0, 2.0]
    key = ("next", "agents", "reward") if of_group else ("next", "reward")
    data = collected(rewards, of_group=of_group)
    clipped = scaling(clip=10.0).clipped(data)
    assert clipped[key].flatten().tolist() == ([-10.0, 2.0, 10.0, -3.0] if of_group else [-10.0, 2.0])
    assert data[key].min() == -110  # the episode's return, for example, is of the rewards as they are
    assert scaling().clipped(data) is data


def test_a_reward_that_is_not_finite_is_not_clipped_away():
    seen = scaling(clip=10.0).clipped(collected([[math.inf, math.nan]]))["next", "agents", "reward"].flatten()
    assert seen[0] == math.inf
    assert seen[1].isnan()


def test_the_dead_and_non_finite_rewards_do_not_count():
    spread = ReturnSpread(1, 1, 1.0)
    follow(spread, [1.0, math.nan, 2.0, math.inf], done=[False] * 4)  # G = 1, 1, 3, 3
    follow(spread, [0.0, 0.0], done=[False] * 2, alive=[False, False])
    assert spread.factor == 1.0


def test_a_reward_that_was_hardly_ever_found_becomes_at_most_20():
    spread = ReturnSpread(1, 1, 0.0)
    follow(spread, [0.0] * 9_999 + [5.0], done=[False] * 10_000)
    assert spread.factor == pytest.approx(20 / 5)


def test_rewards_are_scaled_in_batches_not_in_the_buffer():
    scaling = RewardScaling([GROUP], num_envs=1, gamma=0.0, scale=3.0, normalize=True)
    reward = torch.tensor([[[[-2.0], [2.0]]]])
    done = torch.zeros(1, 1, 1, dtype=torch.bool)
    collected = TensorDict({"next": {"done": done, "agents": {"reward": reward}}}, [1, 1])
    scaling.observe(collected)  # standard deviation 2
    batch = collected.copy()
    scaling.rescale(batch)
    assert batch["next", "agents", "reward"].flatten().tolist() == [-3.0, 3.0]
    assert collected["next", "agents", "reward"] is reward


@pytest.mark.parametrize("place", ["each agent", "root"])
@pytest.mark.parametrize("reduction", [None, "sum", "mean"])
def test_reward_statistics_follow_the_rewards_of_the_losses(reduction, place):
    scaling = RewardScaling([GROUP], num_envs=4, gamma=0.0, scale=1.0, normalize=True, reduction=reduction)
    torch.manual_seed(0)
    shape, mask = (4, 3), torch.rand(4, 3, 2) < 0.6  # some are dead
    next_data = {"done": torch.zeros(*shape, 1, dtype=torch.bool), "terminated": torch.zeros(*shape, 1)}
    if place == "root":
        next_data["reward"] = torch.randn(*shape, 1)
    else:  # what the dead got never matters
        next_data["agents"] = {"reward": torch.where(mask.unsqueeze(-1), torch.randn(*shape, 2, 1), math.nan)}
    data = TensorDict({"agents": {"mask": mask}, "next": next_data}, shape)
    scaling.observe(data)

    rules = EndRules(terminated_reduction="none", reward_reduction=reduction, posthumous=False)
    keys = {f"{name}_key": ("agents", name) for name in ("reward", "terminated", "mask", "done")}
    batch = read_group_signals(data, group="agents", n_agents=2, rows=None, rules=rules, **keys)
    taken = batch.reward_for(torch.empty(*shape, 2, 1))[batch.alive]
    assert scaling.factors["agents"] == pytest.approx(1 / taken.std(unbiased=False).item(), rel=1e-5)


def test_groups_with_a_root_reward_share_one_logged_factor():
    groups = [GROUP, replace(GROUP, name="others")]
    scaling = RewardScaling(groups, num_envs=2, gamma=0.0, scale=1.0, normalize=True)
    mask = torch.tensor([[[True, True]], [[False, False]]])  # the others see one of the two rewards, of spread 0
    reward, done = torch.tensor([[[8.0]], [[4.0]]]), torch.zeros(2, 1, 1, dtype=torch.bool)
    data = TensorDict({"others": {"mask": mask}, "next": {"done": done, "reward": reward}}, [2, 1])
    scaling.observe(data)
    # Of the agents 8 and 4: deviation 2; of the others 8 alone, which may become 20.
    assert scaling.factors == {"agents": pytest.approx(1 / 2), "others": pytest.approx(1 / 2)}
    scaling.rescale(data)
    assert data["next", "reward"].flatten().tolist() == [4.0, 2.0]


@pytest.mark.slow
def test_rewards_eight_times_as_large_give_an_equal_run(tmp_path):
    tables = []
    for scenario in ("navigation", TIMES_EIGHT):
        run(tiny(task={"scenario": scenario}), tmp_path / str(len(tables)))
        tables.append(rows(tmp_path / str(len(tables))))
    once, eight = (table[-1] for table in tables)
    for name in ("loss/qvalue", "loss/actor", "alpha", "entropy", "grad_norm/qvalue"):
        assert once[f"agents/{name}"] == eight[f"agents/{name}"]
    for name, ratio in (("eval/return_mean", 8), ("agents/reward_factor", 1 / 8)):
        assert float(eight[name]) == pytest.approx(ratio * float(once[name]), rel=1e-4)
