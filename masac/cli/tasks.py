"""``masac tasks``: a list of the environments, or a description of one."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from masac.cli.composing import composed_experiment
from masac.cli.errors import errors_as_lines
from masac.cli.presets import about_preset, minutes_of_preset, presets
from masac.envs.suites import SUITES, suite_named
from masac.errors import ConfigError

if TYPE_CHECKING:
    from masac.groups import GroupSpec

HELP = """\
masac tasks: list the environments, or describe one

Usage: masac tasks [NAME [key=value ...]]

Examples:
  masac tasks                                         the installed environments, and how to install others
  masac tasks pettingzoo/simple_tag                   groups of agents, observations and actions of one
  masac tasks vmas/navigation task.kwargs.n_agents=5  with the overrides of masac train
  masac tasks mpe2.simple_push_v3                     any module with a parallel_env function
  masac tasks my_package.my_module:make               your own function that makes a PettingZoo or TorchRL environment
"""


def tasks(arguments: Sequence[str]) -> None:
    """Run ``masac tasks`` with its arguments; exits with 2 for a mistake in them."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP, end="")
        return
    with errors_as_lines("masac tasks"):
        lines = _description(arguments[0], arguments[1:]) if arguments else _listing()
        print("\n".join(lines))


def _listing() -> Iterator[str]:
    yield "Tasks: masac train task=SUITE/NAME trains on one, masac tasks SUITE/NAME describes it."
    yield "Those with a * have a preset; the minutes behind some are those of a measured run on two CPU cores."
    for suite in SUITES:
        for title, names in suite_named(suite).listing():
            yield from ("", title, *_names(suite, names))
        yield from (f"  {line}" for line in suite_named(suite).your_own)


def _names(suite: str, names: Sequence[str]) -> list[str]:
    tuned = presets(suite)
    ordered = sorted(names, key=lambda name: name not in tuned)
    marked = [_marked(suite, name) if name in tuned else name for name in ordered]
    return textwrap.wrap(", ".join(marked), width=110, initial_indent="  ", subsequent_indent="  ")


def _marked(suite: str, name: str) -> str:
    minutes = minutes_of_preset(suite, name)
    return f"{name}*" if minutes is None else f"{name}* {minutes} min"


def _description(name: str, overrides: Sequence[str]) -> Iterator[str]:
    from masac.envs.agent_groups import agent_names  # imported here, as PyTorch is slow to import
    from masac.envs.registry import make_env
    from masac.groups import read_groups

    words = [*_chosen(name), *overrides]
    task = replace(composed_experiment(words).task, num_workers=0)
    env = make_env(task, num_envs=1, seed=0)
    try:
        groups, names = read_groups(env), agent_names(env)
    finally:
        env.close()
    yield f"{task.suite}: {task.factory or task.scenario}"
    if about := about_preset(*words[0].removeprefix("task=").split("/", 1)):
        yield from textwrap.wrap(about, width=110)
    yield ""
    rows = [("group", "agents", "observation", "action")]
    rows += [(group.name, str(group.n_agents), group.observations, _action(group)) for group in groups]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        yield "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
    yield ""
    for group in groups:
        if group.name in names:
            about = f"{group.name} {'are' if group.n_agents > 1 else 'is'} {', '.join(map(str, names[group.name]))}"
            yield from textwrap.wrap(about, width=110, initial_indent="  ", subsequent_indent="    ")
    if names:
        yield ""
    limit = "that of the environment" if task.horizon is None else f"{task.horizon} steps, then truncated"
    yield f"  horizon: {limit}"
    yield f"  train:   masac train {shlex.join(words)}"


def _action(group: GroupSpec) -> str:
    dims = group.continuous_dim
    continuous = f"continuous, {dims} dimension{'s' if dims != 1 else ''}"
    if group.discrete_part is not None:
        return f"{continuous}, and {_choices(group)}"
    return continuous if group.discrete is None else _choices(group)


def _choices(group: GroupSpec) -> str:
    sizes = (group.choices and group.choices.sizes) or ()
    masked = ", masked" if group.has_action_mask else ""
    if len(sizes) == 1:
        return f"discrete, {sizes[0]} choices{masked}"
    return f"discrete, {len(sizes)} factors of {' x '.join(map(str, sizes))} choices{masked}"


def _chosen(name: str) -> list[str]:
    """The overrides that select the task of a name."""
    if "/" in name:
        return [f"task={name}"]
    if ":" in name:
        return ["task=pettingzoo/custom", f"task.factory={name}"]
    suites = [suite for suite in SUITES if name in suite_named(suite).environments()]
    if len(suites) > 1:
        tasks = " or ".join(f"{suite}/{name}" for suite in suites)
        raise ConfigError(f"a name must be that of one task; got {name!r}. Choose {tasks}.")
    suites += [suite for suite in SUITES if name in suite_named(suite).aliases()]
    if suites:
        return [f"task={suites[0]}/{name}"]
    if "." not in name:
        hint = suite_named("pettingzoo").hint(name) or "masac tasks lists all."
        raise ConfigError(f"a name must be that of a task, a module or a factory; got {name!r}. {hint}")
    return ["task=pettingzoo/custom", f"task.scenario={name}"]
