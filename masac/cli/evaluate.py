"""``masac evaluate``: the returns of a trained policy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masac.cli.errors import errors_as_lines
from masac.cli.saved import saved_policy, say
from masac.errors import ConfigError

if TYPE_CHECKING:
    from masac.training.evaluator import Evaluation
    from masac.training.policies.saved_policy import SavedPolicy

NUMBERS = ("mean", "std", "low", "high")

EPILOG = """\
Examples:
  masac evaluate runs/mine                          100 episodes of the last policy, without noise
  masac evaluate runs/mine --checkpoint best        the policy with the best evaluation in training
  masac evaluate runs/mine --stochastic --seed 7    with noise, on other episodes
  masac evaluate runs/mine --json                   for a program to read
  masac evaluate runs/mine task.kwargs.n_agents=5   with another number of agents

Without --seed, the episodes are those that the run was evaluated on in training (evaluation.seed).
"""


def evaluate(arguments: Sequence[str]) -> None:
    """Run ``masac evaluate`` with its arguments; exits with 2 for a mistake in them."""
    options = parser().parse_intermixed_args(list(arguments))
    with errors_as_lines("masac evaluate", options.run_dir):
        found = _evaluate(options)
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            _print(found)


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="masac evaluate",
        description="Run episodes with a trained policy and print their returns.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder of a run, as masac train wrote it")
    made.add_argument(
        "overrides", metavar="task.KEY=VALUE", nargs="*", help="evaluate in a task that differs from the run's"
    )
    made.add_argument("--checkpoint", default="last", metavar="last|best|PATH", help="which policy (last)")
    made.add_argument("--episodes", type=int, default=100, metavar="N", help="how many, in parallel (100)")
    made.add_argument("--steps", type=int, metavar="MAX", help="maximum steps of an episode (no limit but its own end)")
    made.add_argument("--seed", type=int, metavar="S", help="seed of the environments (the run's evaluation.seed)")
    made.add_argument(
        "--stochastic",
        action=argparse.BooleanOptionalAction,
        help="draw actions as in training (the run's evaluation.stochastic)",
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from masac.envs.registry import make_env  # imported when needed: help is immediate without PyTorch
    from masac.process.threads import choose_threads, set_threads
    from masac.training import evaluator
    from masac.training.evaluator import EvaluationProgress, limit_warning, step_limit

    if options.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1; got {options.episodes}.")
    if options.steps is not None and options.steps < 1:
        raise ConfigError(f"--steps must be at least 1; got {options.steps}.")
    if options.seed is not None and not 0 <= options.seed < 2**31:
        raise ConfigError(f"--seed must be at least 0 and below 2**31; got {options.seed}.")
    saved = saved_policy(options.run_dir, options.checkpoint, options.overrides)
    set_threads(choose_threads(saved.config.training.threads, saved.policy.operations * options.episodes))
    task = saved.config.task
    evaluation = saved.config.evaluation
    seed = evaluation.seed if options.seed is None else options.seed
    stochastic = evaluation.stochastic if options.stochastic is None else options.stochastic
    env = make_env(task, num_envs=options.episodes, seed=seed, one_episode=True)
    try:
        found = evaluator.evaluate(
            saved.policy,
            env,
            seed=seed,
            success=task.success,
            stochastic=stochastic,
            max_steps=options.steps or step_limit(task),
            after_step=EvaluationProgress(say),
        )
    finally:
        env.close(raise_if_closed=False)
    if found.unfinished:
        say(f"warning: {limit_warning(found)} (here: --steps MAX)")
    return {**_numbers(saved, found, seed=seed, stochastic=stochastic), "overrides": options.overrides}


def _numbers(saved: SavedPolicy, evaluation: Evaluation, *, seed: int, stochastic: bool) -> dict[str, Any]:
    from masac.plotting.statistics import of_sample
    from masac.training.logging.metrics import success_numbers

    learned = [name for name in evaluation.returns if name in saved.policy.actors]
    groups = {
        name: {
            "return": of_sample(returns.mean(-1).numpy()),
            "agents": [of_sample(agent.numpy()) for agent in returns.unbind(-1)],
            "life": of_sample(evaluation.lives[name].double().mean(-1).numpy()),
            "learned": name in learned,
            "played_by": saved.policy.describe(name),
        }
        for name, returns in evaluation.returns.items()
    }
    found = {
        "task": f"{saved.config.task.suite}/{saved.config.task.name}",
        "algorithm": saved.config.algorithm.name,
        "policy": str(saved.file),
        "frames": saved.frames,
        "episodes": len(evaluation.lengths),
        "seed": seed,
        "stochastic": stochastic,
        "return": of_sample(evaluation.episode_returns(learned).numpy()),
        "episode_length": of_sample(evaluation.lengths.double().numpy()),
        "groups": groups,
    }
    if evaluation.successes is not None:
        numbers = success_numbers(evaluation.successes)
        found |= {name.removeprefix("eval/"): value for name, value in numbers.items()}
        found["success_means"] = saved.config.task.success_means
    return found


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    noise = "with noise" if found["stochastic"] else "no noise"
    task = " ".join([found["task"], *found["overrides"]])
    console.print(
        f"{task}, {found['algorithm']}, {found['policy']} ({found['frames']:,} frames): "
        f"{_counted(found['episodes'])}, {noise}, seed {found['seed']}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("", "mean", "std", "95% interval of the mean"):
        table.add_column(name, justify="left" if not name else "right")

    def add(name: str, numbers: dict[str, float | None]) -> None:
        mean, std, low, high = ("-" if numbers[of] is None else f"{numbers[of]:.3f}" for of in NUMBERS)
        table.add_row(name, mean, std, "-" if low == "-" else f"[{low}, {high}]")

    add("return per agent", found["return"])
    for name, group in found["groups"].items():
        other = "" if group["played_by"] is None else f" ({group['played_by'].partition(':')[0]})"
        if len(found["groups"]) > 1:
            add(f"  {name}{other}", group["return"])
        for index, numbers in enumerate(group["agents"]):
            add(f"    {name} {index}", numbers)
        if len(group["agents"]) > 1 and group["life"]["mean"] < found["episode_length"]["mean"]:
            add(f"    steps alive, {name}", group["life"])
    add("episode length", found["episode_length"])
    console.print(table)
    if "success_rate" in found:
        console.print(
            f"success rate {found['success_rate']:.0%} [{found['success_low']:.1%}, {found['success_high']:.1%}] (95% "
            f"Wilson interval). Success: {found['success_means']}",
            highlight=False,
            soft_wrap=True,
        )


def _counted(episodes: int) -> str:
    return f"{episodes:,} episode{'s' if episodes != 1 else ''}"
