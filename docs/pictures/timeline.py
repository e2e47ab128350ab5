"""Draws docs/pictures/timeline.png, one episode of three agents: python -m docs.pictures.timeline [-o FILE].

The episode is a batch, and what is drawn of it is what ``GroupSACLoss`` and ``read_group_signals`` say. Every state is
worth 10 to the critic, and NaN to a critic or actor that sees what it must not see: an observation that means nothing.
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
from masac.losses.group_signals import EndRules, read_group_signals

STEPS, GAMMA, VALUE = 7, 0.9, 10.0
DIES, ARRIVES = 3, 5
"""The steps at which agent 0 and agent 1 terminate; agent 2 is cut short at the last one."""

GOES_ON, ENDS, CUT, GONE = "#dcebf7", "#f2b8a8", "#f8dfa2", "#eeeeee"
TITLES = (f"agent 0 dies at step {DIES}", f"agent 1 arrives at step {ARRIVES}", f"agent 2 is cut short at step {STEPS}")


class EveryStateIsWorth(nn.Module):
    """A critic for which all states have one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """``[*B, N, F]`` and ``[*B, N, A]`` to ``[*B, N, 1]``; NaN where either holds one."""
        return self.value + 0 * (observation.sum(-1, keepdim=True) + action.sum(-1, keepdim=True))


@dataclass(frozen=True)
class Timeline:
    """What is drawn, each ``[steps, agents]``.

    Args:
        mask: who lives, as the data has it.
        terminated: whose own end it is, as the data has it.
        truncated: whose episode is cut short, as the data has it.
        alive_next: who acts in the next state, as the loss says.
        target: the critic target.
        weighs: whether the loss of the critic is any but 0.
    """

    mask: Tensor
    terminated: Tensor
    truncated: Tensor
    alive_next: Tensor
    target: Tensor
    weighs: Tensor


def episode() -> TensorDict:
    """Rewards of 1; flags set, as PettingZoo has them, and NaN elsewhere in all that belongs to an agent no more."""
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
    """What the loss makes of a batch."""
    actor = make_tanh_normal_actor(
        group="agents",
        n_agents=3,
        observation_dim=2,
        action_spec=Bounded(-1, 1, (3, 1)),
        share_params=True,
        model=ModelConfig(hidden=(8,)),
    )
    critic = TensorDictModule(
        EveryStateIsWorth(VALUE),
        in_keys=[("agents", "observation"), ("agents", "action")],
        out_keys=[("agents", "state_action_value")],
    )
    loss = GroupSACLoss(
        actor,
        critic,
        gamma=GAMMA,
        alpha_init=1e-9,  # so little that entropy does not show in the numbers
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
        # A target that is the value, 10, leaves no loss: ask at another value.
        weighs=_with_value(loss, VALUE + 1)(batch)["loss_qvalue"] != 0,
    )


def _with_value(loss: GroupSACLoss, value: float) -> GroupSACLoss:
    with torch.no_grad():
        for parameter in loss.qvalue_network_params.values(True, True):
            parameter.fill_(value)
    return loss


def draw(said: Timeline, path: Path) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(3, 1, figsize=(11, 9.2), layout="constrained")
    for agent, axis in enumerate(axes):
        _draw_agent(axis, said, agent)
    axes[-1].set_xlabel(f"step (a row of the batch); reward 1 a step, discount {GAMMA}, every state worth {VALUE:g}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_agent(axis: Axes, said: Timeline, agent: int) -> None:
    rows = ["mask", "next terminated", "next truncated", "next observation", "critic target", "in the losses"]
    for step in range(STEPS):
        alive, ends, cut = (bool(flag[step, agent]) for flag in (said.mask, said.terminated, said.truncated))
        colour = GONE if not alive else ENDS if ends else CUT if cut else GOES_ON
        target = float(said.target[step, agent])
        bootstraps = alive and bool(said.alive_next[step, agent])
        cells = [
            str(alive),
            str(ends) if alive else "(any)",
            str(cut) if alive else "(any)",
            "acted on" if said.alive_next[step, agent] else "never seen",
            f"r + γV' = {target:.1f}" if bootstraps else f"r = {target:.1f}" if alive else "none",
            "yes" if said.weighs[step, agent] else "no",
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
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".png"))
    draw(timeline(episode()), parser.parse_args().out)


if __name__ == "__main__":
    main()
