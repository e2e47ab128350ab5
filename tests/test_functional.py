"""Every equation with numbers derived by hand."""

import math

import pytest
import torch

from masac import functional

NAN = float("nan")


def column(*values):
    """``[B, 1]``."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def test_masked_mean_and_sum_skip_what_is_masked_even_nan():
    values = torch.tensor([1.0, NAN, 5.0], requires_grad=True)
    mask = torch.tensor([True, False, True])
    mean = functional.masked_mean(values, mask)  # (1 + 5) / 2
    assert mean.item() == 3.0
    mean.backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.0, 0.5]
    assert functional.masked_sum(values, mask).item() == 6.0


def test_masked_mean_over_nobody_is_zero_with_zero_gradient():
    for weights in (None, torch.tensor([2.0, 3.0])):
        values = torch.tensor([1.0, NAN], requires_grad=True)
        mean = functional.masked_mean(values, torch.tensor([False, False]), weights)
        assert mean.item() == 0.0
        mean.backward()
        assert values.grad is not None
        assert values.grad.tolist() == [0.0, 0.0]


def test_masked_nan_weights_change_no_value_or_gradient():
    values = torch.tensor([1.0, 5.0], requires_grad=True)
    mean = functional.masked_mean(values, torch.tensor([True, False]), torch.tensor([2.0, NAN]))
    mean.backward()
    assert mean.item() == 1.0
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]


def test_masked_mean_of_an_empty_batch_is_zero():
    assert functional.masked_mean(torch.zeros(0, 3, 1)).item() == 0.0


def test_weighted_mean_divides_by_the_weights_of_the_living():
    # (1 * 2 + 3 * 6) / (2 + 6) = 20 / 8
    values, weights = torch.tensor([1.0, NAN, 3.0]), torch.tensor([2.0, 100.0, 6.0])
    assert functional.masked_mean(values, torch.tensor([True, False, True]), weights).item() == 2.5


def test_soft_state_value():
    # V = Q - α log π = 3 - 0.5 * (-2) = 4
    assert functional.soft_state_value(column(3.0), column(-2.0), torch.tensor(0.5)).item() == 4.0


def test_team_state_value_sums_the_entropy_of_those_who_act():
    # α = (0.5, 2), log π = (-2, NaN dead): V = 1 - 0.5 * (-2) = 2; with both: 1 - (0.5 * (-2) + 2 * (-1)) = 4
    alpha = torch.tensor([[0.5], [2.0]])
    q_value = torch.tensor([[1.0], [1.0]])
    log_prob = torch.tensor([[[-2.0], [NAN]], [[-2.0], [-1.0]]])
    acting = torch.tensor([[[True], [False]], [[True], [True]]])
    assert functional.team_soft_state_value(q_value, log_prob, alpha, acting).tolist() == [[2.0], [4.0]]


def test_soft_td_target_is_the_reward_exactly_where_it_ends():
    # row 0 goes on: 1 + 0.9 * 10 = 10; row 1 ends: 1, though the next value is NaN
    target = functional.soft_td_target(
        column(1.0, 1.0), torch.tensor([[False], [True]]), column(10.0, NAN), torch.tensor(0.9, dtype=torch.float64)
    )
    assert target.squeeze(-1).tolist() == [10.0, 1.0]


def test_soft_td_target_takes_a_discount_a_row():
    # three steps in row 1: 0.5 ** 3 = 0.125
    target = functional.soft_td_target(
        column(0.0, 0.0), torch.zeros(2, 1, dtype=torch.bool), column(8.0, 8.0), column(0.5, 0.125)
    )
    assert target.squeeze(-1).tolist() == [4.0, 1.0]


@pytest.mark.parametrize(
    ("name", "expected"),
    # errors 0.5 and 3 of two critics: |x|: 3.5; x²: 0.25 + 9; smooth: 0.5 * 0.25 + (3 - 0.5)
    [("l1", 3.5), ("l2", 9.25), ("smooth_l1", 2.625)],
)
def test_critic_loss_sums_over_critics(name, expected):
    q_values = torch.tensor([[[1.5]], [[4.0]]])
    assert functional.critic_loss(q_values, torch.tensor([[1.0]]), name).item() == expected


def test_critic_loss_of_another_name_is_an_error():
    with pytest.raises(ValueError, match="'l1', 'l2' or 'smooth_l1'; got 'huber'"):
        functional.critic_loss(torch.zeros(2, 1), torch.zeros(1), "huber")


def test_actor_loss():
    # α log π - Q = 0.5 * (-2) - 3 = -4
    assert functional.actor_loss(column(-2.0), column(3.0), torch.tensor(0.5)).item() == -4.0


def test_team_actor_loss_sums_the_entropy_of_the_living():
    # one Q for two agents: 0.5 * (-2) + 0.5 * (-4) - 3 = -6; without agent 1: -4
    log_prob = torch.tensor([[[-2.0], [-4.0]], [[-2.0], [NAN]]])
    alive = torch.tensor([[[True], [True]], [[True], [False]]])
    loss = functional.team_actor_loss(log_prob, torch.tensor([[3.0], [3.0]]), torch.tensor(0.5), alive)
    assert loss.tolist() == [[-6.0], [-4.0]]


def test_temperature_loss_and_its_gradient():
    # -log α (log π + H̄) with α = e, log π = -3, H̄ = -2: -1 * (-5) = 5; its gradient to log α is 5:
    # the policy's entropy 3 is above the target -2, so a step downhill lowers the temperature.
    log_alpha = torch.tensor(math.log(math.e), requires_grad=True)
    loss = functional.temperature_loss(log_alpha, torch.tensor([[-3.0]]), torch.tensor(-2.0))
    loss.sum().backward()
    assert loss.item() == 5.0
    assert log_alpha.grad is not None
    assert log_alpha.grad.item() == 5.0


def test_discrete_soft_state_value():
    # π = (1/4, 3/4), Q = (2, 6), α = 2: V = Σ π (Q - α log π) = 0.25 * 2 + 0.75 * 6 + 2 (0.25 log 4 + 0.75 log 4/3)
    probs = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    q_values = torch.tensor([[2.0, 6.0]], dtype=torch.float64)
    value = functional.discrete_soft_state_value(q_values, probs.log(), probs, torch.tensor(2.0))
    assert value.shape == (1, 1)
    assert value.item() == pytest.approx(5.0 + 0.5 * math.log(4) + 1.5 * math.log(4 / 3))


def test_discrete_actor_loss_is_minus_that_value():
    probs = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    q_values = torch.tensor([[2.0, 6.0]], dtype=torch.float64)
    loss = functional.discrete_actor_loss(q_values, probs.log(), probs, torch.tensor(2.0))
    assert loss.item() == pytest.approx(-(5.0 + 0.5 * math.log(4) + 1.5 * math.log(4 / 3)))


def test_the_discrete_actor_gradient_leads_to_the_soft_optimum():
    # The minimum of Σ π (α log π - Q) is π ∝ exp(Q / α): at logits Q / α the gradient is 0.
    logits = torch.tensor([[1.0, 3.0, NAN]], dtype=torch.float64, requires_grad=True)
    legal = torch.tensor([[True, True, False]])
    log_probs, probs, _ = functional.discrete_policy(logits, legal, (3,))
    q_values = torch.tensor([[2.0, 6.0, NAN]], dtype=torch.float64)
    functional.discrete_actor_loss(q_values, log_probs, probs, torch.tensor(2.0)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-12


def test_without_legal_actions_a_policy_is_uniform():
    logits = torch.full((1, 2), -math.inf, requires_grad=True)
    log_probs, probs, legal = functional.discrete_policy(logits, torch.tensor([[False, False]]), (2,))
    assert probs.tolist() == [[0.5, 0.5]]
    assert legal.all()
    log_probs.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0]]


def test_legal_actions_ruled_out_by_the_actor_become_uniform():
    logits = torch.tensor([[-math.inf, -math.inf, 2.0]], requires_grad=True)
    _, probs, legal = functional.discrete_policy(logits, torch.tensor([[True, True, False]]), (3,))
    assert probs.tolist() == [[0.5, 0.5, 0.0]]
    assert legal.tolist() == [[True, True, False]]


def test_max_entropy_counts_legal_choices_of_every_factor():
    # factors of 3 and 2 choices, of which 2 and 1 are legal: log 2 + log 1
    legal = torch.tensor([True, False, True, False, True])
    assert functional.max_entropy(legal, (3, 2)).item() == pytest.approx(math.log(2))
