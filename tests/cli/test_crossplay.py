"""masac crossplay, as its user meets it."""

import csv
import json

import pytest
import torch

from masac.cli.main import main
from masac.training.policies.saved_policy import save_policy
from tests.envs.two_teams import STEPS
from tests.training.policies.common import pettingzoo, untrained

TUG = pettingzoo(factory="tests.envs.two_teams:tug")


def save_pulling(folder, task=TUG, **pulls):
    """The folder of a run whose groups always pull as hard as given."""
    policy, config = untrained(task)
    with torch.no_grad():
        for group, pull in pulls.items():
            output = policy.actors[group].module[0].module.mlp.output
            output.weight.zero_()
            output.bias.copy_(torch.tensor([[torch.atanh(torch.tensor(pull)), -9.0]]))
    folder.mkdir()
    save_policy(folder / "policy.pt", policy, config, frames=7)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    save_pulling(folder / "strong", red=0.9, blue=0.8)
    save_pulling(folder / "weak", red=0.2, blue=0.1)
    return folder


def means(matches, group):
    return {(one["row"], one["column"]): one["mean"] for one in matches if one["group"] == group}


def test_rows_are_whose_first_group_columns_whose_others(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    main(["crossplay", "strong", "weak", "--episodes", "10", "--json", "-o", "matrix.csv"])
    found = json.loads(capsys.readouterr().out)
    red, blue = (means(found["returns_per_agent"], group) for group in ("red", "blue"))
    pulls = {"strong": (0.9, 0.8), "weak": (0.2, 0.1), "random": (0.0, 0.0)}
    for (row, column), mean in red.items():
        noise = 0.01 if "random" not in (row, column) else 1.0  # random pulls are 0 in the mean
        assert mean == pytest.approx(STEPS * (pulls[row][0] - pulls[column][1]), abs=noise)
        assert blue[row, column] == pytest.approx(-mean)
    assert len(red) == 9
    with open("matrix.csv", newline="") as file:
        assert means([{**one, "mean": float(one["mean"])} for one in csv.DictReader(file)], "red") == red


def test_another_group_of_the_rows_and_another_task(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    main(["crossplay", "strong", "weak", "--group", "blue", "task.kwargs.per_team=3", "--episodes", "4"])
    out = capsys.readouterr().out
    assert "task.kwargs.per_team=3: 4 episodes of each pairing, no noise" in out
    table = out.partition("return of blue\n")[2].splitlines()
    assert table[0].split() == ["blue", "of", "red", "of", "strong", "red", "of", "weak", "red", "of", "random"]
    assert table[1].split()[:2] == ["strong", f"{STEPS * (0.8 - 0.9):.2f}"]  # its blue against its own red
    assert table[1].split()[4] == f"{STEPS * (0.8 - 0.2):.2f}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' is not a folder"),
        (["strong@best"], "must have a checkpoint with an evaluation for its best policy"),
        (["strong", "strong"], "the runs must differ; got strong strong"),
        (["strong", "--group", "green"], "--group must be a group of the task; got 'green'. There are: red, blue."),
        (["strong", "--episodes", "0"], "--episodes must be at least 1; got 0"),
        (["strong", "-o", "matrix.png"], "-o must be a .csv or .json file"),
        (["strong", "seed=3"], "only the task can be changed here, with task=... or task.KEY=...; got 'seed=3'"),
        (
            ["strong", "task.kwargs.features=3"],
            "group 'red', parameter actor mlp.hidden.0.weight: expected [3, 8], found [2, 8]",
        ),
        (
            ["strong", "task.kwargs.discrete=true"],
            "group 'red' has categorical [3] actions, the policy continuous [1] ones",
        ),
        (["strong", "task=pettingzoo/simple_spread"], "the environment has no group 'red'. Its groups: agent"),
    ],
)
def test_a_mistake_gets_one_line(runs, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(runs)
    with pytest.raises(SystemExit) as exit_code:
        main(["crossplay", *arguments])
    assert exit_code.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("masac crossplay: error: ")
    assert message in error
    assert error.count("\n") == 1
