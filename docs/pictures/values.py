"""Draws docs/pictures/values.png, values learned from misread flags: python -m docs.pictures.values [-o FILE].

An agent earns 1 per step. The values of its states are the fixed point of ``masac.functional.soft_td_target``, for
each way to read the flags.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from docs.pictures.timeline import DIES, GAMMA, STEPS
from masac import functional


def learned_values(ends: Tensor, *, gamma: float = GAMMA) -> Tensor:
    """The values of the states of an episode, ``[T]``.

    Args:
        ends: bool ``[T]``, the steps after which the loss takes nothing to follow.
        gamma: discount per step.
    """
    values = torch.zeros(len(ends), 1)
    for _ in range(1000):
        # The state after the last step looks like the last one: the environment does not show the time limit.
        following = torch.cat([values[1:], values[-1:]])
        values = functional.soft_td_target(torch.ones_like(values), ends.unsqueeze(-1), following, gamma)
    return values.squeeze(-1)


def readings() -> dict[str, dict[str, Tensor]]:
    """Values, by what happened and by how a loss reads it."""
    never, cut, dies = (torch.zeros(STEPS, dtype=torch.bool) for _ in range(3))
    cut[-1] = True
    dies[DIES - 1] = True
    return {
        f"cut off by a time limit at step {STEPS}": {
            "truncated, and bootstraps (masac)": learned_values(never),
            "read as a termination (done, or a horizon\nthat is reported as terminated)": learned_values(cut),
        },
        f"dies at step {DIES}": {
            "terminated: the target is the reward (masac)": learned_values(dies)[:DIES],
            "only the team's flag is read,\nand the team continues": learned_values(never)[:DIES],
        },
    }


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".png"))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for axis, (happened, lines) in zip(axes, readings().items(), strict=True):
        for (label, values), style in zip(lines.items(), ("o-", "s--"), strict=True):
            axis.plot(range(1, len(values) + 1), values, style, label=label)
        axis.set_title(happened, loc="left", fontsize=12)
        axis.set_xlabel("step")
        axis.set_xticks(range(1, len(next(iter(lines.values()))) + 1))
        axis.set_ylim(0, 15)
        axis.legend(frameon=False, loc="upper right")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"value (reward 1 per step, discount {GAMMA})")
    figure.savefig(parser.parse_args().out, dpi=110)


if __name__ == "__main__":
    main()
