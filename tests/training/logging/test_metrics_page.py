"""docs/metrics.md says what real runs write."""

import csv
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from masac.envs.config import TaskConfig
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
ROWS = re.findall(r"^\| `([\w/]+)` \| (.+?) \| (.+?) \| (.*?) ?\|$", PAGE, re.MULTILINE)
RANGES = {"any": (None, None), "0 or more": (0, None), "1 or more": (1, None), "0 to 1": (0, 1)}
"""What stands in the third column, as bounds."""

SCRIPTED = {"suite": "pettingzoo", "scenario": "tests.envs.scripted", "horizon": None, "num_envs": 8}
TAG = {"suite": "pettingzoo", "scenario": "mpe2.simple_tag_v3", "horizon": None, "num_envs": 8}


def a_run(path, *, task=None, **training):
    """The rows that a small run writes, and its groups: all, and those that learn."""
    config = tiny(training=training)
    config = replace(config, task=TaskConfig(**task)) if task else config
    with Trainer(config, path, console=QUIET) as trainer:
        trainer.run()
        groups = [group.name for group in trainer.groups], trainer.learning_names
    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file)), *groups


def documented(column, groups):
    """The name on the page that a column goes by."""
    group = next((name for name in groups if column.startswith(f"{name}/")), None)
    name = column if group is None else f"GROUP/{column.removeprefix(f'{group}/')}"
    return re.sub(r"(?<=/return/)\d+$", "I", name)


def test_every_column_is_documented_once():
    names = [name for name, *_ in ROWS]
    assert len(names) == len(set(names))
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE)), "a row that cannot be read"
    assert all(len(meaning) > 10 for _, meaning, *_ in ROWS)
    assert {of for _, _, of, _ in ROWS} <= set(RANGES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "training"),
    [
        pytest.param(None, {}, id="VMAS, continuous actions, with success"),
        pytest.param(SCRIPTED, {}, id="agents that die, discrete actions"),
        pytest.param(
            TAG, {"learning_groups": ("adversary",), "total_frames": 512}, id="two groups", marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_writes_the_columns_of_the_page_in_their_ranges(tmp_path, task, training):
    if task is TAG and find_spec("mpe2") is None:
        pytest.skip("mpe2 is not installed")
    rows, groups, learning = a_run(tmp_path, task=task, **training)
    written = {column: documented(column, groups) for column in rows[0]}
    known = {name: RANGES[of] for name, _, of, _ in ROWS}
    assert set(written.values()) <= set(known), "docs/metrics.md must explain every column"
    optional = {"GROUP/alpha_discrete"}  # test_hybrid_actions.py trains with these
    optional |= {"eval/success_rate", "eval/success_low", "eval/success_high"} if task else set()
    assert set(known) - optional == set(written.values()), "docs/metrics.md must have no column that is not written"
    for column, name in written.items():
        values = [float(row[column]) for row in rows if row[column]]
        expected = learning if name.startswith("GROUP/") and "return" not in name and "life" not in name else groups
        assert values or column.partition("/")[0] not in expected, f"{column} is empty"
        low, high = known[name]
        assert all((low is None or value >= low) and (high is None or value <= high) for value in values), column
