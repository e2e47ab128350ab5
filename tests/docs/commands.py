"""Checks the arguments of commands without running them."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from packaging.requirements import Requirement

from masac.cli.presets import register_presets
from masac.cli.train_arguments import hydra_arguments, split_resume
from masac.training.config import read_config
from tests.docs.pages import ROOT

NOT_OURS = [
    *("[", "apt-get", "cd", "docker", "du", "export", "git", "sleep", "source", "ssh"),
    *("mlflow", "ray", "sbatch", "scontrol", "tensorboard", "wandb"),
]
TOOLS = (".ci/run", ".ci/versions", "mkdocs", "pre-commit", "pyright", "pytest", "ruff")


def check(words: Sequence[str]) -> None:
    """Raise an error, or exit, if a command does not accept its arguments."""
    words = list(words)
    while words and re.match(r"\w+=", words[0]):
        del words[0]
    name = words[0].removeprefix(".venv/bin/") if words else "export"
    if name in NOT_OURS or name in TOOLS:
        return
    assert name in CHECKS, f"tests/docs/commands.py must know how to check {name!r}. Add it there."
    CHECKS[name](words[1:])


def check_masac(words: Sequence[str]) -> None:
    command, *arguments = words
    if "--help" in arguments or command == "--version":
        return
    if command == "train":
        check_train(arguments)
    elif command == "tasks":
        compose_experiment([word for word in arguments if "=" in word])
    else:
        import_module(f"masac.cli.{command}").parser().parse_args(arguments)


def check_train(arguments: Sequence[str]) -> None:
    run_dir, words = split_resume([word for word in arguments if not word.startswith("$")])
    wanted = [word for word in hydra_arguments(words) if not word.startswith(("-", "hydra"))]
    parsed = OverridesParser.create().parse_overrides(wanted)
    swept = any(override.is_sweep_override() for override in parsed)
    asked = any(word in ("-m", "--multirun") for word in words)
    assert swept == asked, "lists of values need -m, and -m needs lists"
    first = [
        f"{override.key_or_group}={next(iter(override.sweep_string_iterator()))}"
        if override.is_sweep_override()
        else str(override.input_line)
        for override in parsed
    ]
    if run_dir is None:
        compose_experiment(first)


def compose_experiment(overrides: Sequence[str]) -> None:
    register_presets()
    with initialize_config_module("masac.conf", version_base="1.3"):
        read_config(compose("config", overrides=hydra_arguments(overrides)))


def check_pip(words: Sequence[str]) -> None:
    assert words[0] == "install"
    pyproject = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"^(\w+) = \[", pyproject.partition("[project.optional-dependencies]")[2], re.MULTILINE)
    for word in words[1:]:
        if word.startswith(("-", "http")):
            continue
        local = re.fullmatch(r"\.(?:\[(.*)\])?", word)
        requirement = None if local else Requirement(word)
        wanted = (local[1] or "").split(",") if local else requirement.extras if requirement.name == "masac" else ()
        unknown = [extra for extra in wanted if extra and extra not in extras]
        assert not unknown, f"pyproject.toml must have the extras {unknown}"


def check_python(words: Sequence[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
    elif words[0] == "-m":
        check_module(words[1], words[2:])
    else:
        check_script(words[0], words[1:])


def check_module(name: str, arguments: Sequence[str]) -> None:
    if name in ("masac", "masac.cli.main"):
        check_masac(arguments)
    elif name in ("pytest", "pip", "venv", "build", "mkdocs"):
        return
    elif name.partition(".")[0] in ("benchmarks", "docs"):
        module = import_module(name)
        with arguments_only(name, arguments), pytest.raises(ParsedError):
            module.main()
    elif name.partition(".")[0] in ("masac", "tests", "examples"):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{name} must be a module"
    else:  # of another package, such as BenchMARL
        assert find_spec(name.partition(".")[0]) is None or find_spec(name) is not None, f"{name} must be a module"


def check_script(name: str, arguments: Sequence[str]) -> None:
    if name.startswith("sota-implementations/"):
        return  # of TorchRL, run in tests/integrations
    path = ROOT / name
    assert path.is_file(), f"{name} must be a file"
    source = path.read_text()
    options = [word.partition("=")[0] for word in arguments if word.startswith("--") and word != "--help"]
    assert all(option in source for option in options), f"{name} must have {options}"


def check_launched(words: Sequence[str]) -> None:
    """Check the program behind a launcher's options, which are not checked."""
    start = next((index for index, word in enumerate(words) if word.removeprefix(".venv/bin/") in CHECKS), None)
    if start is not None:
        check(words[start:])


def check_torchrun(words: Sequence[str]) -> None:
    from torch.distributed.run import get_args_parser

    got = get_args_parser().parse_args(words)
    if got.module:
        check_module(got.training_script, got.training_script_args)
    elif got.training_script.rpartition("/")[2] == "masac":
        check_masac(got.training_script_args)
    else:
        check_script(got.training_script, got.training_script_args)


class ParsedError(Exception):
    """Raised once arguments are parsed."""


@contextmanager
def arguments_only(name: str, arguments: Sequence[str]):
    """Context in which a program ends with ParsedError once it has parsed its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [name, *arguments])
        yield


CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    "masac": check_masac,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    "srun": check_launched,
    "torchrun": check_torchrun,
}
