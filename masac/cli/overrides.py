"""Hydra overrides, checked before Hydra sees them: a wrong key gets a suggestion."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from masac.dotted_keys import flatten
from masac.errors import ConfigError

GROUPS = ("task", "algorithm", "collector")
"""Keys that choose a preset."""

OPEN = ("task.kwargs", "model.actors", "model.critics", "training.opponents", "evaluation.others")
"""Keys below which any key may be set."""

TEXTS = {
    *("run_dir", "hydra.run.dir", "hydra.sweep.dir", "task.scenario", "task.factory", "collector.address"),
    *("model.actor", "model.critic"),
    "training.init_from",
    *("logging.project", "logging.mlflow_uri"),
}
"""Keys whose values are names with any characters: Hydra needs quotes around many of them."""

LISTS = {"training.learning_groups", "training.callbacks", "training.init_groups", "training.init_parts"}
"""Keys whose values are lists, besides those whose defaults are."""

MEANINGS = {
    "training.actor_lr training.critic_lr": "lr learning_rate",
    "training.alpha_lr": "ent_coef_lr temperature_lr",
    "training.total_frames": "total_timesteps timesteps total_steps num_steps num_timesteps max_n_frames frames steps",
    "training.batch_size": "batch batchsize minibatch_size train_batch_size",
    "training.warmup_frames": "learning_starts start_steps random_steps init_random_frames warmup warmup_steps",
    "training.updates_per_frame": "gradient_steps utd utd_ratio updates_per_step n_optimizer_steps",
    "training.steps_per_iteration": "train_freq update_every rollout_length frames_per_batch",
    "training.buffer_size": "buffer replay_size memory_size buffer_capacity",
    "training.threads": "threads num_threads n_threads torch_threads",
    "training.device": "device cuda gpu",
    "training.checkpoint_every": "save_freq checkpoint_freq checkpoint_interval save_every",
    "training.max_grad_norm": "grad_clip clip_grad_norm gradient_clip",
    "training.compile": "jit torch_compile",
    "training.opponents": "opponent opponents self_play selfplay adversary frozen",
    "training.init_from": "load_from pretrained checkpoint restore_from load_path policy",
    "evaluation.every_frames": "eval_freq eval_interval eval_every evaluation_interval eval_frequency",
    "evaluation.episodes": "n_eval_episodes eval_episodes num_eval_episodes evaluation_episodes",
    "task.num_envs": "n_envs envs nenvs num_environments n_environments",
    "task.num_workers collector.num_workers": "workers n_workers num_workers",
    "task.horizon": "max_steps max_episode_steps episode_length max_cycles time_limit ep_length",
    "task.kwargs.n_agents": "n_agents num_agents agents",
    "task": "env env_id env_name environment scenario",
    "algorithm": "algo",
    "algorithm.gamma": "discount discount_factor",
    "algorithm.tau": "polyak polyak_tau",
    "algorithm.alpha_init": "ent_coef entropy_coef temperature alpha",
    "model.cnn": "conv channels filters cnn_channels conv_layers",
    "model.hidden": "hidden hidden_sizes hidden_dim hidden_size net_arch num_cells layers",
    "logging.loggers": "logger loggers wandb tensorboard mlflow",
    "run_dir": "out output output_dir log_dir logdir save_dir folder experiment_dir",
}
"""The names of a key in other libraries."""


def check_overrides(overrides: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    """Overrides in the form that Hydra takes.

    A key under ``task.kwargs`` may be new, without the ``++`` that Hydra asks for.

    Args:
        overrides: ``key=value`` words from the command line.
        defaults: the default experiment.

    Raises:
        ConfigError: for an unknown key, or a word that is not an override.
    """
    values = flatten(defaults, whole=OPEN)
    lists = LISTS | {key for key, value in values.items() if isinstance(value, list | tuple)}
    sections = [name for name, value in defaults.items() if isinstance(value, Mapping)]
    return [_check(word, [*values, *GROUPS, *sections], lists) for word in overrides]


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint at the known names that other libraries call ``name``, or that are spelled like it."""
    known = list(known)
    last_part = name.rpartition(".")[2].lower()
    for here, elsewhere in MEANINGS.items():
        keys = [key for key in here.split() if key in known or key.startswith(OPEN)]
        if keys and last_part in elsewhere.split():
            return f"Here it is called {' and '.join(keys)}."
    last = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    close += [last[part] for part in difflib.get_close_matches(name.rpartition(".")[2], last, n=2, cutoff=0.6)]
    unique = list(dict.fromkeys(close))[:3]
    return f"Did you mean {' or '.join(unique)}?" if unique else "masac train --help lists all keys."


def _check(word: str, known: list[str], lists: set[str]) -> str:
    override, word = _parsed(word)
    key = override.key_or_group
    if key in lists:
        _check_list(override)
    if key.startswith("hydra") or override.is_delete() or key in known:
        return word
    if any(key.startswith(f"{open_key}.") for open_key in OPEN):
        return word if override.is_add() or override.is_force_add() else f"++{word}"
    raise ConfigError(f"{key} is not a config key. {suggest(key, known)}")


def _parsed(word: str) -> tuple[Override, str]:
    """A word parsed by Hydra, and the word with the quotes that Hydra needs."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(word), word
    except HydraException as error:
        key, equals, value = word.partition("=")
        reason, quoted = str(error).splitlines()[0], f"{key}={_in_quotes(value)}"
        try:
            override = parser.parse_override(quoted)
        except HydraException:
            equals = ""
        else:
            if key in TEXTS or key.lstrip("+").startswith(("training.opponents.", "evaluation.others.")):
                return override, quoted
        hint = (
            f"A text needs quotes for Hydra and for the shell: {shlex.quote(quoted)}"
            if equals and key.lstrip("+").startswith(OPEN)
            else "Quote values with spaces, commas or brackets: 'key=value'"
        )
        raise ConfigError(f"an argument must be key=value; got {word!r} ({reason}). {hint}") from None


def _in_quotes(text: str) -> str:
    """Any text in quotes for Hydra; ``~`` becomes the home folder."""
    text = os.path.expanduser(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check_list(override: Override) -> None:
    """Raise ConfigError unless a list is set to a list."""
    value = override.value()
    key, _, text = (override.input_line or "").partition("=")
    swept = value.list if isinstance(value, ChoiceSweep) else [value]
    if all(one is None or isinstance(one, list) or str(one).startswith("${") for one in swept):
        return
    lists = " or, to sweep, ".join(
        dict.fromkeys(shlex.quote(f"{key}={form}") for form in (f"[{text}]", f"[{text.replace(',', '],[')}]"))
    )
    raise ConfigError(f"{key} must be a list; got {text}. Write {lists}")
