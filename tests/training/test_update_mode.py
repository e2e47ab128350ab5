"""When a run compiles its update."""

import shutil

import pytest

from masac.errors import ConfigError
from masac.training.config import TrainingConfig
from masac.training.update_mode import MIN_GROUP_UPDATES, choose_mode
from tests.losses.common import noisy_loss, our_actor, our_critic


def choose(compile, *, updates=1_000_000, skip="fill", groups=1):
    loss = noisy_loss(our_actor(True), our_critic(True, "independent"), skip_done_states=skip)
    return choose_mode(TrainingConfig(compile=compile), [loss] * groups, updates=updates, device="cpu")


def test_auto_compiles_a_run_of_many_updates_and_prints_it():
    message = (
        f"compiling the update, as the run has {MIN_GROUP_UPDATES:,} of them (training.compile=false only traces it)"
    )
    assert choose("auto", updates=MIN_GROUP_UPDATES) == ("compile", message)
    assert choose("auto", updates=MIN_GROUP_UPDATES // 2, groups=2)[0] == "compile"


def test_auto_replays_a_trace_in_a_run_of_few_updates():
    assert choose("auto", updates=MIN_GROUP_UPDATES - 1) == ("graph", None)


def test_auto_replays_a_trace_where_there_is_no_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert choose("auto") == ("graph", None)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler; got true"):
        choose("true")


def test_false_never_compiles_and_true_compiles_the_shortest_run():
    assert choose("false") == ("graph", None)
    assert choose("true", updates=1) == ("compile", None)


def test_dropping_states_is_plain_python_and_cannot_be_compiled():
    assert choose("auto", skip="drop") == choose("false", skip="drop") == ("eager", None)
    with pytest.raises(ConfigError, match=r"algorithm\.skip_done_states=fill"):
        choose("true", skip="drop")


@pytest.mark.parametrize("value", ["yes", "1", "inductor"])
def test_other_values_are_an_error(value):
    with pytest.raises(ConfigError, match=r"training\.compile must be one of auto, true, false"):
        TrainingConfig(compile=value)
