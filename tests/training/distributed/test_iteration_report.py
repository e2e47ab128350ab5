"""What the reports of several ranks come to."""

from dataclasses import replace

from masac.training.distributed.iteration_report import Report, sync_report
from masac.training.distributed.ranks import Rank
from masac.training.episodes import FinishedEpisode

QUIET = Report(stop=0, ended_by="", failed=False, checkpoint=False, rows=10)


def together(own, others):
    """What rank 1 of 3 gets, where the two other ones report the same."""

    class RankOfThree(Rank):
        def all_gather(self, value):
            return [others, value, others]

    return sync_report(own, RankOfThree(index=1, world_size=3))


def test_a_rank_alone_goes_on_with_its_own_report():
    assert sync_report(QUIET, Rank()) == replace(QUIET, finished=[])


def test_what_one_rank_reports_holds_for_all_and_rows_add_up():
    assert together(QUIET, QUIET) == replace(QUIET, rows=30, finished=[])
    assert together(QUIET, replace(QUIET, failed=True)).failed
    assert together(replace(QUIET, checkpoint=True), QUIET).checkpoint


def test_a_signal_to_one_rank_stops_all_of_them():
    found = together(QUIET, replace(QUIET, stop=15))
    assert (found.stop, found.checkpoint, found.failed) == (15, True, False)


def test_a_callback_of_one_rank_ends_all_of_them():
    found = together(QUIET, replace(QUIET, ended_by="solved"))
    assert (found.ended_by, found.stop, found.checkpoint) == ("solved", 0, True)


def test_attributes_of_environments_follow_the_first_rank_that_set_them():
    found = together(replace(QUIET, attributes={"own": 1}), replace(QUIET, attributes={"own": 2, "radius": 3}))
    assert found.attributes == {"radius": 3}


def test_finished_episodes_of_other_ranks_are_gathered():
    mine, theirs = (FinishedEpisode(returns={}, length=length) for length in (3, 4))
    found = together(replace(QUIET, finished=[mine]), replace(QUIET, finished=[theirs]))
    assert [one.length for one in found.finished] == [4, 4]
