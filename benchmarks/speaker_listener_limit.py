"""The best return that simple_speaker_listener allows: python -m benchmarks.speaker_listener_limit.

A listener that knows its goal from the first step, in the episodes of ``masac evaluate``:

- continuous actions: the optimum, by dynamic programming. The axes are independent, as the reward is minus the squared
  distance and each axis has its own acceleration.
- discrete actions: accelerate along the axis with the longer way, or not at all near the goal. A listener can do a
  little better, but not much: it accelerates along one axis at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.report import print_table
from masac.cli.composing import composed_experiment
from masac.envs.registry import make_env
from masac.plotting.statistics import of_sample

EPISODES = 100
STEPS = 25
# The motion of mpe2's particles: position += TIME * velocity, velocity = KEPT * velocity + PUSH * action.
TIME, KEPT, PUSH = 0.1, 0.75, 0.5
COASTING = TIME / (1 - KEPT)
FARTHEST, FASTEST = 3.0, PUSH / (1 - KEPT)


def main() -> None:
    """Print both."""
    way = ways_to_goals()
    best = {"continuous": optimum(way), "discrete": along_one_axis(way)}
    rows = []
    for actions, returns in best.items():
        numbers = of_sample(returns.numpy())
        rows.append((actions, *(f"{numbers[name]:.2f}" for name in ("mean", "low", "high"))))
    print_table("a listener that knows its goal", ("actions", "mean return", "95% from", "to"), rows)


def ways_to_goals() -> Tensor:
    """From the listener to its goal at the start of each evaluation episode, ``[E, 2]``."""
    config = composed_experiment(["task=pettingzoo/simple_speaker_listener"])
    env = make_env(config.task, num_envs=EPISODES, seed=config.evaluation.seed, one_episode=True)
    start = env.reset()
    env.close()
    goal = start["speaker", "observation"][:, 0].argmax(-1)
    landmarks = start["listener", "observation"][:, 0, 2:8].unflatten(-1, (3, 2))
    return landmarks[torch.arange(EPISODES), goal]


def optimum(way: Tensor) -> Tensor:
    """The return of the best accelerations, ``[E]``: value iteration over the way and the velocity along one axis."""
    ways, velocities = torch.linspace(-FARTHEST, FARTHEST, 301), torch.linspace(-FASTEST, FASTEST, 81)
    x, v, action = torch.meshgrid(ways, velocities, torch.linspace(-1, 1, 21), indexing="ij")
    value = torch.zeros(len(ways), len(velocities))
    for _ in range(STEPS):
        after = x - TIME * v
        value = (_interpolate(value, after, KEPT * v + PUSH * action) - after**2).amax(-1)
    return _interpolate(value, way, torch.zeros_like(way)).sum(-1)


def _interpolate(value: Tensor, way: Tensor, velocity: Tensor) -> Tensor:
    found = []
    for at, end, size in ((way, FARTHEST, value.shape[0]), (velocity, FASTEST, value.shape[1])):
        scaled = ((at / end + 1) / 2 * (size - 1)).clamp(0, size - 1.001)
        found.append((scaled.long(), scaled.frac()))
    (i, a), (j, b) = found
    low, high = value[i, j].lerp(value[i, j + 1], b), value[i + 1, j].lerp(value[i + 1, j + 1], b)
    return low.lerp(high, a)


def along_one_axis(way: Tensor) -> Tensor:
    """The return of pushing along the axis with the longer way, ``[E]``."""
    velocity, returns = torch.zeros_like(way), torch.zeros(len(way))
    for _ in range(STEPS):
        left = way - COASTING * velocity  # from where the listener would come to rest
        longer = left.abs() == left.abs().amax(-1, keepdim=True)
        push = torch.where(longer & (left.abs() > PUSH * COASTING / 2), left.sign(), 0.0)
        way, velocity = way - TIME * velocity, KEPT * velocity + PUSH * push
        returns -= way.square().sum(-1)
    return returns


if __name__ == "__main__":
    main()
