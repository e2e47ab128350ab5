"""Draws docs/pictures/timeline.png, one episode of three agents: python -m docs.pictures.timeline [-o FILE].

The episode is a batch, and the picture shows how ``GroupSACLoss`` and ``read_group_signals`` read it. The critic gives
every state the value 10. Invalid observations are NaN, so a critic or actor that saw one would return NaN.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded

from masac import GroupSACLoss, ModelConfig, make_tanh_normal_actor
from masac.group_signals import EndRules, read_group_signals

STEPS, GAMMA, VALUE = 7, 0.9, 10.0
DIES, ARRIVES = 3, 5
"""The steps at which agent 0 and agent 1 terminate; agent 2 is truncated at the last step."""

CONTINUES, TERMINATES, TRUNCATED, GONE = "#dcebf7", "#f2b8a8", "#f8dfa2", "#eeeeee"
TITLES = (f"agent 0 dies at step {DIES}", f"agent 1 arrives at step {ARRIVES}", f"agent 2 is cut off at step {STEPS}")


class ConstantCritic(nn.Module):
    """A critic that gives all states the same value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """``[*B, N, F]`` and ``[*B, N, A]`` to ``[*B, N, 1]``; NaN where an input is NaN."""
        return self.value + 0 * (observation.sum(-1, keepdim=True) + action.sum(-1, keepdim=True))


@dataclass(frozen=True)
class Timeline:
    """The drawn values, each ``[steps, agents]``.

    Args:
        mask: the agent mask of the data.
        terminated: the flag of the data.
        truncated: the flag of the data.
        alive_next: whether the loss lets the agent act in the next state.
        target: the critic target.
        has_weight: whether the critic loss differs from 0.
    """

    mask: Tensor
    terminated: Tensor
    truncated: Tensor
    alive_next: Tensor
    target: Tensor
    has_weight: Tensor


def episode() -> TensorDict:
    """An episode with rewards of 1. Of an agent that is gone, flags are set (as in PettingZoo) and the rest is NaN."""
    steps = torch.arange(1, STEPS + 1)
    last_step = torch.tensor([DIES, ARRIVES, STEPS])
    alive = steps[:, None] <= last_step
    terminated = ((steps[:, None] == last_step) & torch.tensor([True, True, False])) | ~alive
    truncated = (steps[:, None] == STEPS) & ~terminated | ~alive
    observation, following = torch.ones(STEPS, 3, 2), torch.ones(STEPS, 3, 2)
    observation[~alive] = following[~alive | terminated] = float("nan")
    reward = torch.where(alive, 1.0, float("nan"))
    agents = {"observation": observation, "action": torch.zeros(STEPS, 3, 1), "mask": alive}
    after = {
        "observation": following,
        "reward": reward.unsqueeze(-1),
        "terminated": terminated.unsqueeze(-1),
        "truncated": truncated.unsqueeze(-1),
    }
    shape = [STEPS, 3]
    return TensorDict({"agents": TensorDict(agents, shape), "next": {"agents": TensorDict(after, shape)}}, [STEPS])


def timeline(batch: TensorDict) -> Timeline:
    """How the loss reads a batch."""
    actor = make_tanh_normal_actor(
        group="agents",
        n_agents=3,
        observation_dim=2,
        action_spec=Bounded(-1, 1, (3, 1)),
        share_params=True,
        model=ModelConfig(hidden=(8,)),
    )
    critic = TensorDictModule(
        ConstantCritic(VALUE),
        in_keys=[("agents", "observation"), ("agents", "action")],
        out_keys=[("agents", "state_action_value")],
    )
    loss = GroupSACLoss(
        actor,
        critic,
        gamma=GAMMA,
        alpha_init=1e-9,  # so small that entropy does not change the shown numbers
        fixed_alpha=True,
        skip_done_states="fill",
        reduction="none",
    )
    read = read_group_signals(
        batch,
        group="agents",
        n_agents=3,
        reward_key=("agents", "reward"),
        terminated_key=("agents", "terminated"),
        mask_key=("agents", "mask"),
        done_key=("agents", "done"),
        rows=None,
        rules=EndRules(terminated_reduction="none", reward_reduction=None, posthumous=False),
    )
    flags = batch["next", "agents"]
    return Timeline(
        mask=batch["agents", "mask"],
        terminated=flags["terminated"].squeeze(-1),
        truncated=flags["truncated"].squeeze(-1),
        alive_next=read.alive_next.squeeze(-1),
        target=loss.target_value(batch).squeeze(-1),
        # Where the target equals the value, 10, the loss is 0, so another value is used.
        has_weight=_with_value(loss, VALUE + 1)(batch)["loss_qvalue"] != 0,
    )


def _with_value(loss: GroupSACLoss, value: float) -> GroupSACLoss:
    with torch.no_grad():
        for parameter in loss.qvalue_network_params.values(True, True):
            parameter.fill_(value)
    return loss


def draw(shown: Timeline, path: Path) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(3, 1, figsize=(11, 9.2), layout="constrained")
    for agent, axis in enumerate(axes):
        _draw_agent(axis, shown, agent)
    axes[-1].set_xlabel(
        f"step (a row of the batch); reward 1 per step, discount {GAMMA}, value of every state {VALUE:g}"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_agent(axis: Axes, shown: Timeline, agent: int) -> None:
    rows = ["mask", "next terminated", "next truncated", "next observation", "critic target", "in the losses"]
    for step in range(STEPS):
        alive, ends, cut = (bool(flag[step, agent]) for flag in (shown.mask, shown.terminated, shown.truncated))
        colour = GONE if not alive else TERMINATES if ends else TRUNCATED if cut else CONTINUES
        target = float(shown.target[step, agent])
        bootstraps = alive and bool(shown.alive_next[step, agent])
        cells = [
            str(alive),
            str(ends) if alive else "(any)",
            str(cut) if alive else "(any)",
            "acted on" if shown.alive_next[step, agent] else "never seen",
            f"r + γV' = {target:.1f}" if bootstraps else f"r = {target:.1f}" if alive else "none",
            "yes" if shown.has_weight[step, agent] else "no",
        ]
        axis.axvspan(step + 0.52, step + 1.48, color=colour, lw=0)
        for row, text in enumerate(cells):
            bold = text.startswith("r =") or (row in (1, 2) and text == "True")
            axis.text(step + 1, row, text, ha="center", va="center", fontsize=10, weight="bold" if bold else "normal")
    axis.set_title(TITLES[agent], loc="left", fontsize=12)
    axis.set_yticks(range(len(rows)), rows, fontsize=10)
    axis.set_xticks(range(1, STEPS + 1))
    axis.set_xlim(0.45, STEPS + 0.55)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".png"))
    draw(timeline(episode()), parser.parse_args().out)


if __name__ == "__main__":
    main()
