"""From Hydra's config to the trainer; what a run prints at its start and end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from masac.cli.overrides import OPEN
from masac.cli.presets import register_presets
from masac.cli.run_failures import failures_explained
from masac.cli.train_arguments import hydra_arguments
from masac.dotted_keys import flatten, nest
from masac.envs.suites import suite_named
from masac.errors import ConfigError
from masac.groups import GroupSpec
from masac.networks.config import MOST_CHOICES
from masac.networks.critics import CRITICS
from masac.process.memory import in_units
from masac.rendering.drawing import can_draw
from masac.training.checkpointing.checkpoints import Checkpoint
from masac.training.checkpointing.resume import by_key, contradictions, read_run_config
from masac.training.checkpointing.run_files import VIDEOS
from masac.training.config import ExperimentConfig, read_config, typed
from masac.training.distributed.ranks import current_rank
from masac.training.trainer import Trainer

FEW_UPDATES = 2000
"""A run with fewer gets a note: the presets take some thousands."""


def run_experiment(composed: DictConfig, run_dir: str) -> int | None:
    """Train as configured; writes into ``run_dir``. Returns the number of the signal that stopped it."""
    run_dir = current_rank().broadcast(run_dir)  # its name may contain the time
    return _run(replace(read_config(composed), run_dir=run_dir), resumes=False)


def resume_experiment(run_dir: Path, words: Sequence[str]) -> int | None:
    """Resume the run in ``run_dir``, with changes to its config; returns as :func:`run_experiment`.

    Args:
        run_dir: the run's folder.
        words: overrides, already checked.

    Raises:
        ConfigError: for an override of a key that must not change.
    """
    rank = current_rank()  # only rank 0 needs the files
    config = rank.broadcast(
        replace(read_run_config(run_dir), run_dir=str(run_dir)) if rank.is_main else ExperimentConfig()
    )
    return _run(changed(config, words) if words else config, resumes=True)


def changed(config: ExperimentConfig, words: Sequence[str]) -> ExperimentConfig:
    """The config of a run with overrides applied.

    Raises:
        ConfigError: for a key that must not change.
    """
    register_presets()
    with initialize_config_module("masac.conf", version_base="1.3"):
        defaults, wanted = (flatten(_composed(overrides)) for overrides in ((), words))
    named = {word.partition("=")[0].lstrip("+~") for word in words}
    # Overridden are the named keys, all keys of a named task or algorithm, and what these change.
    meant = {
        key
        for key in wanted
        if wanted[key] != defaults.get(key)
        or any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in named)
    } - {"run_dir"}
    before = by_key(config)
    replaced = tuple(f"{name}." for name in named if name in OPEN)  # whole dicts, as with evaluation.others={}
    kept = {key: value for key, value in before.items() if not key.startswith(replaced)}
    after = {**kept, **{key: wanted[key] for key in meant}}
    for key, (new, old) in contradictions(after, before).items():
        raise ConfigError(
            f"{key} must not change when a run is resumed; got {new}, the run in {config.run_dir} has {old}. Leave it "
            "out, or start another run"
        )
    return read_config(nest(after))


def _run(config: ExperimentConfig, *, resumes: bool) -> int | None:
    assert config.run_dir is not None
    quiet = not current_rank().is_main
    console, shown_dir = Console(markup=False, highlight=False, quiet=quiet), _shown(config.run_dir)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    with (
        failures_explained(Path(shown_dir)),
        Trainer(config, console=console, resumes=resumes) as trainer,
    ):
        played = [(group, trainer.policy.describe(group.name)) for group in trainer.groups]
        agents = ", ".join(f"{group.n_agents} {group.name}{'' if by is None else f' ({by})'}" for group, by in played)
        say(
            f"masac train: {config.task.suite}/{config.task.name}, {agents}, {config.task.num_envs} "
            f"environments, {config.algorithm.name}, seed {config.seed}; writing to {shown_dir}"
        )
        ranks = trainer.rank.world_size
        if ranks > 1:
            say(f"{ranks} ranks: each has 1/{ranks} of the environments, of every batch and of the replay buffer")
        if header := suite_named(config.task.suite).header(trainer.env):
            say(header)
        if sees := _what_critics_see(config, [group.name for group in trainer.learning]):
            say(sees)
        if slow := _many_choices(config, trainer.learning):
            say(slow)
        rows, size = config.buffer_rows, trainer.parts.bytes_per_row
        steps = f" {config.row_shape[0]} steps and" if config.row_shape else ""
        say(f"replay buffer: {rows:,} rows of{steps} {size:,} bytes, {in_units(rows * size)} when full")
        if trainer.threads > 1:
            say(f"PyTorch computes with {trainer.threads} threads (training.threads)")
        if config.task.success_means is not None:
            say(
                f"success: {config.task.success_means}. Solved means success in at least "
                f"{config.evaluation.solved_at:.0%} of evaluation episodes; brackets show the 95% Wilson interval"
            )
        for name, text in config.evaluation.others.items():
            say(f"evaluated too, as {name}: {text}")
        for line in trainer.start_lines:
            say(line)
        if trainer.parts.compile_message:
            say(trainer.parts.compile_message)
        if trainer.resumed_from is not None:
            say(f"resuming from {_shown(str(trainer.resumed_from.folder))}: {trainer.frames:,} frames")
            rates = _changed_rates(trainer)
            if rates:
                say(rates)
            if not trainer.resumed_from.has_buffers_of(ranks):
                say(_refill(trainer, trainer.resumed_from))
        elif resumes:
            say("there is no checkpoint yet: starting from the beginning")
        if trainer.frames >= trainer.total_frames:
            say(
                f"the run has all of its {trainer.frames:,} frames. To train longer: masac train --resume "
                f"{shlex.quote(shown_dir)} training.total_frames={2 * trainer.frames}"
            )
        elif trainer.schedule.updates_due(trainer.total_frames, trainer.state.updates_taken) <= 0:
            say(_no_update(trainer))
        summary = trainer.run().summary
    if summary:
        print_summary(summary, shown_dir, console, draws=not quiet and can_draw(config.task))
        if trainer.learner.updates < FEW_UPDATES and not summary["interrupted"]:
            say(_few_updates(config, trainer.learner.updates))
    return trainer.stopped_by


def print_summary(summary: Mapping[str, Any], run_dir: str, console: Console, *, draws: bool) -> None:
    """Print the results of a run, its files, and the next commands.

    Args:
        summary: of the run.
        run_dir: its folder.
        console: where to print.
        draws: whether the environment can be rendered.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    seconds = summary["wall_time_s"]
    verb = "interrupted" if summary["interrupted"] else "done"
    speed = f"{summary['frames_per_second']:,.0f} frames/s"
    table.add_row(verb, f"{summary['frames']:,} frames, {summary['updates']:,} updates in {seconds:.1f} s ({speed})")
    if summary["updates_skipped"]:
        table.add_row("skipped", f"{summary['updates_skipped']:,} updates that were not finite")
    if "ended_by" in summary:
        table.add_row("ended early", summary["ended_by"])
    noise = "with noise" if summary["eval_stochastic"] else "without noise"
    when = summary["eval_frames"]
    earlier = f", after {when:,} frames" if when not in (None, summary["frames"]) else ""
    if "eval_return_mean" in summary:
        mean, std, episodes = summary["eval_return_mean"], summary["eval_return_std"], summary["eval_episodes"]
        over = "one episode" if episodes == 1 else f"std {std:.3f} over {episodes} episodes"
        steps = f"of {summary['eval_episode_length_mean']:.1f} steps{earlier}"
        table.add_row("evaluation", f"mean return per agent {mean:.3f} ({over} {noise}, {steps})")
    if "eval_success_rate" in summary:
        table.add_row("success", _success(summary))
        table.add_row("solved", _solved(summary))
    for name, numbers in summary.get("others", {}).items():
        success = f", success {numbers['success_rate']:.0%}" if "success_rate" in numbers else ""
        table.add_row(name, f"mean return per agent {numbers['return_mean']:.3f}{success}")
    if len(summary["groups"]) > 1 and "eval_return_mean" in summary:
        returns = ", ".join(f"{name} {numbers['return_mean']:.3f}" for name, numbers in summary["groups"].items())
        table.add_row("by group", returns)
    files = ["learning_curve.png", "metrics.csv", "summary.json", "policy.pt"]
    files += [VIDEOS] if (Path(run_dir) / VIDEOS).is_dir() else []
    size = in_units(summary["checkpoint_bytes"])
    table.add_row("files", f"{run_dir}: {', '.join(files)}, checkpoints ({size})")
    console.print(table)
    # Not in the table, which would fold commands that users copy.
    commands = [f"masac train --resume {shlex.quote(run_dir)}"]
    if not summary["interrupted"]:
        commands = [f"masac evaluate {shlex.quote(run_dir)}"]
        if draws:
            commands.append(f"masac render {shlex.quote(run_dir)}")
    for command in commands:
        console.print(f"next: {command}", soft_wrap=True)


def _what_critics_see(config: ExperimentConfig, learning: Sequence[str]) -> str | None:
    """Whether critics see other groups; None where no other learns, or critics are a user's own."""
    if len(learning) < 2 or any(config.model.own("critic", group) for group in learning):
        return None
    algorithm = config.algorithm
    if not CRITICS[algorithm.critic].sees_others:
        return f"critics see one agent each, and no other group (algorithm.critic={algorithm.critic})"
    of = {"group": "the agents of their own group", "all_groups": "the agents of all groups that learn"}
    return f"critics see {of[algorithm.critic_sees]} (algorithm.critic_sees={algorithm.critic_sees})"


def _many_choices(config: ExperimentConfig, learning: Sequence[GroupSpec]) -> str | None:
    """How critics value many choices; None where there are not many."""
    model = config.model
    most = max((group.valued_choices or 0 for group in learning if model.own("critic", group.name) is None), default=0)
    if most <= MOST_CHOICES:
        return None
    if model.choices_are_inputs(most):
        return f"critics run once for each of {most} choices of an action (model.choices_as=output is faster)"
    return (
        f"critics have an output for each of {most} choices of an action (model.choices_as={model.choices_as}; input "
        "learns from fewer frames, and takes longer)"
    )


def _changed_rates(trainer: Trainer) -> str | None:
    """A line on learning rates that change because a resumed run has another number of frames; None if they do not."""
    assert trainer.resumed_from is not None
    training, frames = trainer.config.training, trainer.frames
    planned = trainer.schedule.whole_iterations(trainer.resumed_from.config["training"]["total_frames"])
    before = training.lr_factor(min(frames / planned, 1.0))
    now = training.lr_factor(min(frames / trainer.total_frames, 1.0))
    if abs(now - before) < 0.005:
        return None
    falls_from = round((1 - training.lr_decay_fraction) * trainer.total_frames)
    return (
        f"learning rates: at {before:.0%} of their initial values when the run stopped, now at {now:.0%} because it "
        f"has {trainer.total_frames:,} frames; from frame {max(falls_from, frames):,} they fall to "
        f"{training.final_lr_factor:.0%}"
    )


def _refill(trainer: Trainer, checkpoint: Checkpoint) -> str:
    """Why a resumed run begins with an empty replay buffer, and when its next update is."""
    before, ranks = len(checkpoint.written), trainer.rank.world_size
    if before == ranks:
        why = "the checkpoint has no whole replay buffer"
    else:
        why = f"the checkpoint was written by {before} rank{'s' * (before > 1)}, this run has {ranks}"
    frames = trainer.schedule.refill_frames
    until = f". The saved policy collects {frames:,} frames before the next update" if frames else ""
    return f"{why}: the replay buffer is empty{until}"


def _no_update(trainer: Trainer) -> str:
    """A warning about a run that ends before an update is due."""
    training = trainer.config.training
    if trainer.resumed_from is not None:  # its warm-up must not change
        return (
            f"warning: the run ends before its next update: {trainer.total_frames - trainer.frames:,} frames are left, "
            f"and training.updates_per_frame={training.updates_per_frame:g}. Raise training.total_frames"
        )
    schedule, what, key = trainer.schedule, "the warm-up takes", "training.warmup_frames"
    if schedule.first_update_frames > schedule.warmup_frames:
        what = "the steps before the first row of the replay buffer are"
        key = "training.sequence_length" if trainer.config.row_shape else "training.n_step"
    return (
        f"warning: the run ends before its first update: it has {trainer.total_frames:,} frames "
        f"(training.total_frames), {what} {schedule.first_update_frames:,} ({key}), and "
        f"training.updates_per_frame={training.updates_per_frame:g}. Raise training.total_frames, or lower {key}"
    )


def _few_updates(config: ExperimentConfig, updates: int) -> str:
    training = config.training
    if not updates:
        keys = [
            "total_frames",
            "warmup_frames",
            "updates_per_frame",
            *(["sequence_length"] if config.row_shape else []),
        ]
        values = ", ".join(f"training.{key}={getattr(training, key):g}" for key in keys)
        return f"note: there was no update, so nothing was learned: {values}"
    return (
        f"note: {updates:,} updates are few; networks need some thousands. Raise training.total_frames (was "
        f"{training.total_frames:,}) or training.updates_per_frame (was {training.updates_per_frame:g})"
    )


def _success(summary: Mapping[str, Any]) -> str:
    low, high = (f"{summary[f'eval_success_{end}']:.0%}" for end in ("low", "high"))
    return (
        f"{summary['eval_success_rate']:.0%} of {summary['eval_episodes']} episodes (95% Wilson interval {low} to "
        f"{high}): {summary['success_means']}"
    )


def _solved(summary: Mapping[str, Any]) -> str:
    threshold, frames = f"{summary['solved_at']:.0%}", summary["solved_frames"]
    first = "" if frames is None else f"; first reached after {frames:,} frames, {summary['solved_s']:.0f} s"
    if summary["solved"]:
        return f"yes, at least {threshold} success{first}"
    return f"no, below {threshold} success in the last evaluation{first}"


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    """A config as Hydra composes it, types checked but not bounds, which hold for the resumed config as a whole."""
    found = OmegaConf.to_container(typed(compose("config", overrides=hydra_arguments(overrides))), resolve=True)
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}


def _shown(path: str) -> str:
    """A path as a user would type it: relative if it is below the working directory."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
