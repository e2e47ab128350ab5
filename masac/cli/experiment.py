"""From Hydra's config to the trainer, and what is said at the end."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from masac.training.config import read_config
from masac.training.trainer import Trainer


def run_experiment(composed: DictConfig, run_dir: str) -> None:
    """Train as configured; writes into ``run_dir``."""
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    config = replace(read_config(composed), run_dir=run_dir)
    console = Console()
    shown_dir = _shown(run_dir)
    with Trainer(config, Path(run_dir), console=console) as trainer:
        agents = ", ".join(
            f"{group.n_agents} {group.name}{'' if group in trainer.learning else ' (random)'}"
            for group in trainer.groups
        )
        console.print(
            f"masac train: {config.task.suite}/{config.task.name}, {agents}, {config.task.num_envs} "
            f"environments, {config.algorithm.name}, seed {config.seed}; writing to {shown_dir}",
            highlight=False,
            soft_wrap=True,
        )
        summary = trainer.run()
    if summary:
        print_summary(summary, shown_dir, console)


def print_summary(summary: dict[str, Any], run_dir: str, console: Console) -> None:
    """The end of a run in four lines."""
    seconds = summary["wall_time_s"]
    verb = "interrupted" if summary["interrupted"] else "done"
    lines = [
        f"{verb}: {summary['frames']:,} frames, {summary['updates']:,} updates in {seconds:.1f} s "
        f"({summary['frames_per_second']:,.0f} frames/s)",
        f"evaluation over {summary['eval_episodes']} episodes, no noise: mean return per agent "
        f"{summary['eval_return_mean']:.3f} (std over episodes {summary['eval_return_std']:.3f}), "
        f"mean length {summary['eval_episode_length_mean']:.1f} steps",
        f"files in {run_dir}: config.yaml, metrics.csv, learning_curve.png, summary.json, policy.pt",
    ]
    if len(summary["groups"]) > 1:
        returns = ", ".join(f"{name} {numbers['return_mean']:.3f}" for name, numbers in summary["groups"].items())
        lines.insert(2, f"by group: {returns}")
    if "eval_success_rate" in summary:
        lines.insert(2, f"success rate {summary['eval_success_rate']:.0%}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _shown(path: str) -> str:
    """A path as a user would type it: relative where it lies below the working directory."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
