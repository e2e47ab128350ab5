"""Evaluations in other tasks than that of the run."""

from dataclasses import replace

import pytest

from masac.algorithm import AlgorithmConfig
from masac.cli.experiment import changed
from masac.errors import ConfigError
from masac.training.checkpointing.resume import by_key, contradictions
from masac.training.evaluator import Evaluator
from masac.training.other_tasks import changed_task
from masac.training.policies.saved_policy import find_policy, read_policy
from masac.training.trainer import Trainer
from tests.training.common import QUIET, rows, run, tiny, untimed

LONGER = "task.kwargs.n_agents=5 task.horizon=12"


def with_others(others, **options):
    config = tiny(**{"algorithm": AlgorithmConfig(skip_done_states="drop"), **options})
    return replace(config, evaluation=replace(config.evaluation, others=others))


@pytest.mark.slow
def test_other_tasks_have_their_numbers_beside_a_run_that_is_the_same_without(tmp_path):
    config = with_others({"five": LONGER}, training={"total_frames": 128})
    summary = run(config, tmp_path / "with")
    alone = run(with_others({}, training={"total_frames": 128}), tmp_path / "alone")
    table, without = (untimed(rows(tmp_path / name)) for name in ("with", "alone"))
    new = [column for column in table[0] if column not in without[0]]
    assert new == [
        *(f"eval/five/{name}" for name in ("return_mean", "return_std", "episode_length_mean")),
        *(f"eval/five/{name}" for name in ("success_rate", "success_low", "success_high")),
        *(f"agents/eval/five/{name}" for name in ("return_mean", "return_std", "life_mean")),
    ]
    assert [{name: value for name, value in row.items() if name not in new} for row in table] == without
    assert [bool(row["eval/five/return_mean"]) for row in table] == [bool(row["eval/return_mean"]) for row in table]
    assert table[-1]["eval/five/episode_length_mean"] == "12"
    others = summary.pop("others")
    assert summary.keys() == alone.keys()

    # What masac evaluate prints for task.kwargs.n_agents=5 task.horizon=12.
    task = changed_task(config, {"task.kwargs.n_agents": 5, "task.horizon": 12})
    saved = read_policy(find_policy(tmp_path / "with"), task=task)
    found = Evaluator(saved.config, device="cpu").evaluate(saved.policy)
    assert others["five"]["return_mean"] == found.episode_returns(["agents"]).mean().item()  # pyright: ignore[reportIndexIssue]

    # A resumed run may change them.
    longer = with_others({"two": "task.kwargs.n_agents=2"}, training={"total_frames": 160})
    assert contradictions(by_key(longer), by_key(config)) == {}
    Trainer(longer, tmp_path / "with", console=QUIET, resumes=True).run()
    last = rows(tmp_path / "with")[-1]
    assert (last["eval/five/return_mean"], bool(last["eval/two/return_mean"])) == ("", True)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("task.kwargs.n_agents=5", {"share_actor": False}, r"expected \[5, .*found \[3, .*has 5 agents"),
        ("task.scenario=balance", {}, "group 'agents', parameter actor .*expected"),
        ("task.continuous_actions=false", {}, r"group 'agents' has categorical \[9\] actions, the policy continuous"),
        ("task.horizn=5", {}, "horizn"),
        ("training.batch_size=5", {}, "only the task can be changed here"),
        ("task=vmas/balance", {}, "write the keys of the task that differ"),
        ("five", {}, "an override must be task.KEY=VALUE; got 'five'"),
    ],
)
def test_a_task_that_does_not_fit_gets_one_line_before_training(tmp_path, text, options, message):
    config = with_others({"five": text}, algorithm=AlgorithmConfig(**options))
    with pytest.raises(ConfigError, match=message) as raised:
        Trainer(config, tmp_path, console=QUIET)
    assert str(raised.value).startswith("evaluation.others.five must be a task in which the policy can act; got ")
    assert "\n" not in str(raised.value)


def test_every_column_has_a_number(tmp_path):
    with Trainer(with_others({"five": LONGER, "two": "task.kwargs.n_agents=2"}), tmp_path, console=QUIET) as trainer:
        others = trainer.parts.others
        assert others is not None
        numbers = others.evaluate(trainer.policy)
        assert list(numbers) == others.columns == trainer.log.columns[-len(numbers) :]
        assert numbers["eval/five/episode_length_mean"] == 12
        assert None not in numbers.values()


def test_names_are_parts_of_columns():
    with pytest.raises(ConfigError, match=r"evaluation\.others must have names of letters.*got 'a/b'"):
        with_others({"a/b": LONGER})


def test_a_resumed_run_may_end_them():
    config = replace(with_others({"five": LONGER}), run_dir="runs/mine")
    assert changed(config, ["evaluation.others={}"]).evaluation.others == {}
    with pytest.raises(ConfigError, match=r"task\.kwargs\.\w+ must not change"):
        changed(config, ["task.kwargs={}"])
