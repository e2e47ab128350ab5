"""masac evaluate, as its user meets it."""

import json
import re

import pytest

from masac.cli.main import main
from masac.envs.config import TaskConfig
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    with Trainer(tiny(training={"normalize_observations": True}), path, console=QUIET) as trainer:
        trainer.run()
    return path


def printed(capsys, *arguments):
    main(["evaluate", *map(str, arguments)])
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_default_is_what_training_ended_with(run_dir, capsys):
    found = json.loads(printed(capsys, run_dir, "--episodes", 4, "--json"))
    summary = json.loads((run_dir / "summary.json").read_text())
    assert found["return"]["mean"] == pytest.approx(summary["eval_return_mean"], abs=1e-12)
    assert found["return"]["std"] == pytest.approx(summary["eval_return_std"], abs=1e-12)
    assert found["episode_length"]["mean"] == summary["eval_episode_length_mean"]
    assert found["success_rate"] == summary["eval_success_rate"]
    agents = [agent["mean"] for agent in found["groups"]["agents"]["agents"]]
    assert sum(agents) / 3 == pytest.approx(found["return"]["mean"])
    assert found["return"]["low"] <= found["return"]["mean"] <= found["return"]["high"]
    assert found["frames"] == 256
    best = json.loads(printed(capsys, run_dir, "--episodes", 4, "--json", "--checkpoint", "best"))
    assert "checkpoints" in best["policy"]
    assert best["return"]["mean"] >= found["return"]["mean"]


def test_noise_and_seeds_change_the_episodes_and_can_be_repeated(run_dir, capsys):
    plain, noisy, again, other = (
        printed(capsys, run_dir, "--episodes", 3, "--json", *more)
        for more in ((), ("--stochastic",), ("--stochastic",), ("--seed", 5))
    )
    assert noisy == again
    assert len({plain, noisy, other}) == 3


@pytest.mark.slow
def test_groups_and_lives_are_told_apart(tmp_path, capsys):
    task = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None, num_envs=8)
    made = tiny()
    with Trainer(type(made)(**{**vars(made), "task": task}), tmp_path, console=QUIET) as trainer:
        trainer.run()
    lines = printed(capsys, tmp_path, "--episodes", 2).splitlines()
    assert lines[0].endswith("2 episodes, no noise, seed 1000000")
    starts = [re.split(r"\s{2,}-?\d", line.strip())[0] for line in lines[2:]]
    assert starts == ["return per agent", "a 0", "a 1", "a 2", "steps alive, a", "episode length"]
    assert " 4.000 " in lines[6]  # one dies at step 2, two at step 5


def test_a_shared_policy_acts_for_more_agents(run_dir, capsys):
    more = json.loads(printed(capsys, run_dir, "task.kwargs.n_agents=5", "--episodes", 3, "--json", "task.horizon=4"))
    assert len(more["groups"]["agents"]["agents"]) == 5
    assert more["episode_length"]["mean"] <= 4
    assert more["overrides"] == ["task.kwargs.n_agents=5", "task.horizon=4"]
    assert "vmas/navigation task.kwargs.n_agents=4, masac, " in printed(
        capsys, run_dir, "task.kwargs.n_agents=4", "--episodes", 1
    )


def test_one_episode_has_no_interval(run_dir, capsys):
    first, head, *rows = printed(capsys, run_dir, "--episodes", 1).splitlines()
    assert "1 episode, no noise" in first
    assert head.split()[:3] == ["mean", "std", "95%"]
    assert all(re.fullmatch(r".*\S +-?\d+\.\d{3} +- +-", row.rstrip()) for row in rows[:5])
    found = json.loads(printed(capsys, run_dir, "--episodes", 1, "--json"))
    assert (found["return"]["std"], found["return"]["low"], found["return"]["high"]) == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' is not a folder"),
        (["RUN", "--episodes", "0"], "--episodes must be at least 1; got 0"),
        (["RUN", "--seed", "-1"], "--seed must be at least 0"),
        (["RUN", "evaluation.seed=1"], "only the task can be changed here"),
        (["RUN", "task.horizon=1,2"], "an override must set a key to one value here"),
        (["RUN", "task.horizont=1"], "task.horizont is not a config key. Did you mean task.horizon"),
        (["RUN", "task=vmas/balance"], "parameter actor mlp.hidden.0.weight: expected [16, 16], found [18, 16]"),
        (["RUN", "--checkpoint", "nope.pt"], "checkpoint must be last, best or a path; there is no file 'nope.pt'"),
        (["RUN", "--checkpoint", "RUN/metrics.csv"], "must be a policy that masac wrote; it is damaged"),
    ],
)
def test_a_mistake_gets_one_line(run_dir, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_code:
        main(["evaluate", *(word.replace("RUN", str(run_dir)) for word in arguments)])
    assert exit_code.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("masac evaluate: error: ")
    assert message in error
    assert error.count("\n") == 1
