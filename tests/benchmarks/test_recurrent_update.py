"""Both contenders of benchmarks.recurrent_update compute updates."""

from benchmarks.interleaved_timing import masac_update, torchrl_update
from benchmarks.recurrent_update import example_sequences, masac_loss, torchrl_loss


def test_every_contender_computes_an_update() -> None:
    data = example_sequences(2, 4)
    masac_update(masac_loss("cpu"), data, "eager")()
    torchrl_update(torchrl_loss("cpu"), data)()
