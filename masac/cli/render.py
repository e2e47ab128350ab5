"""``masac render``: episodes of a trained policy as a video."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from masac.cli.errors import errors_as_lines
from masac.cli.saved import saved_policy, say
from masac.errors import ConfigError

EPILOG = """\
Examples:
  masac render runs/mine                         one episode, as runs/mine/episode.mp4
  masac render runs/mine -o swarm.gif --seed 3   another episode, as a gif
  masac render runs/mine --episodes 5            five episodes, one after another
  masac render runs/mine -o s.gif --width 300    a small file
  masac render runs/mine task.kwargs.n_agents=5  with another number of agents
"""


def render(arguments: Sequence[str]) -> None:
    """Run ``masac render`` with its arguments; exits with 2 for a mistake in them, with 1 if it cannot draw."""
    options = parser().parse_intermixed_args(list(arguments))
    with errors_as_lines("masac render", options.run_dir):
        print(_render(options))


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="masac render",
        description="Write a video of a trained policy. Needs no screen.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the folder of a run, as masac train wrote it")
    made.add_argument("overrides", metavar="task.KEY=VALUE", nargs="*", help="show a task that differs from the run's")
    made.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help=".mp4 or .gif (RUN_DIR/episode.mp4; .gif without PyAV)"
    )
    made.add_argument("--checkpoint", default="last", metavar="last|best|PATH", help="which policy (last)")
    made.add_argument("--episodes", type=int, default=1, metavar="N", help="episodes to show (1)")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other episodes (0)")
    made.add_argument("--steps", type=int, metavar="MAX", help="maximum length of an episode (its own end)")
    made.add_argument("--fps", type=float, help="steps per second (the environment's, else 15)")
    made.add_argument("--width", type=int, metavar="PIXELS", help="width of the video (the environment's)")
    made.add_argument("--stochastic", action="store_true", help="sample actions as in training (without noise)")
    return made


def _render(options: argparse.Namespace) -> str:
    import torch  # imported here, so that help is immediate

    from masac.process.threads import choose_threads, set_threads
    from masac.rendering.drawing import make_drawn_env
    from masac.rendering.playback import Playback
    from masac.rendering.video import DEFAULT_FPS, check_video_file, default_suffix, scaled, write_video
    from masac.training.evaluator import step_limit

    _check(options)
    file = options.output or options.run_dir / f"episode{default_suffix()}"
    check_video_file(file)
    saved = saved_policy(options.run_dir, options.checkpoint, options.overrides)
    set_threads(choose_threads(saved.config.training.threads, saved.policy.operations))
    drawn = make_drawn_env(saved.config.task, seed=options.seed)
    torch.manual_seed(options.seed)  # for sampled actions, and groups that act at random
    limit = options.steps or step_limit(saved.config.task)
    played = Playback(
        saved.policy,
        saved.policy.groups,
        drawn,
        episodes=options.episodes,
        max_steps=limit,
        stochastic=options.stochastic,
    )
    pictures = played if options.width is None else scaled(played, options.width)
    try:
        write_video(file, pictures, fps=options.fps or drawn.fps or DEFAULT_FPS)
    finally:
        drawn.env.close(raise_if_closed=False)
    returns = ", ".join(f"{name} {sum(values) / len(values):.3g}" for name, values in played.returns.items())
    if options.steps is None and limit in played.lengths:
        say(f"warning: episodes were cut off after {limit:,} steps. Show more with --steps MAX")
    episodes = f"{options.episodes} episode{'s' if options.episodes != 1 else ''}"
    return f"{file}: {episodes}, {sum(played.lengths)} steps, mean return per agent: {returns}"


def _check(options: argparse.Namespace) -> None:
    rules = [
        ("--episodes", options.episodes, options.episodes >= 1, "at least 1"),
        ("--seed", options.seed, 0 <= options.seed < 2**31, "at least 0 and below 2**31"),
        ("--steps", options.steps, options.steps is None or options.steps >= 1, "at least 1"),
        ("--width", options.width, options.width is None or 2 <= options.width <= 8192, "from 2 to 8192"),
        ("--fps", options.fps, options.fps is None or 0 < options.fps <= 240, "above 0 and at most 240"),
    ]
    for name, value, holds, rule in rules:
        if not holds:
            raise ConfigError(f"{name} must be {rule}; got {value}.")
