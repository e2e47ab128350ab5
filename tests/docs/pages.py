"""The pages and their blocks of code."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOOP = re.compile(r"^for (\w+) in (.*?); do\n(.*?)^done$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code, its place, and the name of the file that it shows (or None)."""

    place: str
    title: str | None
    code: str


class Line(NamedTuple):
    """The words of one command of a shell block, and its place."""

    place: str
    words: list[str]


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            if match[1] in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(f"{page.relative_to(ROOT)}:{line}", match[2], match[3]))
    return found


def shell_lines() -> list[Line]:
    return [
        Line(block.place, words)
        for block in blocks("bash", "sh", "shell", "console")
        for line in _unrolled(block.code).replace("\\\n", " ").splitlines()
        for words in _commands(line)
    ]


def _unrolled(code: str) -> str:
    """The code with loops over words unrolled, and command substitutions replaced by a word."""
    code = re.sub(r"\$\([^()]*\)", "printed", code)
    return LOOP.sub(lambda loop: "".join(loop[3].replace(f"${loop[1]}", word) for word in loop[2].split()), code)


def _commands(line: str) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    for word in lexer:
        if word in ("&&", "||", "|", ";", "&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


NOT_HERE = {
    "export": "tests/docs/test_blocks.py runs these lines",
    "crossplay": "tests/cli/test_crossplay.py has two runs of a game",
    "training.opponents.adversary=frozen:runs/chasers": "tests/training/policies/test_opponents.py has such runs",
    "training.opponents.agent=random": "as with training.learning_groups, tests/training/policies/test_opponents.py",
    "collector=ray": "tests/training/collectors/test_workers.py has a cluster",
    "hydra/launcher=joblib": "needs a launcher that is no dependency",
    "task.kwargs.env=my_package.my_module:MyTeam-v0": "tests/docs/test_blocks.py registers such an environment",
    "task.kwargs.env=lbforaging:Foraging-8x8-2p-3f-v3": "needs a package that is no dependency",
    "task.kwargs.env=rware:rware-tiny-2ag-v2": "needs a package that is no dependency",
    "task.factory=gymnasium_robotics:mamujoco_v1.parallel_env": "needs a package that is no dependency",
    "task.factory=magent2.environments.adversarial_pursuit_v4:parallel_env": "needs a package that is no dependency",
    "logging.loggers=[tensorboard,wandb,mlflow]": "tests/training/logging/test_loggers.py has these loggers",
}
"""Words of lines that are not run by the tests of shell lines, and why."""


def commands() -> list[Line]:
    """Every line that calls masac by itself, once."""
    lines = {}
    for line in shell_lines():
        if line.words[0].removeprefix(".venv/bin/") == "masac" and not NOT_HERE.keys() & set(line.words):
            lines.setdefault(" ".join(line.words[1:]), line)
    return list(lines.values())
