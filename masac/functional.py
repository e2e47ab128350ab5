"""The equations of Soft Actor-Critic for groups of agents: tensors in, tensors out.

Shape legend: ``*B`` batch, ``N`` agents, ``K`` critics, ``D`` discrete actions of one agent (of all its factors side by
side), ``*L`` leading dimensions. Nothing here knows a TensorDict, a config or a device. The content of an entry without
weight never matters: entries are selected with ``torch.where``, because a product with 0 would keep their NaN
(NaN * 0 = NaN), in the value and in the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Sum the entries whose mask is True, times their weights.

    Args:
        values: any shape.
        mask: bool, broadcastable to ``values``; all entries without one.
        weights: importance weights, broadcastable to ``values``; 1 without them.

    Returns:
        A scalar; 0 with zero gradient where no entry is left.
    """
    return masked_values(values, mask, weights).sum()


def masked_values(values: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """The entries times their weights, 0 where the mask is False (whatever value and weight are there).

    Args:
        values: any shape.
        mask: bool, broadcastable to ``values``; all entries without one.
        weights: importance weights, broadcastable to ``values``; 1 without them.

    Returns:
        Of the shape of ``values``.
    """
    selected = _select(values, mask)
    return selected if weights is None else selected * _select(weights.expand_as(values), mask)


def masked_mean(values: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Average the entries whose mask is True: ``sum(weight * value) / sum(weight)``.

    Args:
        values: any shape.
        mask: bool, broadcastable to ``values``; all entries without one.
        weights: importance weights, broadcastable to ``values``; 1 without them.

    Returns:
        A scalar; 0 with zero gradient where no entry is left.
    """
    if weights is None:
        if mask is None:
            return values.mean() if values.numel() else values.sum()
        total_weight = mask.expand_as(values).sum()
        return masked_sum(values, mask) / total_weight.clamp_min(1)
    total_weight = masked_sum(weights.expand_as(values), mask)
    # Without any weight the sum is 0, and so is the mean: divide by 1.
    return masked_sum(values, mask, weights) / torch.where(
        total_weight > 0, total_weight, torch.ones_like(total_weight)
    )


def soft_state_value(q_value: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """The soft value of a state, estimated with one action: ``V(s) = min_k Q_k(s, a) - α log π(a|s)``.

    Haarnoja et al. 2018, arXiv 1812.05905, equation 3 (with the minimum over critics of section 6).

    Args:
        q_value: ``min_k Q_k(s, a)``, ``[*B, N, 1]``.
        log_prob: ``log π_i(a_i|o_i)``, ``[*B, N, 1]``.
        alpha: temperature, ``[]`` or ``[N, 1]``.

    Returns:
        ``[*B, N, 1]``.
    """
    return q_value - alpha * log_prob


def team_soft_state_value(q_value: Tensor, log_prob: Tensor, alpha: Tensor, acting: Tensor) -> Tensor:
    """The soft value of a state for a team: ``V(s) = min_k Q_k(s, a) - Σ_{i acting} α_i log π_i(a_i|o_i)``.

    The joint policy is a product of the agents' policies, so its log-probability is their sum; the entropy term is
    therefore a sum over agents, not a mean (a mean would weight α by 1/N).

    Args:
        q_value: ``min_k Q_k(s, a)``, ``[*B, 1]``.
        log_prob: ``[*B, N, 1]``.
        alpha: temperature, ``[]`` or ``[N, 1]``.
        acting: True for the agents that act in this state, ``[*B, N, 1]``.

    Returns:
        ``[*B, 1]``.
    """
    return q_value - _select(alpha * log_prob, acting).sum(dim=-2)


def soft_td_target(reward: Tensor, ends: Tensor, next_value: Tensor, discount: Tensor | float) -> Tensor:
    """The critic target: the reward, plus the discounted next value where the agent continues.

    ``y = r + γ V(s')`` where ``ends`` is False and ``y = r`` exactly where it is True, whatever ``next_value`` holds
    there. Haarnoja et al. 2018, arXiv 1812.05905, equations 2 and 5.

    Args:
        reward: ``[*B, N, 1]`` (or ``[*B, 1]``), in reward units.
        ends: True where nothing follows (terminated, never merely truncated), of the shape of ``reward``.
        next_value: ``V(s')``, of the shape of ``reward``.
        discount: γ, or γ to the number of steps for n-step returns; broadcastable to ``reward``.

    Returns:
        Of the shape of ``reward``.
    """
    return reward + _select(discount * next_value, ~ends)


def soft_td_lambda_target(
    reward: Tensor,
    ends: Tensor,
    cuts: Tensor,
    next_value: Tensor,
    discount: Tensor | float,
    lmbda: Tensor | float,
    time_dim: int,
) -> Tensor:
    """The λ-return along trajectories, from the last step to the first.

    ``y_t = r_t`` where ``ends`` is True; ``y_t = r_t + γ V(s_{t+1})`` where the trajectory is cut; else
    ``y_t = r_t + γ ((1 - λ) V(s_{t+1}) + λ y_{t+1})``. As in TorchRL, entropy enters through the values only. Sutton
    and Barto 2018, equation 12.18, without off-policy correction.

    Args:
        reward: ``[..., T, ...]``, in reward units.
        ends: True where nothing follows, of the shape of ``reward``.
        cuts: True where step t + 1 does not follow step t, of the shape of ``reward``; the last step is always cut.
        next_value: ``V(s_{t+1})``, of the shape of ``reward``.
        discount: γ.
        lmbda: λ; 0 gives :func:`soft_td_target`.
        time_dim: the dimension of length T.

    Returns:
        Of the shape of ``reward``.
    """
    steps = zip(*(tensor.unbind(time_dim) for tensor in (reward, ends, cuts, next_value)), strict=True)
    targets: list[Tensor] = []
    for step_reward, step_ends, step_cuts, value in reversed(list(steps)):
        following = torch.where(step_cuts, value, (1 - lmbda) * value + lmbda * targets[-1]) if targets else value
        targets.append(soft_td_target(step_reward, step_ends, following, discount))
    return torch.stack(targets[::-1], time_dim)


def critic_loss(q_values: Tensor, target: Tensor, loss_function: str = "smooth_l1") -> Tensor:
    """The distance of every critic to the target, summed over critics: ``Σ_k d(Q_k(s, a), y)``.

    Haarnoja et al. 2018, arXiv 1812.05905, equation 5 (with ``l2``, up to its factor 1/2).

    Args:
        q_values: ``[K, *target.shape]``.
        target: ``y``, ``[*B, N, 1]`` or ``[*B, 1]``.
        loss_function: ``"l1"``, ``"l2"`` or ``"smooth_l1"``.

    Returns:
        Of the shape of ``target``.

    Raises:
        ValueError: for another ``loss_function``.
    """
    target = target.expand_as(q_values)
    if loss_function == "smooth_l1":
        return F.smooth_l1_loss(q_values, target, reduction="none").sum(0)
    if loss_function == "l2":
        return F.mse_loss(q_values, target, reduction="none").sum(0)
    if loss_function == "l1":
        return F.l1_loss(q_values, target, reduction="none").sum(0)
    raise ValueError(f"loss_function must be 'l1', 'l2' or 'smooth_l1'; got {loss_function!r}.")


def actor_loss(log_prob: Tensor, q_value: Tensor, alpha: Tensor) -> Tensor:
    """The actor loss: ``α log π(a|s) - min_k Q_k(s, a)``.

    Haarnoja et al. 2018, arXiv 1812.05905, equation 7.

    Args:
        log_prob: ``[*B, N, 1]``.
        q_value: ``min_k Q_k(s, a)`` at the reparametrized action, ``[*B, N, 1]``.
        alpha: temperature, ``[]`` or ``[N, 1]``.

    Returns:
        ``[*B, N, 1]``.
    """
    return alpha * log_prob - q_value


def team_actor_loss(log_prob: Tensor, q_value: Tensor, alpha: Tensor, alive: Tensor) -> Tensor:
    """The actor loss of a team: ``Σ_{i alive} α_i log π_i(a_i|o_i) - min_k Q_k(s, a)``.

    Args:
        log_prob: ``[*B, N, 1]``.
        q_value: ``min_k Q_k(s, a)`` at the reparametrized joint action, ``[*B, 1]``.
        alpha: temperature, ``[]`` or ``[N, 1]``.
        alive: True for the agents that act, ``[*B, N, 1]``.

    Returns:
        ``[*B, 1]``.
    """
    return _select(alpha * log_prob, alive).sum(dim=-2) - q_value


def discrete_policy(logits: Tensor, legal: Tensor | None, sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probabilities of all actions under independent factors, over the legal ones only.

    Illegal actions have probability exactly 0 (and log-probability 0, so that no product is 0 * -inf), whatever their
    logits: -inf, a large negative number, or NaN. An action with a logit of -inf is illegal too. If no action of a
    factor is left, those that ``legal`` allows get equal logits; if it allows none (for an agent that does not act),
    all actions do.

    Args:
        logits: unnormalized, ``[*L, D]``, the factors side by side.
        legal: bool ``[*L, D]``; all actions without one.
        sizes: choices of each factor, adding up to ``D``.

    Returns:
        Log-probabilities, probabilities and legal actions (bool), each ``[*L, D]``.
    """
    legal = torch.ones_like(logits, dtype=torch.bool) if legal is None else legal
    log_probs, allowed = [], []
    for part, part_allowed in zip(logits.split(list(sizes), -1), legal.split(list(sizes), -1), strict=True):
        part_legal = part_allowed & ~torch.isneginf(part)
        none = ~part_legal.any(-1, keepdim=True)
        part = torch.where(none, torch.zeros_like(part), part)
        part_legal = torch.where(none, part_allowed | ~part_allowed.any(-1, keepdim=True), part_legal)
        part_log_probs = torch.log_softmax(torch.where(part_legal, part, torch.full_like(part, -math.inf)), dim=-1)
        log_probs.append(torch.where(part_legal, part_log_probs, torch.zeros_like(part)))
        allowed.append(part_legal)
    log_prob, legal = torch.cat(log_probs, -1), torch.cat(allowed, -1)
    return log_prob, _select(log_prob.exp(), legal), legal


def draw_one_hot(probs: Tensor, sizes: Sequence[int]) -> Tensor:
    """Draw one choice of every factor.

    Args:
        probs: ``[*L, D]``, the factors side by side.
        sizes: choices of each factor, adding up to ``D``.

    Returns:
        A one-hot vector per factor, side by side, ``[*L, D]``, of the dtype of ``probs``.
    """
    # The first of independent exponential clocks with rates π(a) to ring is a with probability π(a).
    clocks = probs / torch.empty_like(probs).exponential_()
    parts = clocks.split(list(sizes), -1)
    # Not one_hot, which reads the values first.
    return torch.cat([torch.zeros_like(part).scatter(-1, part.argmax(-1, keepdim=True), 1) for part in parts], -1)


def expectation(probs: Tensor, values: Tensor) -> Tensor:
    """``Σ_a π(a|s) x(a)`` over the actions of all factors, exactly 0 from every action without probability.

    Args:
        probs: ``π(a|s)``, ``[*L, D]``.
        values: ``x(a)``, ``[*L, D]``; arbitrary where the probability is 0.

    Returns:
        ``[*L, 1]``.
    """
    return (probs * _select(values, probs > 0)).sum(-1, keepdim=True)


def discrete_soft_state_value(q_values: Tensor, log_probs: Tensor, probs: Tensor, alpha: Tensor) -> Tensor:
    """The soft value of a state, exactly: ``V(s) = Σ_a π(a|s) (min_k Q_k(s, a) - α log π(a|s))``.

    Christodoulou 2019, arXiv 1910.07207, equation 10 (with the minimum over critics). For several factors the sum runs
    over the actions of each: it is exact for ``Q(s, a) = Σ_k Q_k(s, a_k)``, an approximation for any other Q.

    Args:
        q_values: ``min_k Q_k(s, ·)``, ``[*B, N, D]``.
        log_probs: ``log π_i(·|o_i)``, ``[*B, N, D]``.
        probs: ``π_i(·|o_i)``, ``[*B, N, D]``.
        alpha: temperature, ``[]`` or ``[N, 1]``.

    Returns:
        ``[*B, N, 1]``.
    """
    return expectation(probs, q_values - alpha * log_probs)


def discrete_actor_loss(q_values: Tensor, log_probs: Tensor, probs: Tensor, alpha: Tensor) -> Tensor:
    """The actor loss of a discrete policy, exactly: ``Σ_a π(a|s) (α log π(a|s) - min_k Q_k(s, a))``.

    Christodoulou 2019, arXiv 1910.07207, equation 12.

    Args:
        q_values: ``min_k Q_k(s, ·)``, ``[*B, N, D]``, without gradient.
        log_probs: ``log π_i(·|o_i)``, ``[*B, N, D]``.
        probs: ``π_i(·|o_i)``, ``[*B, N, D]``.
        alpha: temperature, ``[]`` or ``[N, 1]``.

    Returns:
        ``[*B, N, 1]``.
    """
    return expectation(probs, alpha * log_probs - q_values)


def combinations(vectors: Tensor, sizes: Sequence[int]) -> Tensor:
    """For every combination of the choices of all factors, the product of their entries.

    Of the probabilities of independent factors this is the probability of the combination, of one-hot vectors the
    one-hot vector of the combination.

    Args:
        vectors: ``[*L, D]``, the factors side by side.
        sizes: choices of each factor, adding up to ``D``.

    Returns:
        ``[*L, C]`` with ``C`` the product of the sizes; the choice of the last factor changes fastest.
    """
    first, *others = vectors.split(list(sizes), -1)
    for part in others:
        first = (first.unsqueeze(-1) * part.unsqueeze(-2)).flatten(-2)
    return first


def hybrid_soft_state_value(
    q_values: Tensor,
    probs: Tensor,
    discrete_log_prob: Tensor,
    continuous_log_prob: Tensor,
    discrete_alpha: Tensor,
    continuous_alpha: Tensor,
) -> Tensor:
    """The soft value of a state under independent discrete and continuous actions, estimated with one continuous one.

    ``V(s) = Σ_d π(d|s) (min_k Q_k(s, c)[d] - α_d log π(d|s)) - α_c log π(c|s)``: exact in the discrete action d, which
    the critics value given the continuous one c. Log-probabilities of independent actions add; each kind has its own
    temperature (Delalleau et al. 2019, arXiv 1912.11077).

    Args:
        q_values: ``min_k Q_k(s, c)[·]``, ``[*B, N, C]``.
        probs: ``π_i(·|o_i)``, ``[*B, N, C]``.
        discrete_log_prob: ``Σ_d π(d|s) log π(d|s)``, ``[*B, N, 1]``.
        continuous_log_prob: ``log π(c|s)``, ``[*B, N, 1]``.
        discrete_alpha: ``α_d``, ``[]`` or ``[N, 1]``.
        continuous_alpha: ``α_c``, ``[]`` or ``[N, 1]``.

    Returns:
        ``[*B, N, 1]``.
    """
    return expectation(probs, q_values) - discrete_alpha * discrete_log_prob - continuous_alpha * continuous_log_prob


def hybrid_actor_loss(
    q_values: Tensor,
    probs: Tensor,
    discrete_log_prob: Tensor,
    continuous_log_prob: Tensor,
    discrete_alpha: Tensor,
    continuous_alpha: Tensor,
) -> Tensor:
    """The actor loss of independent discrete and continuous actions.

    ``α_c log π(c|s) + Σ_d π(d|s) (α_d log π(d|s) - min_k Q_k(s, c)[d])``, whose gradient reaches the continuous policy
    through the reparametrized c and the discrete one through its probabilities (Delalleau et al. 2019, arXiv
    1912.11077).

    Args:
        q_values: ``min_k Q_k(s, c)[·]`` at the reparametrized continuous action, ``[*B, N, C]``.
        probs: see :func:`hybrid_soft_state_value`, as all others.
        discrete_log_prob: ``[*B, N, 1]``.
        continuous_log_prob: ``[*B, N, 1]``.
        discrete_alpha: ``[]`` or ``[N, 1]``.
        continuous_alpha: ``[]`` or ``[N, 1]``.

    Returns:
        ``[*B, N, 1]``.
    """
    return -hybrid_soft_state_value(
        q_values, probs, discrete_log_prob, continuous_log_prob, discrete_alpha, continuous_alpha
    )


def max_entropy(legal: Tensor, sizes: Sequence[int]) -> Tensor:
    """The entropy of the uniform policy over the legal actions, ``Σ_k log n_k`` in nats.

    Args:
        legal: bool ``[*L, D]``.
        sizes: choices of each factor, adding up to ``D``.

    Returns:
        ``[*L, 1]``, float.
    """
    counts = [part.sum(-1, keepdim=True) for part in legal.split(list(sizes), -1)]
    return torch.stack([count.clamp_min(1).to(torch.get_default_dtype()).log() for count in counts]).sum(0)


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: Tensor) -> Tensor:
    """The temperature loss: ``-log α (log π(a|s) + H̄)``.

    Haarnoja et al. 2018, arXiv 1812.05905, equation 18, with log α in place of α, as is common and as in TorchRL.

    Args:
        log_alpha: ``[]`` or ``[N, 1]``.
        log_prob: detached, ``[*B, N, 1]``.
        target_entropy: H̄ of one agent in nats, broadcastable to ``log_prob``.

    Returns:
        ``[*B, N, 1]``.
    """
    return -log_alpha * (log_prob + target_entropy)


def _select(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else torch.where(mask, values, torch.zeros_like(values))
