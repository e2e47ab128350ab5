"""The help of ``masac train``, its table of keys read from the dataclasses."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from masac.cli.presets import presets
from masac.docstrings import argument_texts
from masac.envs.suites import SUITES
from masac.training.collectors.config import COLLECTORS

HEAD = """\
masac train: train groups of agents

Usage: masac train [key=value ...]
       masac train --resume RUN_DIR [key=value ...]
       masac train --help [key=value ...]    with the values of these in the list of keys below

Examples:
  masac train                                               three agents on VMAS navigation, solved in about a minute
  masac train task=vmas/balance algorithm=masac seed=1      another task, centralized critics
  masac train task=pettingzoo/simple_tag                    PettingZoo: groups that compete, discrete actions
  masac train run_dir=runs/mine training.total_frames=200000
  masac train task.kwargs.n_agents=5                        a keyword of the scenario
  masac train task=vmas/custom task.scenario=my_package.my_module:Scenario
  masac train task=pettingzoo/custom task.factory=my_package.my_module:make
  masac train task=pettingzoo/simple_tag collector=processes collector.num_workers=2
  masac train training.init_from=runs/mine                  start with the policy of another run
  masac train task=pettingzoo/simple_tag training.opponents.agent=random    one group learns
  masac train -m seed=0,1,2                                 three runs one after another, each in its own folder
  masac train -m 'seed=range(5)'                            quoted: ( and ) are the shell's
  masac train --resume runs/mine                            resume a run that stopped for any reason
  masac train --resume runs/mine training.total_frames=400000
  masac train --cfg job                                     print the composed config and stop

A run writes config.yaml, metrics.csv (a row per iteration), tensorboard/, checkpoints/ and, at its end, summary.json,
learning_curve.png and policy.pt into run_dir. Ctrl-C (or SIGTERM, SIGHUP) ends it after the current iteration and
writes all of them; a second one ends it at once. --resume continues from the newest complete checkpoint.
In a sweep (-m) a job that fails does not stop the others; hydra/launcher=joblib runs several at once.

Presets:
{tasks}
               (others work too, with default settings: masac tasks lists them, masac tasks NAME describes one)
  algorithm=   isac (independent critics, the default), masac (centralized critics)
  collector=   {collectors}

Keys, and the values of masac train{command} (presets set some of them):
"""

RUN_DIR = "runs/TASK/ALGORITHM-seedSEED-TIME"
"""The default of run_dir for the help, where a time would differ at each call."""


def train_help(overrides: Sequence[str] = ()) -> str:
    """The whole text.

    Args:
        overrides: of the run whose values the table of keys shows; none for the default run.

    Raises:
        ConfigError: for an invalid override, or a value out of its range.
    """
    from masac.cli.composing import composed_experiment

    names = ", ".join(f"{suite}/{name}" for suite in SUITES for name in presets(suite))
    tasks = textwrap.fill(names, width=118, initial_indent="  task=        ", subsequent_indent=" " * 15)
    config = composed_experiment([f"run_dir={RUN_DIR}", *overrides])
    command = "".join(f" {shlex.quote(word)}" for word in overrides)
    collectors = ", ".join(f"{name} ({what})" for name, what in COLLECTORS.items())
    return HEAD.format(tasks=tasks, collectors=collectors, command=command) + "\n".join(_table(config)) + "\n"


def _table(config: Any, prefix: str = "") -> list[str]:
    texts = {name: text.replace("``", "") for name, text in argument_texts(type(config).__doc__ or "").items()}
    lines: list[str] = []
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            lines += ["", *_table(value, f"{prefix}{one.name}.")]
        else:
            shown, text = f"  {prefix}{one.name}={as_yaml(value)}", texts.get(one.name, "")
            lines += [shown, " " * 46 + text] if len(shown) > 44 else [f"{shown:44}  {text}"]
    return lines


def as_yaml(value: Any) -> str:
    """A value as it is written in a config file or on the command line."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_yaml(one)}' for key, one in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
