"""The benchmark of memories: observations that fail, and its table."""

from benchmarks.memory_learning import memory_rows
from masac.envs.config import TaskConfig
from masac.envs.registry import make_env


def test_half_of_the_observations_are_zeros_for_each_agent_alone():
    task = TaskConfig(scenario="benchmarks.memory_learning:FlickeringNavigation", kwargs={"n_agents": 2}, horizon=50)
    env = make_env(task, num_envs=32, seed=0)
    failed = (env.rollout(20)["agents", "observation"] == 0).all(-1)
    env.close()
    assert abs(failed.float().mean() - 0.5) < 0.05
    assert (failed[..., 0] != failed[..., 1]).any()


def test_the_table_has_means_over_seeds_and_leaves_out_what_did_not_run():
    runs = [
        {"system": "half of them", "success": success, "return": returned, "seconds": seconds}
        for success, returned, seconds in ((0.5, 0.1, 60.0), (0.7, 0.3, 180.0), (0.6, 0.2, 120.0))
    ]
    # Student's t of three: 4.303 standard deviations over the root of three, 24.8 and 0.25.
    assert memory_rows(runs) == [("half of them", "60% [35, 85]", "0.20 [-0.05, 0.45]", 3, "2.0")]
