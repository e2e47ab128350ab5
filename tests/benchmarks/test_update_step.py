"""The contenders of benchmarks.update_step compute updates; .ci/run times one of them."""

import pytest

from benchmarks.interleaved_timing import masac_update
from benchmarks.update_step import CONTENDERS, example_batch


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_computes_an_update(name: str) -> None:
    make_loss, _ = CONTENDERS[name]
    masac_update(make_loss(False, True, "cpu"), example_batch(4), "eager")()
