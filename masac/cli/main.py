"""``masac``: pick a command. Imports nothing heavy, so that help is immediate."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import masac
from masac.cli.warning_lines import environment_warnings_as_lines
from masac.process.threads import wait_passively
from masac.process.working_directory import look_in_working_directory

HELP = """\
masac: Soft Actor-Critic for groups of agents

Usage: masac COMMAND [ARGUMENTS]

Commands:
  train      train groups of agents: masac train task=vmas/navigation
  evaluate   measure the returns of a trained policy: masac evaluate RUN_DIR
  crossplay  let the groups of several runs play each other: masac crossplay RUN_DIR RUN_DIR
  plot       draw the learning curves of runs: masac plot runs
  render     watch a trained policy: masac render RUN_DIR -o video.gif
  export     take a trained policy elsewhere: masac export RUN_DIR -o policy.onnx
  tasks      list the installed environments, or describe one: masac tasks pettingzoo/simple_tag

  masac COMMAND --help explains a command; masac --version prints the version.
"""

COMMANDS = ("train", "evaluate", "crossplay", "plot", "render", "export", "tasks")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exits with 2 for a mistake in the command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if arguments[0] == "--version":
        print(f"masac {masac.__version__}")
        return
    command, *rest = arguments
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Commands: {', '.join(COMMANDS)}."
        print(f"masac: error: unknown command {command!r}. {hint}", file=sys.stderr)
        sys.exit(2)
    wait_passively()
    from masac.cli.errors import errors_as_lines  # imported when needed: Hydra, then PyTorch

    folder = next((Path(word) for word in rest if Path(word).is_dir()), None)
    with errors_as_lines(f"masac {command}", folder):
        run = getattr(import_module(f"masac.cli.{command}"), command)
    look_in_working_directory()
    with environment_warnings_as_lines():
        run(rest)
