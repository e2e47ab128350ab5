"""``masac crossplay``: the groups of several runs against each other."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masac.cli.errors import errors_as_lines
from masac.cli.saved import overridden_task, say
from masac.errors import ConfigError
from masac.files.atomic_write import write_atomically

EPILOG = """\
A table per group: the row says whose policy acts for --group, the column whose acts for the other groups. The row and
the column "random" act uniformly at random. All pairings have the same episodes.

Examples:
  masac crossplay runs/a runs/b                         two runs, both ways, and random
  masac crossplay runs/a@best runs/a@frames-000000020000 runs/a    checkpoints of one run
  masac crossplay runs/a runs/b -o matrix.csv           the numbers as a file (.csv or .json)
  masac crossplay runs/a runs/b task.kwargs.num_good=2  in a task that differs from that of the first run
"""


def crossplay(arguments: Sequence[str]) -> None:
    """Run ``masac crossplay`` with its arguments; exits with 2 for a mistake in them."""
    options = parser().parse_intermixed_args(list(arguments))
    with errors_as_lines("masac crossplay"):
        found = _play(options)
        if options.output is not None:
            _write(found, options.output)
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            _print(found)
            if options.output is not None:
                print(options.output)


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="masac crossplay",
        description="Let the groups of several runs play against each other, every pairing of two runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "runs",
        metavar="RUN_DIR[@CHECKPOINT]",
        nargs="+",
        help="runs, with @best, @last (the default) or @NAME of a checkpoint; task.KEY=VALUE changes the task",
    )
    made.add_argument("--group", metavar="NAME", help="the group of the rows (the first of the environment)")
    made.add_argument("--episodes", type=int, default=100, metavar="N", help="of each pairing, in parallel (100)")
    made.add_argument("--steps", type=int, metavar="MAX", help="maximum steps of an episode (no limit but its own end)")
    made.add_argument(
        "--seed", type=int, metavar="S", help="seed of the environments (the first run's evaluation.seed)"
    )
    made.add_argument("--stochastic", action="store_true", help="draw actions as in training (without noise)")
    made.add_argument("-o", "--output", metavar="FILE", type=Path, help="also write the numbers, .csv or .json")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def _play(options: argparse.Namespace) -> dict[str, Any]:
    # Imported when needed: help is immediate without PyTorch.
    from masac.envs.registry import make_env
    from masac.plotting.statistics import of_sample
    from masac.process.threads import choose_threads, set_threads
    from masac.training.crossplay import cross_play
    from masac.training.evaluator import step_limit
    from masac.training.policies.saved_policy import find_policy, read_policy, read_saved_config, split_run

    _check(options)
    words = [word for word in options.runs if "=" in word and not Path(word).exists()]
    names = [word for word in options.runs if word not in words]
    if not names:
        raise ConfigError("crossplay must be given at least one run; got none. Name one: masac crossplay runs/mine")
    if len(set(names)) < len(names):
        raise ConfigError(f"the runs must differ; got {' '.join(names)}.")
    files = {
        name: find_policy(folder, checkpoint=checkpoint)
        for name, (folder, checkpoint) in zip(names, map(split_run, names), strict=True)
    }
    config = read_saved_config(files[names[0]])
    task = overridden_task(config, words)
    players = {name: read_policy(file, task=task) for name, file in files.items()}
    groups = players[names[0]].groups
    known = [group.name for group in groups]
    group = options.group or known[0]
    if len(known) < 2:
        raise ConfigError(
            f"crossplay must have a task of several groups; {task.suite}/{task.name} has one, {known[0]!r}. Use masac "
            "evaluate"
        )
    if group not in known:
        raise ConfigError(f"--group must be a group of the task; got {group!r}. There are: {', '.join(known)}.")
    operations = sum(player.policy.operations for player in players.values())
    set_threads(choose_threads(config.training.threads, operations * options.episodes))
    seed = config.evaluation.seed if options.seed is None else options.seed
    env = make_env(task, num_envs=options.episodes, seed=seed, one_episode=True)
    matches = []
    try:
        for match in cross_play(
            {name: player.policy for name, player in players.items()},
            groups,
            env,
            group=group,
            seed=seed,
            stochastic=options.stochastic,
            max_steps=options.steps or step_limit(task),
        ):
            say(f"{group} of {match.row}, others of {match.column}: {options.episodes} episodes")
            for name, returns in match.evaluation.returns.items():
                matches.append({"row": match.row, "column": match.column, "group": name, **of_sample(returns.mean(-1))})
    finally:
        env.close(raise_if_closed=False)
    return {
        "task": " ".join([f"{task.suite}/{task.name}", *words]),
        "row_group": group,
        "column_groups": [name for name in known if name != group],
        "policies": {name: {"file": str(player.file), "frames": player.frames} for name, player in players.items()},
        "episodes": options.episodes,
        "seed": seed,
        "stochastic": options.stochastic,
        "returns_per_agent": matches,
    }


def _check(options: argparse.Namespace) -> None:
    if options.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1; got {options.episodes}.")
    if options.steps is not None and options.steps < 1:
        raise ConfigError(f"--steps must be at least 1; got {options.steps}.")
    if options.seed is not None and not 0 <= options.seed < 2**31:
        raise ConfigError(f"--seed must be at least 0 and below 2**31; got {options.seed}.")
    if options.output is not None and options.output.suffix not in (".csv", ".json"):
        raise ConfigError(f"-o must be a .csv or .json file; got {str(options.output)!r}.")
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise ConfigError(f"-o must be in a folder that exists; got {str(options.output)!r}. Create it first.")


def _write(found: dict[str, Any], path: Path) -> None:
    text = io.StringIO(newline="")
    if path.suffix == ".json":
        json.dump(found, text, indent=2)
    else:
        writer = csv.DictWriter(text, ["row", "column", "group", "mean", "std", "low", "high"])
        writer.writeheader()
        writer.writerows(found["returns_per_agent"])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    noise = "with noise" if found["stochastic"] else "no noise"
    row_group, column_groups = found["row_group"], ", ".join(found["column_groups"])
    console.print(
        f"{found['task']}: {found['episodes']} episodes of each pairing, {noise}, seed {found['seed']}; mean "
        "return per agent and its 95% interval",
        highlight=False,
        soft_wrap=True,
    )
    names = list(dict.fromkeys(match["row"] for match in found["returns_per_agent"]))
    last = {name: name.rstrip("/").rpartition("/")[2] for name in names}  # whole paths would not fit
    shown = last if len(set(last.values())) == len(names) else {name: name for name in names}
    for group in (row_group, *found["column_groups"]):
        table = Table(box=None, pad_edge=False)
        table.add_column(f"{row_group} of", overflow="fold")
        for name in names:
            table.add_column(f"{column_groups} of {shown[name]}", justify="right", overflow="fold")
        cells = {(one["row"], one["column"]): _cell(one) for one in found["returns_per_agent"] if one["group"] == group}
        for row in names:
            table.add_row(shown[row], *(cells[row, column] for column in names))
        console.print(f"\nreturn of {group}", highlight=False)
        console.print(table)


def _cell(numbers: dict[str, Any]) -> str:
    interval = "" if numbers["low"] is None else f" [{numbers['low']:.2f}, {numbers['high']:.2f}]"
    return f"{numbers['mean']:.2f}{interval}"
