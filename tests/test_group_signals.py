"""Which agents begin anew after a step, by hand."""

import torch
from tensordict import TensorDict

from masac.group_signals import begins_next

STAYS, DIES, TRUNCATED, DEAD = range(4)
"""What happens to an agent in a step; a dead agent's flags stay set, as in PettingZoo."""


def begins(agents, *, over=False, group_flags=True, root_flags=True):
    """Which agents begin anew after a step in which this happened to them, and the episode was over or not."""
    what = torch.tensor([agents])
    data = TensorDict({"next": TensorDict({"agents": TensorDict({}, [1, len(agents)])}, [1])}, [1])
    if group_flags:
        data["next", "agents", "terminated"] = ((what == DIES) | (what == DEAD)).unsqueeze(-1)
        data["next", "agents", "truncated"] = (what == TRUNCATED).unsqueeze(-1)
    if root_flags:
        data["next", "done"] = torch.tensor([[over]])
    return begins_next(data, "agents", (what != DEAD).unsqueeze(-1)).squeeze(-1).tolist()[0]


def test_an_agent_begins_anew_where_it_ended_and_its_teammates_go_on():
    assert begins([STAYS, DIES, STAYS]) == [False, True, False]
    assert begins([TRUNCATED, STAYS, STAYS]) == [True, False, False]


def test_an_agent_that_did_not_act_begins_anew_should_it_act_next():
    assert begins([STAYS, DEAD]) == [False, True]
    assert begins([STAYS, DEAD], group_flags=False) == [False, True]  # or was not there yet


def test_all_begin_anew_with_an_episode():
    assert begins([STAYS, STAYS], over=True) == [True, True]
    assert begins([STAYS, STAYS], over=True, group_flags=False) == [True, True]
    assert begins([STAYS, DIES], root_flags=False) == [False, True]
