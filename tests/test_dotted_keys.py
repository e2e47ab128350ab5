"""Configs by dotted keys."""

from masac.dotted_keys import flatten, nest

CONFIG = {
    "seed": 0,
    "task": {"num_envs": 8, "kwargs": {"n_agents": 3, "world": {"size": 2}}},
    "model": {"hidden": [64]},
}


def test_flatten_takes_apart_and_nest_puts_together():
    flat = flatten(CONFIG)
    assert flat == {
        "seed": 0,
        "task.num_envs": 8,
        "task.kwargs.n_agents": 3,
        "task.kwargs.world.size": 2,
        "model.hidden": [64],
    }
    assert nest(flat) == CONFIG


def test_a_mapping_may_stay_whole():
    assert flatten(CONFIG, whole=("task.kwargs",))["task.kwargs"] == CONFIG["task"]["kwargs"]
    assert flatten({"task": {"kwargs": {}}}, whole=("task.kwargs",)) == {"task.kwargs": {}}
