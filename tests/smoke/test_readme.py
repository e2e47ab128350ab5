"""What the README says can be done as it says."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from masac.cli.overrides import check_overrides

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_blocks_run(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"print\(.*\)\s+# (.*)", code)
    assert printed == promised


def shell_lines(command):
    """The arguments of the lines that call a command of masac."""
    lines = [line for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) for line in block.splitlines()]
    found = [shlex.split(line.partition("#")[0])[2:] for line in lines if line.startswith(f"masac {command}")]
    assert found
    return found


def test_shell_lines_are_arguments_that_masac_takes():
    from dataclasses import asdict

    from masac.cli.arguments import split_resume
    from masac.training.config import ExperimentConfig

    trained = shell_lines("train")
    for arguments in trained:
        words = split_resume(arguments)[1]
        check_overrides([word for word in words if not word.startswith("-")], asdict(ExperimentConfig()))


@pytest.mark.parametrize("command", ["evaluate", "plot", "render", "export"])
def test_lines_of_other_commands_are_arguments_that_they_take(command):
    parser = import_module(f"masac.cli.{command}").parser()
    for arguments in shell_lines(command):
        if arguments != ["--help"]:
            parser.parse_args(arguments)


def test_the_lines_for_newcomers_are_there():
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/masac train\n" in README
    assert 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest\n' in README
