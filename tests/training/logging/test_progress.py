"""The line that a run shows."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from masac.training.config import LoggingConfig
from masac.training.logging import progress
from masac.training.logging.progress import ProgressDisplay, fitting

TIMES = {"time/collect_s": 9.5, "time/sample_s": 0.1, "time/update_s": 0.4}
ROW = {
    "frames": 60_000,
    "updates": 10,
    "agents/train/return_mean": 0.5,
    "agents/loss/actor": -0.25,
    "agents/loss/qvalue": 0.125,
    "agents/alpha": 0.02,
    **TIMES,
}
EVALUATION = {
    "agents/eval/return_mean": 0.875,
    "eval/success_rate": 0.91,
    "eval/success_low": 0.838,
    "eval/success_high": 0.952,
}


@pytest.fixture
def clock(monkeypatch):
    """Time stands still until it is told to pass."""
    time = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: time.now))
    return time


def display(kind, *, groups=("agents",), terminal=False, width=80, done_frames=0):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, markup=False)
    made = ProgressDisplay(
        LoggingConfig(progress=kind), done_frames=done_frames, total_frames=100_000, groups=groups, console=console
    )
    made.live.auto_refresh = False
    return made


def lines(made):
    return made.console.file.getvalue().splitlines()


def test_what_is_wanted_first_comes_first_and_losses_last(clock):
    with display("plain") as made:
        clock.now = 30.0
        made.show(ROW, evaluation=EVALUATION)
    assert lines(made)[0] == (
        "60%  0:00:20 left  eval 0.875  success 91% [84%, 95%]  train 0.5  60,000 frames  2,000/s  "
        "actor -0.25  critic 0.125  alpha 0.02"
    )


def test_a_narrow_live_line_is_cut_after_a_whole_number(clock):
    with display("live", terminal=True) as made:
        clock.now = 30.0
        made.show(ROW, evaluation=EVALUATION)
        made.live.refresh()
        [task] = made.live.tasks
        assert task.fields["text"] == "eval 0.875  success 91% [84%, 95%]  train 0.5"
        [line] = made.console.render_lines(made.live.get_renderable())
        shown = "".join(segment.text for segment in line)
    assert shown.split()[1:3] == ["60%", "--:--"]  # the time left is known after a second look at the clock
    assert len(shown.rstrip()) <= 80
    with display("live", terminal=True, width=160) as made:
        made.show(ROW, evaluation=EVALUATION)
        assert made.live.tasks[0].fields["text"].endswith("alpha 0.02")


def test_every_group_has_its_returns_and_none_its_losses(clock):
    row = {"frames": 0, "wolf/train/return_mean": 1.0, "prey/train/return_mean": 2.0, "wolf/alpha": 0.1}
    with display("plain", groups=("wolf", "prey")) as made:
        clock.now = 6.0
        made.show(row, evaluation={"wolf/eval/return_mean": 3.0, "prey/eval/return_mean": -4.0})
    parts = "wolf eval 3  prey eval -4  wolf train 1  prey train 2  0 frames  0/s"
    assert lines(made) == [f"0%  ? left  {parts}"]


def test_slow_collecting_is_reported_once(clock):
    with display("plain", done_frames=59_000) as made:
        for updates in range(1, 6):
            made.show({**ROW, "updates": updates}, evaluation={})
    [said] = lines(made)
    assert said.startswith("collecting takes 95% of the time: more updates (training.updates_per_")


@pytest.mark.parametrize("times", [{"time/update_s": 5.0}, {"time/update_s": 0.0, "updates": 0}])
def test_a_learning_run_gets_no_advice(clock, times):
    with display("plain") as made:
        for updates in range(1, 6):
            made.show({**ROW, "updates": updates, **times}, evaluation={})
    assert lines(made) == []


def test_the_first_part_of_a_line_is_never_cut():
    assert fitting(["a long one", "b"], 4) == "a long one"
    assert fitting(["ab", "cd", "e"], 6) == "ab  cd"
    assert fitting(["ab", "cd", "e"], None) == "ab  cd  e"
