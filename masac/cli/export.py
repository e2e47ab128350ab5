"""``masac export``: trained policies as files that run without masac."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from masac.cli.errors import errors_as_lines
from masac.cli.saved import saved_policy

EPILOG = """\
Inputs and outputs are plain tensors: observation [batch, agents, features] to action [batch, agents, ...] in the
environment's own units, without noise; with --per-agent [batch, features] to [batch, ...]. A FILE.json beside each
file says what the numbers mean.

Examples:
  masac export runs/mine -o policy.onnx   for ONNX Runtime and others
  masac export runs/mine -o policy.pt2    for torch.export.load
  masac export runs/mine -o robot.onnx --per-agent   actors of single agents
"""


def export(arguments: Sequence[str]) -> None:
    """Run ``masac export`` with its arguments; exits with 2 for a mistake in them."""
    options = parser().parse_args(list(arguments))
    with errors_as_lines("masac export", options.run_dir):
        from masac.envs.space_meanings import read_spaces  # imported here, as PyTorch is slow to import
        from masac.exporting.export import check_export_file, export_policy

        check_export_file(options.output)
        saved = saved_policy(options.run_dir, options.checkpoint)
        for file in export_policy(saved, read_spaces(saved.config.task), options.output, per_agent=options.per_agent):
            print(f"{file} (its inputs and outputs: {file}.json)")
        if saved.config.evaluation.stochastic:
            print(
                "warning: the run's evaluations have noise (evaluation.stochastic=true), an exported policy has none. "
                f"See what it reaches with masac evaluate {options.run_dir} --no-stochastic",
                file=sys.stderr,
            )


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="masac export",
        description="Write a trained policy as a file per group that runs without masac.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder of a run, as masac train wrote it")
    made.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        type=Path,
        required=True,
        help="policy.onnx or policy.pt2; with several groups policy.GROUP.onnx for each",
    )
    made.add_argument(
        "--per-agent",
        action="store_true",
        help="actors of single agents: one file per group if its agents act alike, else policy.AGENT.onnx for each",
    )
    made.add_argument("--checkpoint", default="last", metavar="last|best|PATH", help="which policy (last)")
    return made
