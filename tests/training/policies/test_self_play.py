"""Past snapshots of a group act in part of the episodes."""

import csv
from dataclasses import replace

import pytest
import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from masac.errors import ConfigError
from masac.images import ImageSpec
from masac.training.collectors.config import CollectorConfig
from masac.training.config import ExperimentConfig, TrainingConfig
from masac.training.evaluator import Evaluation
from masac.training.policies.saved_policy import make_policy
from masac.training.policies.self_play import facing, pools, set_state_of_pools, snapshots_met, state_of_pools
from masac.training.self_play_table import SelfPlayTable
from masac.training.trainer import Trainer
from tests.training.common import QUIET, tiny
from tests.training.policies.opponents import TUG, policy_of, state


def with_snapshots(size=10, newest=0.0, count=3, **opponents):
    """A policy whose red pulls 0.1, 0.2 ... in its snapshots, and -0.9 now."""
    policy, _, groups = policy_of(TUG, self_play_pool=size, self_play_newest=newest, opponents=opponents)
    (pool,) = pools(policy).values()
    output = policy.actors["red"].module[0].module.mlp.output
    with torch.no_grad():
        output.weight.zero_()
        for number in range(1, count + 1):
            output.bias.copy_(torch.tensor([[torch.atanh(torch.tensor(0.1 * number)), -9.0]]))
            pool.add(10 * number)
        output.bias.copy_(torch.tensor([[torch.atanh(torch.tensor(-0.9)), -9.0]]))
    return policy, pool, groups


def pulls(policy, groups, group, batch=5):
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy(state(groups, batch))[group, "action"][:, 0, 0]


def begin(policy, *which):
    policy.begin_episodes(torch.tensor(which))


def test_a_snapshot_acts_to_the_end_of_the_episode():
    policy, _, groups = with_snapshots(blue="self-play:red")
    assert torch.allclose(pulls(policy, groups, "blue", 300), torch.tensor(-0.9))  # in other environments the newest
    begin(policy, *[True] * 300)
    first = pulls(policy, groups, "blue", 300)
    assert {round(value, 3) for value in first.tolist()} == {0.1, 0.2, 0.3}
    assert torch.equal(pulls(policy, groups, "blue", 300), first)
    begin(policy, *[True] * 150, *[False] * 150)
    second = pulls(policy, groups, "blue", 300)
    assert torch.equal(second[150:], first[150:])
    assert not torch.equal(second[:150], first[:150])
    assert torch.allclose(pulls(policy, groups, "red", 300), torch.tensor(-0.9))


def test_the_first_snapshot_waits_for_the_next_episode():
    policy, pool, groups = with_snapshots(count=0, blue="self-play:red")
    begin(policy, *[True] * 5)
    pulls(policy, groups, "blue")
    pool.add(10)
    pool.snapshots[0].actors["red"].module[0].module.mlp.output.bias.data.fill_(9.0)
    assert torch.allclose(pulls(policy, groups, "blue"), torch.tensor(-0.9))
    begin(policy, True, False, False, False, True)
    assert (pulls(policy, groups, "blue") > 0).tolist() == [True, False, False, False, True]


def test_the_newest_policy_acts_in_its_part_of_the_episodes():
    policy, _, groups = with_snapshots(newest=0.75, red="self-play")
    begin(policy, *[True] * 1000)
    newest = (pulls(policy, groups, "red", 1000) < 0).double().mean()
    assert newest == pytest.approx(0.75, abs=0.06)


def test_a_pool_of_a_group_that_has_a_pool_itself_holds_actors_alone():
    policy, _, groups = policy_of(TUG, self_play_newest=0.0, opponents={"red": "self-play", "blue": "self-play:red"})
    red, blue = pools(policy)["red"], pools(policy)["blue"]
    red.add(10)
    with torch.no_grad():
        policy.actors["red"].module[0].module.mlp.output.bias.fill_(9.0)
    blue.add(20)
    red.begin_episodes(torch.ones(5, dtype=torch.bool))
    assert (pulls(policy, groups, "blue") > 0.9).all()  # the newest red, not one of its snapshots
    assert not any(one.opponents for one in (blue.policy, *blue.snapshots))


def test_a_full_pool_stays_spread_over_the_run():
    _, pool, _ = with_snapshots(size=4, count=100, blue="self-play:red")
    assert (pool.frames[0], pool.frames[-1]) == (10, 1000)
    assert len(pool.frames) == len(pool.snapshots) == 4
    gaps = [after - before for before, after in zip(pool.frames, pool.frames[1:], strict=False)]
    assert min(gaps[:-1]) > 150


def test_a_snapshot_that_goes_is_followed_by_the_next():
    policy, pool, groups = with_snapshots(size=3, blue="self-play:red")
    pool.acting, pool._begins = torch.tensor([0, 1, 2, -1]), torch.zeros(4, dtype=torch.bool)
    pool.add(40)  # the second one goes; the new one pulls -0.9
    assert pool.frames == [10, 30, 40]
    assert torch.allclose(pulls(policy, groups, "blue", 4), torch.tensor([0.1, 0.3, 0.3, -0.9]))


def test_evaluations_meet_every_snapshot_equally_often():
    policy, _, groups = with_snapshots(blue="self-play:red")
    begin(policy, *[True] * 5)
    training = pulls(policy, groups, "blue")
    with facing(policy, ["blue"], 5, None):
        assert torch.allclose(pulls(policy, groups, "blue"), torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2]))
    with facing(policy, [], 5, None):
        assert torch.allclose(pulls(policy, groups, "blue"), torch.tensor(-0.9))
    assert torch.equal(pulls(policy, groups, "blue"), training)


def test_the_newest_snapshot_is_met_where_episodes_are_few():
    assert [snapshots_met(episodes, 10).tolist() for episodes in (1, 2, 4)] == [[9], [9, 0], [9, 6, 3, 0]]
    assert [snapshots_met(episodes, 3).bincount().tolist() for episodes in (3, 6, 7)] == [
        [1, 1, 1],
        [2, 2, 2],
        [3, 2, 2],
    ]
    policy, _, groups = with_snapshots(blue="self-play:red")
    with facing(policy, ["blue"], 2, None):
        assert torch.allclose(pulls(policy, groups, "blue", 2), torch.tensor([0.3, 0.1]))
    returns = {"red": torch.tensor([[1.0], [-2.0]]), "blue": torch.tensor([[-1.0], [2.0]])}
    found = Evaluation(returns=returns, lives={}, lengths=torch.ones(2), successes=None)
    rows = SelfPlayTable._rows(found, "blue", [10, 20, 30], 40)
    assert [(row["snapshot_frames"], row["episodes"], row["return_of_others"]) for row in rows] == [
        (10, 1, -2.0),
        (30, 1, 1.0),
    ]


def test_the_pool_is_restored():
    policy, _, groups = with_snapshots(blue="self-play:red")
    other, restored, _ = with_snapshots(count=0, blue="self-play:red")
    set_state_of_pools(other, state_of_pools(policy))
    assert restored.frames == [10, 20, 30]
    with facing(other, ["blue"], 3, None):
        assert torch.allclose(pulls(other, groups, "blue", 3), torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.slow
def test_runs_keep_the_pool_and_a_table(tmp_path):
    task = {**vars(TUG), "num_envs": 8}
    training = {"opponents": {"blue": "self-play:red"}, "self_play_every": 64, "self_play_pool": 2}
    config = tiny(task=task, training={**training, "total_frames": 256})
    with Trainer(config, tmp_path, console=QUIET) as trainer:
        trainer.run()
        pool = pools(trainer.policy)["blue"]
        assert pool.frames == [128, 256]
        assert trainer.learning_names == ["red"]
    with Trainer(config, tmp_path, console=QUIET, resumes=True) as resumed:
        assert pools(resumed.policy)["blue"].frames == [128, 256]
    with (tmp_path / "self_play.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frames"], row["snapshot_frames"], row["episodes"]) for row in rows[-2:]] == [
        ("256", "128", "2"),
        ("256", "256", "2"),
    ]
    for row in rows:  # one team gains what the other loses
        assert float(row["return_of_snapshot"]) == pytest.approx(-float(row["return_of_others"]), abs=1e-5)


def test_snapshots_of_no_such_group_get_one_line():
    with pytest.raises(
        ConfigError, match=r"must be self-play:GROUP with a group that learns; got 'green'. There are: red"
    ):
        policy_of(TUG, opponents={"blue": "self-play:green"})


def test_snapshots_of_a_group_with_other_spaces_get_one_line():
    tag = TUG.__class__(suite="pettingzoo", scenario="mpe2.simple_tag_v3", num_envs=1, horizon=5)
    with pytest.raises(ConfigError, match="with the same observations and actions, bounds included; got 14 features"):
        policy_of(tag, opponents={"agent": "self-play:adversary"})


def test_snapshots_of_a_group_that_sees_other_images_get_one_line():
    _, config, groups = policy_of(TUG, opponents={"blue": "self-play:red"})
    bytes_, floats = (ImageSpec(name="image", shape=(8, 9, 3), dtype=dtype) for dtype in ("uint8", "float32"))
    red, blue = (replace(one, images=(image,)) for one, image in zip(groups, (bytes_, floats), strict=True))
    with pytest.raises(ConfigError, match=r"image of 8 x 9 x 3 float32, .* beside .*, image of 8 x 9 x 3 uint8, "):
        make_policy([red, blue], [red], config)
    make_policy([red, replace(blue, images=red.images)], [red], config)


def test_workers_have_no_snapshots():
    with pytest.raises(ConfigError, match=r"collector\.kind must be local with self-play"):
        ExperimentConfig(
            training=TrainingConfig(opponents={"agents": "self-play"}),
            collector=CollectorConfig(kind="processes", num_workers=2),
        )
