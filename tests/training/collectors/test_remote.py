"""Pushes, lag, resets and deaths, with workers in this process: what is asked and answered is what processes get."""

from collections import deque

import pytest
import torch

from masac.training.collectors.config import CollectorConfig
from masac.training.collectors.messages import WorkerDiedError
from masac.training.collectors.remote import Engine, Handle, RemoteCollector, worker_seed
from masac.training.collectors.worker import CollectorWorker, WorkerSettings
from tests.training.collectors.common import NAVIGATION, experiment, groups_and_policy


class Here(Handle):
    """Answers when asked; dies before the answer number ``dies_at``."""

    def __init__(self, settings, dies_at):
        self.worker = CollectorWorker(settings)
        self.answers, self.asked, self.dies_at = deque(), [], dies_at

    def submit(self, request, weights):
        self.asked.append(request)
        if self.dies_at is None or len(self.asked) <= self.dies_at:
            self.answers.append(self.worker.answer(request, {k: v.copy() for k, v in weights.items()}))

    def take(self):
        if not self.answers:
            raise WorkerDiedError("as told")
        return self.answers.popleft()


class InThisProcess(Engine):
    def __init__(self, settings, deaths=()):
        self.settings, self.deaths = settings, list(deaths)
        self.started, self.published = [], 0

    def start(self, index):
        self.started.append(Here(self.settings, self.deaths.pop(0) if self.deaths else None))
        return self.started[-1]

    def publish(self, weights):
        self.published += 1
        return {name: value.copy() for name, value in weights.items()}

    def end(self, handles):
        for handle in handles:
            handle.worker.close()


@pytest.fixture(autouse=True)
def _as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def remote(workers=2, deaths=(), warn=lambda message: None, **fields):
    config = experiment(NAVIGATION, workers=workers, **fields)
    env, policy = groups_and_policy(config)
    env.close()
    engine = InThisProcess(WorkerSettings(config=config, num_envs=4 // workers), deaths)
    return RemoteCollector(config.collector, engine, policy, num_envs=4, seed=3, warn=warn), engine, policy


def lags(collector, rounds, updates=1):
    found = []
    for _ in range(rounds):
        assert collector.collect().batch_size == (4, 4)
        numbers = collector.numbers()
        found.append((numbers["collect/policy_lag"], numbers["collect/policy_lag_updates"]))
        collector.updated(updates)
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_lag": 0}, [(0, 0)] * 5),
        ({"max_lag": 1}, [(0, 0), (1, 1), (1, 1), (1, 1), (1, 1)]),
        ({"max_lag": 2}, [(0, 0), (1, 1), (2, 2), (2, 2), (2, 2)]),
        # Pushes before batches 0, 3 and 6; batch 3 was asked for before the second one.
        ({"max_lag": 1, "push_every": 3}, [(0, 0), (0, 1), (0, 2), (1, 3), (0, 1), (0, 2), (1, 3)]),
    ],
)
def test_a_batch_is_behind_by_so_many_pushes_and_no_more(fields, expected):
    collector, engine, _ = remote(**fields)
    assert lags(collector, len(expected)) == expected
    assert CollectorConfig(kind="ray", **fields).max_lag == max(lag for lag, _ in expected)
    assert engine.published == (5 if "push_every" not in fields else 3)


def test_weights_are_pushed_only_where_they_changed():
    collector, engine, policy = remote(max_lag=0, push_every=100)
    policy.random_groups = policy.group_names
    lags(collector, 3, updates=0)
    assert engine.published == 1
    policy.random_groups = frozenset()
    lags(collector, 2, updates=1)
    assert engine.published == 2
    asked = [request.random_groups for request in engine.started[0].asked]
    assert asked == [policy.group_names] * 3 + [frozenset()] * 2


def test_workers_and_replacements_have_own_random_numbers():
    seeds = [worker_seed(3, worker, incarnation) for worker in range(4) for incarnation in range(4)]
    assert len(set(seeds)) == 16
    assert seeds[0] == 3
    collector, _, policy = remote(max_lag=0)
    policy.random_groups = policy.group_names
    collected = collector.collect()
    assert not torch.equal(collected["agents", "action"][:2], collected["agents", "action"][2:])


def test_a_reset_begins_seeded_episodes_with_newest_weights():
    batches = []
    for _ in range(2):
        collector, _, policy = remote(max_lag=1, push_every=10)
        lags(collector, 2 + len(batches))  # what was before does not matter
        with torch.no_grad():
            for index, parameter in enumerate(policy.parameters()):
                parameter.fill_(0.01 * index)
        collector.reset(11)
        batches.append(torch.cat([collector.collect(), collector.collect()], 1))
        assert (batches[-1]["step_count"][:, 0] == 0).all()
        assert collector.numbers()["collect/policy_lag"] == 0
    for key in batches[0].keys(True, True):
        assert torch.equal(batches[0][key], batches[1][key]), key


@pytest.mark.parametrize("max_lag", [0, 1])
@pytest.mark.parametrize("dies_at", [0, 2])
def test_lost_parts_are_recollected_exactly_once(max_lag, dies_at):
    said = []
    collector, engine, _ = remote(max_lag=max_lag, deaths=[None, dies_at], warn=said.append)
    for turn in range(4):
        collected = collector.collect()
        assert collected.batch_size == (4, 4)
        died = turn == dies_at
        assert collector.restarted == ((2, 3) if died else ())
        assert (collected["step_count"][2:, 0] == 0).all() == (died or turn == 0)
        assert collector.numbers()["collect/restarts"] == (turn >= dies_at)
        collector.updated(1)
    first, dead, new = engine.started
    assert len(first.asked) == 4 + max_lag
    assert len(new.asked) == 4 + max_lag - dies_at
    assert new.asked[0].seed == worker_seed(3, 1, 1)
    assert all(request.seed is None for request in new.asked[1:])
    # The new one gets the newest weights at once.
    assert new.asked[0].version == max(request.version for request in dead.asked)
    assert said == ["worker 1 of 2 died (as told); a new one replaces it (restart 1 of at most 10)"]
