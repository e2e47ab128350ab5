"""Runs that stop, by will or by force, and go on."""

import json
import math
import os
import resource
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from rich.console import Console

from masac.algorithm import AlgorithmConfig
from masac.envs.config import TaskConfig
from masac.errors import ConfigError, RunFailedError
from masac.files.integrity import DamagedError, digest_of
from masac.training.checkpointing.checkpoints import Checkpoints, best_of, found_in, newest_of, read_checkpoint
from masac.training.checkpointing.run_files import RunFiles
from masac.training.config import CheckpointConfig, read_config
from masac.training.policies.saved_policy import load_policy
from masac.training.schedule import Schedule
from masac.training.trainer import Trainer
from tests.training.common import QUIET, rows, tiny, untimed

SCRIPTED = TaskConfig(suite="pettingzoo", scenario="tests.envs.scripted", horizon=None, num_envs=8)


def config(every_frames=0, **kwargs):
    """A run with checkpoints at 64, 128, 192 and 256 frames, and an evaluation at the end."""
    kwargs.setdefault("algorithm", AlgorithmConfig(skip_done_states="drop"))  # tracing takes longer than such a run
    training = {"checkpoint_every": "64", "normalize_observations": True, **kwargs.pop("training", {})}
    checkpoint = {"reset_environments": True, "keep": 100, **kwargs.pop("checkpoint", {})}
    made = tiny(training=training, checkpoint=CheckpointConfig(**checkpoint), **kwargs)
    return replace(made, evaluation=replace(made.evaluation, every_frames=every_frames))


def train(config, path, *, resumes=False, until=None, console=QUIET):
    """Train; as if killed at ``until`` frames, after that iteration."""
    with Trainer(config, path, console=console, resumes=resumes) as trainer:
        observe = trainer._observe

        class Killed(BaseException):
            pass

        def kill(collected):
            if trainer.frames == until:
                raise Killed
            observe(collected)

        trainer._observe = kill
        with suppress(Killed):
            trainer.run()
        return trainer


def learned(trainer):
    """All that was learned, and the random numbers to come."""
    from masac.training.checkpointing.run_state import state_of

    return state_of(trainer.learner, trainer.policy, trainer.rewards, trainer.episodes)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        {"algorithm": AlgorithmConfig(), "training": {"priority_exponent": 0.6}},  # updates on a graph
        {"training": {"buffer_size": 100, "priority_exponent": 0.6}},  # the oldest rows have given way
        {"training": {"n_step": 3}},
        {"model": {"memory": "gru"}, "training": {"sequence_length": 3, "burn_in": 1}},
        {"task": {"scenario": "simple_tag", "kwargs": {}, "success": None, "continuous_actions": False}},
        {"algorithm": AlgorithmConfig(critic="team", terminated_reduction="all", reward_reduction="mean")},
    ],
)
def test_a_resumed_run_is_to_the_bit_the_one_that_did_not_stop(tmp_path, kind):
    straight = train(config(**kind), tmp_path / "straight")
    train(config(**kind), tmp_path / "stopped", until=224)  # the last checkpoint is at 192
    resumed = train(config(**kind), tmp_path / "stopped", resumes=True)
    assert resumed.resumed_from.frames == 192
    assert_same(learned(resumed), learned(straight))
    assert resumed.replay.written == straight.replay.written
    newest = straight.replay.written - 56, straight.replay.written
    for key, value in straight.replay.rows(*newest).items(True, True):
        torch.testing.assert_close(resumed.replay.rows(*newest)[key], value, rtol=0, atol=0, equal_nan=True)
    assert untimed(rows(tmp_path / "stopped")) == untimed(rows(tmp_path / "straight"))


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_a_resumed_pettingzoo_run_equals_an_unbroken_one(tmp_path, memory):
    kind = {**vars(config(model={"memory": memory}, training={"sequence_length": 4})), "task": SCRIPTED}
    same = type(config())(**kind)
    straight = train(same, tmp_path / "straight")
    train(same, tmp_path / "stopped", until=160)
    assert_same(learned(train(same, tmp_path / "stopped", resumes=True)), learned(straight))


def test_without_resets_a_resumed_run_goes_on_with_all_it_had(tmp_path):
    plain = config(checkpoint={"reset_environments": False})
    train(plain, tmp_path, until=224)
    resumed = Trainer(plain, tmp_path, console=QUIET, resumes=True)
    assert (resumed.frames, resumed.learner.updates, len(resumed.replay)) == (192, 16, 192)
    resumed.run()
    frames = [int(row["frames"]) for row in rows(tmp_path)]
    assert frames == list(range(32, 257, 32))
    times = [float(row["wall_time_s"]) for row in rows(tmp_path)]
    assert times == sorted(times)


def test_signals_wait_until_the_first_update_is_applied(tmp_path, monkeypatch):
    step = torch.optim.Adam.step

    def asked_twice(*arguments, **keywords):
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments, **keywords)

    monkeypatch.setattr(torch.optim.Adam, "step", asked_twice)
    trainer = train(config(), tmp_path)
    assert trainer.stopped_by == signal.SIGTERM
    assert trainer.learner.updates == 1
    assert newest_of(tmp_path).updates == 1


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_summary_gets_it(tmp_path):
    train(config(), tmp_path)
    expected = json.loads((tmp_path / "summary.json").read_text())
    before = (tmp_path / "metrics.csv").read_text()
    for name in ("summary.json", "policy.pt", "learning_curve.png"):
        (tmp_path / name).unlink()
    train(config(), tmp_path, resumes=True)
    found = json.loads((tmp_path / "summary.json").read_text())
    for name in ("eval_return_mean", "frames", "updates", "groups"):
        assert found[name] == expected[name]
    assert (tmp_path / "metrics.csv").read_text() == before
    assert {"policy.pt", "learning_curve.png"} <= {file.name for file in tmp_path.iterdir()}


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_again(tmp_path):
    late = config(training={"checkpoint_every": None})
    train(late, tmp_path, until=64)
    assert found_in(tmp_path / "checkpoints") == []
    trainer = train(late, tmp_path, resumes=True)
    assert trainer.resumed_from is None
    assert [int(row["frames"]) for row in rows(tmp_path)] == list(range(32, 257, 32))


def test_metrics_without_a_checkpoint_survive_a_new_run(tmp_path):
    files, said = RunFiles(tmp_path), []
    for updates in (8, 0, 9, 0):
        with files.open_metrics(["frames", "updates"], frames=0, warn=said.append) as table:
            table.write({"frames": 32, "updates": updates})
    kept = sorted(path.name for path in tmp_path.glob("metrics*"))
    assert kept == ["metrics-1.csv", "metrics-2.csv", "metrics.csv"]
    assert [(tmp_path / name).read_text().splitlines()[1:] for name in kept] == [["32,8"], ["32,9"], ["32,0"]]
    assert [line.rpartition(" ")[2] for line in said] == ["metrics-1.csv", "metrics-2.csv"]


@pytest.mark.parametrize(
    ("frames", "refilled"),
    [(512, 64), (544, 64), (928, 64), (960, 32), (992, 0)],  # a warm-up is 64 of 1024 frames, an iteration 32
)
def test_a_refilled_buffer_postpones_updates(frames, refilled):
    schedule = Schedule(config(training={"total_frames": 1024}))
    taken = 56  # those of 512 frames; from there on the run was interrupted again and again
    schedule.fill_buffer_first(frames, taken)
    assert schedule.refill_frames == refilled
    due = [schedule.updates_due(frames + more, taken) for more in (refilled - 32, refilled, refilled + 32)]
    assert due[-2:] == [0, 4]
    assert due[0] <= 0
    assert frames + refilled < schedule.total_frames


@pytest.mark.slow
def test_resuming_without_a_buffer_refills_it_with_the_policy(tmp_path):
    lean = config(checkpoint={"buffer": False})
    train(lean, tmp_path, until=224)
    assert not (tmp_path / "checkpoints" / "buffer").exists()
    resumed = Trainer(lean, tmp_path, console=QUIET, resumes=True)
    assert (resumed.frames, len(resumed.replay)) == (192, 0)
    assert resumed.schedule.refill_frames == 32  # a warm-up is 64, 64 are left
    assert not resumed.policy.random_groups
    resumed.run()
    assert [int(row["updates"]) for row in rows(tmp_path)[-3:]] == [16, 16, 20]


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "state.pt",
        *("checkpoint.json", "policy.pt", "segment", "missing", "foreign"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_skipped(tmp_path, file):
    train(config(), tmp_path, until=224)
    newest = newest_of(tmp_path)
    assert newest is not None
    if file == "segment":
        flip(sorted((tmp_path / "checkpoints" / "buffer").iterdir())[-1])
    elif file == "missing":
        (newest.folder / "state.pt").unlink()
    elif file == "foreign":
        other = replace(config(), seed=5)
        train(other, tmp_path / "other", until=224)
        shutil.rmtree(newest.folder)
        shutil.copytree(tmp_path / "other" / "checkpoints" / newest.folder.name, newest.folder)
    else:
        flip(newest.folder / file)
    console = Console(record=True, width=500)
    resumed = train(config(), tmp_path, resumes=True, console=console)
    assert resumed.resumed_from.frames == 128
    said = console.export_text()
    assert f"warning: the checkpoint {newest.folder} cannot be used" in said
    assert ("belongs to another run: seed" in said) == (file == "foreign")
    assert_same(learned(resumed), learned(train(config(), tmp_path / "straight")))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_where_all_are_damaged_nothing_is_begun_anew(tmp_path):
    train(config(), tmp_path, until=224)
    for folder in found_in(tmp_path / "checkpoints"):
        (folder / "checkpoint.json").write_text("{}")
    before = (tmp_path / "metrics.csv").read_text()
    with pytest.raises(ConfigError, match="must have a complete checkpoint to be resumed"):
        Trainer(config(), tmp_path, console=QUIET, resumes=True)
    assert (tmp_path / "metrics.csv").read_text() == before


@pytest.mark.slow
def test_where_all_buffers_are_damaged_the_newest_checkpoint_is_used_without(tmp_path):
    train(config(), tmp_path, until=224)
    newest = newest_of(tmp_path)
    for segment in (tmp_path / "checkpoints" / "buffer").iterdir():
        flip(segment)
    console = Console(record=True, width=500)
    resumed = Trainer(config(), tmp_path, console=console, resumes=True)
    assert (resumed.frames, len(resumed.replay), resumed.schedule.refill_frames) == (192, 0, 32)
    assert f"the checkpoint {newest.folder} is used without its replay buffer" in console.export_text()
    assert resumed.run().summary["updates"] == 20
    assert train(config(), tmp_path, resumes=True).resumed_from.has_buffers_of(1)


def test_a_checkpoint_with_code_is_refused_unexecuted(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    train(config(), tmp_path, until=224)
    newest = newest_of(tmp_path)
    assert newest is not None
    torch.save({"a": Evil()}, newest.folder / "state.pt")
    from masac.files.integrity import read_tensors

    with pytest.raises(DamagedError):
        read_tensors(newest.folder / "state.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_newest_and_best_checkpoints_are_kept(tmp_path):
    small = config(100, checkpoint={"keep": 2}, training={"buffer_size": 64, "checkpoint_every": "32"})
    with Trainer(small, tmp_path, console=QUIET) as trainer:
        returns = iter([5.0, 1.0, 2.0])
        evaluate = trainer._evaluation
        trainer._evaluation = lambda: {**evaluate(), "eval/return_mean": next(returns)}
        trainer.run()
    kept = [read_checkpoint(folder) for folder in found_in(tmp_path / "checkpoints")]
    assert [one.frames for one in kept] == [256, 224, 128]  # evaluated at 128, 224 and 256
    assert best_of(tmp_path).frames == 128
    files = {path.name for path in (tmp_path / "checkpoints" / "buffer").iterdir()}
    assert files == {segment.file for one in kept for segment in one.segments or ()}
    assert min(segment.first for segment in kept[0].segments or ()) == 192
    best, last = (load_policy(tmp_path, checkpoint=which) for which in ("best", "last"))
    assert not all(torch.equal(a, b) for a, b in zip(best.parameters(), last.parameters(), strict=True))


@pytest.mark.slow
def test_an_evaluation_that_is_not_a_number_is_never_the_best(tmp_path):
    with Trainer(
        config(32, checkpoint={"keep": 1}, training={"checkpoint_every": "32"}), tmp_path, console=QUIET
    ) as it:
        returns = iter([5.0, 1.0, math.nan, 2.0, math.nan, 3.0, 4.0, math.nan])
        evaluate = it._evaluation
        it._evaluation = lambda: {**evaluate(), "eval/return_mean": next(returns)}
        it.run()
    assert [read_checkpoint(folder).frames for folder in found_in(tmp_path / "checkpoints")] == [256, 32]
    assert best_of(tmp_path).frames == 32
    assert Trainer(config(checkpoint={"keep": 1}), tmp_path, console=QUIET, resumes=True).checkpoints.best_return == 5.0


@pytest.mark.slow
def test_what_killed_processes_left_is_deleted(tmp_path):
    train(config(), tmp_path, until=96)
    for name in (".frames-000000000063.tmp", ".frames-000000000032.deleted", ".damaged-frames-000000000031.deleted"):
        left = tmp_path / "checkpoints" / name
        left.mkdir()
        (left / "state.pt").write_bytes(b"half of it")
    (tmp_path / "checkpoints" / "buffer" / ".rows-000000000064-000000000096.pt.tmp").write_bytes(b"half of it")
    train(config(), tmp_path, resumes=True)
    assert not [path for path in (tmp_path / "checkpoints").rglob("*") if path.name.startswith(".")]


def test_a_finished_run_without_checkpoints_does_not_restart(tmp_path):
    train(config(), tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    before = (tmp_path / "metrics.csv").read_text()
    with pytest.raises(ConfigError, match="a run must have checkpoints to be resumed"):
        Trainer(config(), tmp_path, console=QUIET, resumes=True)
    assert (tmp_path / "metrics.csv").read_text() == before


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_a_damaged_one(tmp_path, monkeypatch):
    train(config(), tmp_path, until=224)

    def broken(path):
        if "192" in str(path):
            raise OSError(5, "Input/output error")
        return digest_of(path)

    monkeypatch.setattr("masac.files.integrity.digest_of", broken)
    assert train(config(), tmp_path, resumes=True).resumed_from.frames == 128


@pytest.mark.slow
def test_a_big_buffer_is_written_and_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("masac.training.checkpointing.replay_files.SEGMENT_BYTES", 10_000)
    kind = {"training": {"buffer_size": 100}}
    straight = train(config(**kind), tmp_path / "straight")
    train(config(**kind), tmp_path / "stopped", until=224)
    assert len(newest_of(tmp_path / "stopped").segments) > 4
    assert_same(learned(train(config(**kind), tmp_path / "stopped", resumes=True)), learned(straight))


@pytest.mark.slow
def test_checkpoints_are_written_now_and_then(tmp_path):
    train(config(training={"checkpoint_every": "100"}, checkpoint={"keep": 9}), tmp_path / "frames")
    frames = {read_checkpoint(one).frames for one in found_in(tmp_path / "frames" / "checkpoints")}
    assert {128, 256} <= frames
    train(config(training={"checkpoint_every": "0.000001min"}), tmp_path / "minutes")
    assert len(found_in(tmp_path / "minutes" / "checkpoints")) == 8


def test_after_an_interrupt_a_run_goes_on_where_it_stopped(tmp_path):
    trainer = Trainer(config(training={"checkpoint_every": None}), tmp_path, console=QUIET)
    observe = trainer._observe

    def interrupt(collected):
        observe(collected)
        if trainer.frames == 96:
            signal.raise_signal(signal.SIGTERM)

    trainer._observe = interrupt
    assert trainer.run().summary["interrupted"] is True
    assert newest_of(tmp_path).frames == 96
    assert Trainer(config(training={"checkpoint_every": None}), tmp_path, console=QUIET, resumes=True).frames == 96


def stopped(config, path, *, at):
    """A run that a signal stops at ``at`` frames, before its updates; returns its summary."""
    with Trainer(config, path, console=QUIET) as trainer:
        observe = trainer._observe

        def interrupt(collected):
            observe(collected)
            if trainer.frames == at:
                signal.raise_signal(signal.SIGINT)

        trainer._observe = interrupt
        return trainer.run().summary


def evaluated(path):
    return [int(row["frames"]) for row in rows(path) if row["eval/return_mean"]]


@pytest.mark.slow
def test_an_evaluation_that_a_signal_cuts_comes_after_the_run_is_resumed(tmp_path):
    made = config(every_frames=100)
    stopped(made, tmp_path / "within", at=128)
    assert evaluated(tmp_path / "within") == []
    train(made, tmp_path / "within", resumes=True)
    assert evaluated(tmp_path / "within") == [160, 224, 256]
    stopped(made, tmp_path / "end", at=256)
    assert evaluated(tmp_path / "end") == [128, 224]
    summary = train(made, tmp_path / "end", resumes=True).run().summary
    assert evaluated(tmp_path / "end") == [128, 224, 256]
    assert float(rows(tmp_path / "end")[-1]["eval/return_mean"]) == pytest.approx(summary["eval_return_mean"], rel=1e-5)
    assert [int(row["frames"]) for row in rows(tmp_path / "end")] == list(range(32, 257, 32))


@pytest.mark.slow
def test_a_resumed_run_that_stops_before_its_next_evaluation_keeps_the_last_one(tmp_path):
    made = config(every_frames=100)
    first = stopped(made, tmp_path, at=160)
    assert first["eval_frames"] == 128
    with Trainer(made, tmp_path, console=QUIET, resumes=True) as trainer:
        trainer._rollouts = lambda: iter(())
        second = trainer.run().summary
    assert second["eval_frames"] == 128
    assert second["eval_return_mean"] == pytest.approx(first["eval_return_mean"], rel=1e-5)
    assert second["groups"]["agents"].keys() == first["groups"]["agents"].keys()


def test_an_error_in_an_update_leaves_no_hole_in_the_metrics(tmp_path):
    with Trainer(config(), tmp_path, console=QUIET) as trainer:
        apply = trainer.learner.apply

        def fail(batch, results):
            if trainer.frames == 96:
                raise ZeroDivisionError("an optimizer's own mistake")
            return apply(batch, results)

        trainer.learner.apply = fail
        with pytest.raises(ZeroDivisionError):
            trainer.run()
    assert newest_of(tmp_path).frames == 96
    assert [int(row["frames"]) for row in rows(tmp_path)] == [32, 64, 96]
    assert (tmp_path / "policy.pt").exists()


@pytest.mark.slow
def test_a_run_that_stops_before_its_first_row_takes_no_burst_of_updates_on_few_rows(tmp_path):
    many = {"n_step": 16, "steps_per_iteration": 1, "warmup_frames": 0, "updates_per_frame": 0.5, "total_frames": 320}
    made = config(training={**many, "checkpoint_every": None}, checkpoint={"reset_environments": False})
    assert stopped(made, tmp_path, at=112)["updates"] == 0
    train(made, tmp_path, resumes=True)
    updates = [int(row["updates"]) for row in rows(tmp_path)]
    assert updates[-1] > 0
    assert max(after - before for before, after in pairwise(updates)) == 4


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_last_checkpoint_is_whole(tmp_path):
    with Trainer(config(), tmp_path, console=QUIET) as trainer:
        checkpoint = trainer._checkpoint
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill_the_disk(evaluation):
            if trainer.frames >= 128:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
            checkpoint(evaluation)

        trainer._checkpoint = fill_the_disk
        try:
            with pytest.raises(RunFailedError, match=r"the disk must have free space.*frames-000000000064.*--resume"):
                trainer.run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.name for one in found_in(tmp_path / "checkpoints")] == ["frames-000000000064"]
    assert train(config(), tmp_path, resumes=True).resumed_from.frames == 64


def poisoned(trainer, *, from_frame=96):
    observe = trainer._observe

    def poison(collected):
        observe(collected)
        if trainer.frames >= from_frame:
            collected["next", "agents", "reward"].fill_(math.nan)

    trainer._observe = poison
    return trainer


def test_a_non_finite_loss_ends_the_run_with_a_checkpoint(tmp_path):
    with poisoned(Trainer(config(), tmp_path, console=QUIET)) as trainer:
        with pytest.raises(
            RunFailedError, match=r"agents/loss/qvalue.*at update \d+ \(iteration 3, frame 96\)"
        ) as raised:
            trainer.run()
        assert "nonfinite_batch.pt, next/agents/reward are not finite" in str(raised.value)
        assert all(bool(p.isfinite().all()) for p in trainer.learner.loss.parameters())
    batch = torch.load(tmp_path / "nonfinite_batch.pt", weights_only=True)
    assert batch["next/agents/reward"].isnan().any()
    newest = newest_of(tmp_path)
    assert newest is not None
    assert newest.frames == 96
    assert [int(row["frames"]) for row in rows(tmp_path)] == [32, 64, 96]
    assert (tmp_path / "policy.pt").exists()


@pytest.mark.slow
def test_non_finite_updates_are_skipped_up_to_a_limit(tmp_path):
    skipping = {"on_nonfinite": "skip", "nonfinite_limit": 1000}
    with poisoned(Trainer(config(training=skipping), tmp_path / "a", console=QUIET)) as trainer:
        summary = trainer.run().summary
    assert summary["updates_skipped"] + summary["updates"] == 24
    assert summary["updates_skipped"] > 0
    assert rows(tmp_path / "a")[-1]["updates_skipped"] == str(summary["updates_skipped"])
    limited = config(training={**skipping, "nonfinite_limit": 3})
    with poisoned(Trainer(limited, tmp_path / "b", console=QUIET)) as trainer:
        with pytest.raises(RunFailedError, match="losses and gradients must be finite"):
            trainer.run()
        assert trainer.state.skipped_updates == 4


@pytest.mark.slow
def test_a_failing_environment_leaves_a_checkpoint(tmp_path):
    with Trainer(config(training={"checkpoint_every": None}), tmp_path, console=QUIET) as trainer:
        step = trainer.env._step

        def fail(data):
            if trainer.frames == 160:
                raise ZeroDivisionError("the environment's own mistake")
            return step(data)

        trainer.env._step = fail
        with pytest.raises(ZeroDivisionError):
            trainer.run()
    assert newest_of(tmp_path).frames == 160
    assert train(config(training={"checkpoint_every": None}), tmp_path, resumes=True).resumed_from.frames == 160


def test_a_config_survives_its_file(tmp_path):
    from masac.training.checkpointing.resume import read_run_config

    train(config(), tmp_path, until=64)
    written = replace(config(), run_dir=str(tmp_path))
    assert read_run_config(tmp_path) == written
    about = json.loads((found_in(tmp_path / "checkpoints")[0] / "checkpoint.json").read_text())
    assert read_config(about["checkpoint"]["config"]) == written


@pytest.mark.slow
def test_other_versions_of_packages_are_said(tmp_path, monkeypatch):
    train(config(), tmp_path, until=224)
    console = Console(record=True, width=500)
    monkeypatch.setattr("masac.training.checkpointing.resume.installed_versions", lambda: {"torch": "9.9"})
    train(config(), tmp_path, resumes=True, console=console)
    here = read_checkpoint(found_in(tmp_path / "checkpoints")[-1].parent / "frames-000000000064").versions["torch"]
    assert f"the checkpoint was written with torch {here}, this is torch 9.9" in console.export_text()


def test_bytes_on_disk_are_those_of_the_files(tmp_path):
    train(config(), tmp_path)
    checkpoints = Checkpoints(tmp_path, keep=1, with_buffer=True)
    expected = sum(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert checkpoints.bytes_on_disk() == expected > 0
