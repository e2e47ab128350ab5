"""The best returns that tasks of communication allow: python -m benchmarks.communication_limits.

In simple_speaker_listener and simple_reference an agent must go to a landmark that only another agent knows. Returns in
the episodes of ``masac evaluate`` of an agent that

- knows its goal before the first step;
- is told its goal in the first step, hears it before the second one, and begins with the step that is best for the mean
  of its three goals.

With continuous actions both are optima: the position is linear in the accelerations, so the return is concave in them.
With discrete actions the agent accelerates along the axis with the longer way, or not at all near its goal. It can do a
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
ITERATIONS = 1000


def main() -> None:
    """Print the limits of both tasks."""
    rows = []
    for task, moving, telling, exponent in (
        ("simple_speaker_listener", "listener", "speaker", 2),
        ("simple_reference", "agent", "agent", 1),
    ):
        ways, goals = _ways_and_goals(task, moving, telling)
        for knows in (True, False):
            returns = best_returns(ways, exponent, knows_its_goal=knows)
            when = "before the first step" if knows else "before the second step"
            rows.append(_row(task, "continuous", when, _of_goals(returns, goals)))
        if task == "simple_speaker_listener":
            way = _of_goals(ways, goals)
            rows.append(_row(task, "discrete", "before the first step", along_one_axis(way)))
    columns = ("task", "actions", "knows its goal", "mean return", "95% from", "to")
    print_table("the best returns", columns, rows)


def _row(task: str, actions: str, when: str, returns: Tensor) -> tuple[str, ...]:
    numbers = of_sample(returns.mean(-1).numpy())
    return task, actions, when, *(f"{numbers[name]:.2f}" for name in ("mean", "low", "high"))


def _ways_and_goals(task: str, moving: str, telling: str) -> tuple[Tensor, Tensor]:
    """The ways to the three landmarks when an evaluation episode begins, [E, agents, 3, 2], and which is the goal."""
    config = composed_experiment([f"task=pettingzoo/{task}"])
    env = make_env(config.task, num_envs=EPISODES, seed=config.evaluation.seed, one_episode=True)
    start = env.reset()
    env.close()
    ways = start[moving, "observation"][..., 2:8].unflatten(-1, (3, 2))
    told = start[telling, "observation"]
    # In simple_reference an agent sees the colour of the other's goal after the ways.
    goals = told.argmax(-1) if moving != telling else told[..., 8:11].argmax(-1).flip(-1)
    return ways, goals


def _of_goals(values: Tensor, goals: Tensor) -> Tensor:
    return values[torch.arange(len(goals)).unsqueeze(-1), torch.arange(goals.shape[-1]), goals]


def best_returns(ways: Tensor, exponent: int, *, knows_its_goal: bool) -> Tensor:
    """The returns of the best accelerations for each goal.

    Args:
        ways: from the start to the goals, [..., goals, 2].
        exponent: the reward is minus the distance to this power.
        knows_its_goal: before the first step; otherwise the first acceleration is the same for all goals of a row.

    Returns:
        [..., goals].
    """
    accelerations = torch.zeros(STEPS, *ways.shape, requires_grad=True)
    optimizer = torch.optim.Adam([accelerations], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)

    def returns() -> Tensor:
        way, velocity, total = ways, torch.zeros_like(ways), torch.zeros(ways.shape[:-1])
        for step, push in enumerate(accelerations):
            if step == 0 and not knows_its_goal:
                push = push.mean(-2, keepdim=True)
            way, velocity = way - TIME * velocity, KEPT * velocity + PUSH * push
            total = total - (way.square().sum(-1) + 1e-12) ** (exponent / 2)
        return total

    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        returns().sum().neg().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            accelerations.clamp_(-1, 1)
    return returns().detach()


def along_one_axis(way: Tensor) -> Tensor:
    """The return of pushing along the axis with the longer way, [...], for ways of shape [..., 2]."""
    velocity, returns = torch.zeros_like(way), torch.zeros(way.shape[:-1])
    for _ in range(STEPS):
        left = way - COASTING * velocity  # from where the listener would come to rest
        longer = left.abs() == left.abs().amax(-1, keepdim=True)
        push = torch.where(longer & (left.abs() > PUSH * COASTING / 2), left.sign(), 0.0)
        way, velocity = way - TIME * velocity, KEPT * velocity + PUSH * push
        returns -= way.square().sum(-1)
    return returns


if __name__ == "__main__":
    main()
