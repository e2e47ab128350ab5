"""When a run compiles its update."""

import shutil

import pytest

from masac.errors import ConfigError
from masac.training.compiling import choose_mode, seconds_saved
from masac.training.config import TrainingConfig
from tests.losses.common import N, noisy_loss, our_actor, our_critic


def choose(compile, *, updates=1_000_000, skip="fill"):
    loss = noisy_loss(our_actor(True), our_critic(True, "independent"), skip_done_states=skip)
    return choose_mode(TrainingConfig(compile=compile), [loss], updates=updates, device="cpu")


def test_auto_compiles_a_long_run_and_says_what_it_takes_and_saves():
    mode, said = choose("auto")
    assert mode == "compile"
    assert said is not None
    assert "an estimated 8 s once, to save" in said
    assert "of 1,000,000 updates" in said


def test_auto_replays_a_trace_where_the_time_would_not_be_won_back():
    assert choose("auto", updates=1_000) == ("graph", None)


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


def test_the_estimate_counts_every_use_of_a_weight():
    loss = noisy_loss(our_actor(True), our_critic(True, "independent"), num_qvalue_nets=2)
    # actor 4 -> 16 -> 4: 4*16 + 16 + 16*4 + 4 = 148; a critic 6 -> 16 -> 1: 6*16 + 16 + 16 + 1 = 129, twice
    assert sum(p.numel() for p in loss.actor_network_params.parameters()) == 148
    operations = 2 * (4 * 148 + 6 * 258) * 10 * N
    assert seconds_saved([loss], 10) == pytest.approx(2e-3 + 0.15 * operations / 1e11)


@pytest.mark.parametrize("value", ["yes", "1", "inductor"])
def test_other_values_are_an_error(value):
    with pytest.raises(ConfigError, match=r"training\.compile must be auto, true or false"):
        TrainingConfig(compile=value)
