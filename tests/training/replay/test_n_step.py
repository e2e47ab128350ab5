"""Rows of several steps: by hand, and against a loop over environments, steps and agents."""

import pytest
import torch

from masac.training.replay.buffer import Replay
from masac.training.replay.n_step import NStepReturns
from tests.losses.common import N, make_batch
from tests.training.common import GROUP

E, T, GAMMA = 4, 24, 0.5


def steps(*, ends=0.0, deaths=0.0, seed=0):
    """Steps ``[E, T]`` of episodes that end at random, with agents that die at random and are back in the next."""
    generator = torch.Generator().manual_seed(seed)
    alive, done = torch.ones(E, T, N, dtype=torch.bool), torch.rand(E, T, generator=generator) < ends
    dies = torch.rand(E, T, N, generator=generator) < deaths
    for step in range(T):
        if step:
            alive[:, step] = torch.where(done[:, step - 1, None], True, alive[:, step - 1] & ~dies[:, step - 1])
        done[:, step] |= ~(alive[:, step] & ~dies[:, step]).any(-1)
    data = make_batch(batch=(E, T), mask=alive.unsqueeze(-1), terminated=(dies | ~alive).unsqueeze(-1), seed=seed)
    data["next", "done"] = done.unsqueeze(-1)
    data["next", "agents", "reward"][~alive] = torch.nan
    return data


def reference(data, *, env, step, n):
    """One row, step by step: the reward of each agent, the index of its last step, and the number of steps."""
    alive = data["agents", "mask"][env]
    reward = data["next", "agents", "reward"][env, step].clone()
    last = step
    while last - step + 1 < n:
        ended = (data["next", "agents", "terminated"][env, last].squeeze(-1) & alive[last]).any()
        if data["next", "done"][env, last] or ended or (alive[last + 1] != alive[last]).any():
            break
        last += 1
        for agent in range(N):
            if alive[step, agent]:
                reward[agent] += GAMMA ** (last - step) * data["next", "agents", "reward"][env, last, agent]
    return reward, last, last - step + 1


def in_batches(returns, data, sizes):
    """The rows of batches of so many steps each."""
    return torch.cat([returns.rows(part) for part in data.split(sizes, 1)], 1)


def test_three_steps_by_hand():
    data = steps()
    data["next", "agents", "reward"][:] = (2.0 ** torch.arange(T))[None, :, None, None]
    rows = NStepReturns([GROUP], n=3, gamma=0.5).rows(data)
    assert rows.shape == (E, T - 2)
    torch.testing.assert_close(rows["next", "agents", "reward"][0, :3, 0, 0], torch.tensor([3.0, 6.0, 12.0]))
    assert (rows["steps_to_next_obs"] == 3).all()
    assert torch.equal(rows["next", "agents", "observation"], data["next", "agents", "observation"][:, 2:])
    assert torch.equal(rows["agents", "observation"], data["agents", "observation"][:, :-2])


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("sizes", [[T], [4] * 6, [1] * T, [7, 1, 9, 7]])
def test_rows_are_those_of_a_loop_over_steps_and_agents(n, sizes):
    data = steps(ends=0.15, deaths=0.1)
    rows = in_batches(NStepReturns([GROUP], n=n, gamma=GAMMA), data, sizes)
    assert rows.shape == (E, T - n + 1)
    found = set()
    for env in range(E):
        for step in range(T - n + 1):
            reward, last, count = reference(data, env=env, step=step, n=n)
            row = rows[env, step]
            found.add(count)
            assert row["steps_to_next_obs"].item() == count
            torch.testing.assert_close(row["next", "agents", "reward"], reward, equal_nan=True)
            assert torch.equal(row["next", "agents", "observation"], data["next", "agents", "observation"][env, last])
            assert torch.equal(row["next", "agents", "terminated"], data["next", "agents", "terminated"][env, last])
            assert torch.equal(row["agents", "mask"], data["agents", "mask"][env, step])
    assert found == set(range(1, n + 1))


def test_an_agent_that_joins_ends_the_rows_before_it():
    data = steps()
    data["agents", "mask"][0, :10, 2] = False
    rows = NStepReturns([GROUP], n=3, gamma=GAMMA).rows(data)
    assert rows["steps_to_next_obs"][0, 6:12, 0].tolist() == [3, 3, 2, 1, 3, 3]


def test_an_agent_that_ends_without_a_mask_ends_the_rows_before_it():
    data = steps()
    del data["agents", "mask"]
    data["next", "agents", "terminated"][0, 9, 1] = True
    rows = NStepReturns([GROUP], n=3, gamma=GAMMA).rows(data)
    assert rows["steps_to_next_obs"][0, 6:12, 0].tolist() == [3, 3, 2, 1, 3, 3]


@pytest.mark.parametrize("size", [1, 4])
def test_an_environment_that_was_restarted_goes_on_nowhere(size):
    data = steps()
    returns = NStepReturns([GROUP], n=3, gamma=GAMMA)
    first = in_batches(returns, data[:, :8], [size] * (8 // size))
    returns.restart([2])
    rows = torch.cat([first, in_batches(returns, data[:, 8:], [size] * (16 // size))], 1)
    assert rows["steps_to_next_obs"][2, 4:10, 0].tolist() == [3, 3, 2, 1, 3, 3]
    assert (rows["steps_to_next_obs"][[0, 1, 3]] == 3).all()
    returns.restart()
    assert returns.rows(data).shape == (E, T - 2)


def test_a_reward_of_the_team_is_summed_too():
    data = steps()
    del data["next", "agents", "reward"]
    data["next", "reward"] = torch.ones(E, T, 1)
    rows = NStepReturns([GROUP], n=3, gamma=GAMMA).rows(data)
    assert (rows["next", "reward"] == 1.75).all()


def test_one_step_is_left_as_it_is():
    data = steps()
    returns = NStepReturns([GROUP], n=1, gamma=GAMMA)
    assert returns.rows(data) is data
    assert returns.example(data) is data


def test_an_example_has_the_entries_of_a_row():
    data, returns = steps(), NStepReturns([GROUP], n=3, gamma=GAMMA)
    assert set(returns.example(data).keys(True, True)) == set(returns.rows(data).keys(True, True))


def test_a_buffer_takes_no_rows_while_there_are_none():
    replay = Replay([GROUP], size=100, batch_size=4, device="cpu")
    returns = NStepReturns([GROUP], n=6, gamma=GAMMA)
    written = []
    for part in steps().split(4, 1):
        replay.extend(returns.rows(part))
        written.append(replay.written)
    assert written == [0, 3 * E, 7 * E, 11 * E, 15 * E, 19 * E]
