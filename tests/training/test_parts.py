"""The parts of the trainer, one by one."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from masac.algorithm import AlgorithmConfig, make_actor, make_loss
from masac.envs.config import TaskConfig
from masac.envs.vmas import make_vmas_env
from masac.errors import ConfigError
from masac.groups import GroupSpec, read_groups
from masac.networks.config import ModelConfig
from masac.plotting.statistics import wilson_interval
from masac.process.memory import check_buffer_fits
from masac.training.checkpointing.random_state import random_state, seed_everything, set_random_state
from masac.training.checkpointing.run_files import RunFiles
from masac.training.config import EvaluationConfig, ExperimentConfig, LoggingConfig, TrainingConfig
from masac.training.distributed.ranks import Rank
from masac.training.episodes import EpisodeTracker
from masac.training.evaluator import evaluate
from masac.training.learner import Learner
from masac.training.logging import metrics
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.policy import Policy
from masac.training.replay.buffer import Replay
from tests.losses.common import A, F, N, make_batch

GROUP = GroupSpec(
    name="agents",
    n_agents=N,
    observation_dim=F,
    action_spec=Bounded(-1, 1, (N, A)),
    discrete=None,
    has_action_mask=False,
)
SMALL = ModelConfig(hidden=(8,))


def small_loss():
    return make_loss({"agents": make_actor(GROUP, AlgorithmConfig(), SMALL)}, [GROUP], AlgorithmConfig(), SMALL)


def test_the_normalizer_has_the_moments_of_all_that_it_saw():
    normalizer = RunningNormalizer(3)
    values = torch.randn(50, 4, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 100.0, -2.0])
    for chunk in values.split(7):
        normalizer.observe(chunk)
    flat = values.reshape(-1, 3).double()
    torch.testing.assert_close(normalizer.mean, flat.mean(0))
    out = normalizer(values).reshape(-1, 3)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0), torch.ones(3), atol=5e-3, rtol=0)
    assert out.dtype == torch.float32


def test_the_normalizer_skips_the_dead_and_starts_as_identity():
    normalizer = RunningNormalizer(1)
    values = torch.tensor([[[1.0], [math.nan]], [[3.0], [math.inf]]])
    assert torch.equal(normalizer(torch.tensor([2.0])), torch.tensor([2.0]))
    normalizer.observe(values, torch.tensor([[[True], [False]], [[True], [False]]]))
    assert normalizer.mean.item() == 2.0
    normalizer.observe(values, torch.zeros(2, 2, 1, dtype=torch.bool))
    assert normalizer.count.item() == 2


def test_the_buffer_keeps_what_the_losses_read_and_no_rows_of_the_dead():
    replay = Replay([GROUP], size=10, batch_size=64, device="cpu")
    mask = torch.ones(2, 2, N, 1, dtype=torch.bool)
    mask[0, 0] = False
    mask[1, 1, 0] = False
    collected = make_batch(batch=(2, 2), mask=mask)
    collected["agents", "loc"] = torch.zeros(2, 2, N, A)
    collected["next", "terminated"] = torch.zeros(2, 2, 1, dtype=torch.bool)
    collected["collector", "traj_ids"] = torch.arange(4).reshape(2, 2)
    replay.extend(collected)
    assert len(replay) == 3
    sample = replay.sample()
    kept = {key for key in sample.keys(True, True) if key != "index"}
    assert kept == {
        ("agents", "observation"),
        ("agents", "action"),
        ("agents", "mask"),
        ("next", "agents", "observation"),
        ("next", "agents", "reward"),
        ("next", "agents", "terminated"),
    }
    assert sample.batch_size == (64,)
    assert sample["agents", "mask"].any(1).all()


def test_a_batch_in_which_nobody_lived_stores_nothing():
    replay = Replay([GROUP], size=4, batch_size=4, device="cpu")
    dead = make_batch(batch=(2, 3), mask=torch.zeros(2, 3, N, 1, dtype=torch.bool))
    replay.extend(dead)  # the first that it gets
    assert (len(replay), replay.written) == (0, 0)
    replay.extend(make_batch(batch=(2, 3)))
    before = replay.rows(0, 4).clone()
    replay.extend(dead)
    assert (len(replay), replay.written) == (4, 4)
    assert (replay.rows(0, 4) == before).all()


def test_the_oldest_rows_give_way():
    replay = Replay([GROUP], size=10, batch_size=4, device="cpu")
    for _ in range(3):
        replay.extend(make_batch(batch=(2, 3)))
    assert len(replay) == 10


def test_training_returns_are_those_of_finished_episodes():
    # Two environments, two agents, three steps of reward (1, 3): environment 0 ends after steps 0 and 2.
    tracker = EpisodeTracker(2, [replace(GROUP, n_agents=2)])
    assert tracker.returns("agents") is None
    reward = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1).expand(2, 3, 2, 1)
    done = torch.zeros(2, 3, 1, dtype=torch.bool)
    done[0, 0] = done[0, 2] = True
    batch = TensorDict({"next": {"agents": {"reward": reward}, "done": done}}, [2, 3])
    tracker.observe(batch)
    assert [one.returns["agents"].tolist() for one in tracker.finished] == [[1.0, 3.0], [2.0, 6.0]]
    assert [one.length for one in tracker.finished] == [1, 2]
    done = torch.zeros(2, 1, 1, dtype=torch.bool)
    done[1] = True
    tracker.observe(TensorDict({"next": {"agents": {"reward": reward[:, :1]}, "done": done}}, [2, 1]))
    assert tracker.finished[2].returns["agents"].tolist() == [
        4.0,
        12.0,
    ]  # four steps of environment 1, over two batches
    assert tracker.returns("agents").tolist() == pytest.approx([7 / 3, 21 / 3])
    assert tracker.length() == pytest.approx(7 / 3)


def test_what_an_environment_pays_the_dead_is_not_their_return():
    tracker = EpisodeTracker(1, [replace(GROUP, n_agents=2)])
    reward = torch.ones(1, 3, 2, 1)
    mask = torch.tensor([[[True, True], [True, False], [True, False]]])
    reward[0, 1:, 1] = math.nan
    done = torch.tensor([[[False], [False], [True]]])
    tracker.observe(
        TensorDict({"agents": {"mask": mask}, "next": {"agents": {"reward": reward}, "done": done}}, [1, 3])
    )
    assert tracker.finished[0].returns["agents"].tolist() == [3.0, 1.0]


class Still(torch.nn.Module):
    """A policy that does nothing."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, data):
        return data.set(("agents", "action"), torch.zeros(*data.batch_size, self.groups[0].n_agents, 2))


def test_evaluation_counts_each_environments_first_episode_alone():
    task = TaskConfig(scenario="tests.envs.own_scenario:Scenario", horizon=8)
    env = make_vmas_env(task, num_envs=4, seed=0)
    found = evaluate(Still(read_groups(env)), env, seed=0, success="terminated")  # pyright: ignore[reportArgumentType]
    assert found.successes is not None
    assert found.successes.tolist() == [True, False, True, False]
    short, full, *_ = found.lengths.tolist()
    assert found.lengths.tolist() == [short, full, short, full]
    assert (short < 8, full) == (True, 8)
    assert found.returns["agents"].abs().max() == 0
    assert found.lives["agents"][:, 0].tolist() == found.lengths.tolist()
    numbers = metrics.evaluation_numbers(found, ["agents"])
    assert numbers["eval/success_rate"] == 0.5
    assert (numbers["eval/success_low"], numbers["eval/success_high"]) == wilson_interval(2, 4)
    assert numbers["agents/eval/life_mean"] == (short + full) / 2


def test_evaluating_twice_gives_the_same():
    task = TaskConfig(horizon=20)
    env = make_vmas_env(task, num_envs=8, seed=0)
    (group,) = read_groups(env)
    policy = Policy([group], {"agents": make_actor(group, AlgorithmConfig(), SMALL)}, {})
    first, second = (evaluate(policy, env, seed=3, success=None) for _ in range(2))
    assert torch.equal(first.returns["agents"], second.returns["agents"])
    assert first.successes is None
    other = evaluate(policy, env, seed=4, success=None)
    assert not torch.equal(other.returns["agents"], first.returns["agents"])


def test_drawn_actions_are_those_of_the_seed_and_leave_the_training_alone():
    env = make_vmas_env(TaskConfig(horizon=20), num_envs=8, seed=0)
    (group,) = read_groups(env)
    policy = Policy([group], {"agents": make_actor(group, AlgorithmConfig(), SMALL)}, {})
    state = torch.get_rng_state()
    first = evaluate(policy, env, seed=3, success=None, stochastic=True)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    second = evaluate(policy, env, seed=3, success=None, stochastic=True)
    assert torch.equal(first.returns["agents"], second.returns["agents"])
    plain = evaluate(policy, env, seed=3, success=None)
    assert not torch.equal(first.returns["agents"], plain.returns["agents"])


def test_an_update_moves_actor_critics_temperature_and_targets_and_lowers_the_critic_loss():
    loss = small_loss()
    learner = Learner(loss, TrainingConfig(max_grad_norm=1.0), tau=0.01, mode="graph")
    batch = make_batch(batch=(64,))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    logged = [learner.update(batch.clone()) for _ in range(30)]
    still = [name for name, value in loss.state_dict().items() if name in before and torch.equal(value, before[name])]
    constant = ("alpha_init", "_target_entropy", "__batch_size", "__device")
    assert [name for name in still if not any(part in name for part in constant)] == []
    assert logged[-1]["agents/loss/qvalue"] < logged[0]["agents/loss/qvalue"]
    assert set(logged[0]) == {f"agents/{name}" for name in metrics.LOGGED} - {"agents/fraction_skipped"}


def test_learning_rates_stay_and_then_fall_over_the_last_part_of_a_run():
    loss = small_loss()
    training = TrainingConfig(actor_lr=1.0, lr_decay_fraction=0.5, final_lr_factor=0.2)
    learner = Learner(loss, training, tau=0.01, mode="graph")
    seen = []
    for done in (0.0, 0.5, 0.75, 1.0):
        learner.set_progress(done)
        seen.append(learner.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1.0, 1.0, 0.6, 0.2])
    assert TrainingConfig(lr_decay_fraction=0.0).lr_factor(1.0) == 1.0


def test_clipping_bounds_the_gradient():
    loss = small_loss()
    learner = Learner(loss, TrainingConfig(max_grad_norm=1e-3), tau=0.01, mode="graph")
    learner.update(make_batch(batch=(64,)))
    for params in (loss.group_losses[0].actor_network_params, loss.group_losses[0].qvalue_network_params):
        norm = torch.stack([p.grad.norm() for p in params.parameters() if p.grad is not None]).norm()
        assert norm <= 1.01e-3


def test_ranks_have_seeds_of_their_own_and_rank_zero_writes():
    seeds = {Rank(index=index, world_size=4).seed(0) for index in range(4)} | {Rank().seed(1)}
    assert len(seeds) == 5
    assert Rank().is_main
    assert not Rank(index=1, world_size=2).is_main


def test_the_first_evaluation_that_solves_the_task_is_found_in_the_metrics(tmp_path):
    files = RunFiles(tmp_path)
    assert files.first_success(0.5) == {"solved_frames": None, "solved_s": None}
    with files.open_metrics(["frames", "wall_time_s", "eval/success_rate"], frames=0) as table:
        for frames, rate in ((1, None), (2, 0.4), (3, 0.5), (4, 0.9)):
            table.write({"frames": frames, "wall_time_s": frames / 2, "eval/success_rate": rate})
    assert files.first_success(0.5) == {"solved_frames": 3, "solved_s": 1.5}


@pytest.mark.parametrize(("resumes", "step"), [(False, r"with run_dir=\.\.\."), (True, "or resume a copy of it")])
def test_a_run_that_cannot_be_written_says_what_to_do(tmp_path, resumes, step):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"run_dir must be a folder that can be written to; got .*{step}"):
        RunFiles(tmp_path / "file" / "run", resumes=resumes)


def test_a_process_of_another_rank_writes_nothing(tmp_path):
    files = RunFiles(tmp_path / "run", writes=False)
    files.write_config(ExperimentConfig())
    files.write_summary({})
    with files.open_metrics(["frames"], frames=0) as table:
        table.write({"frames": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: TrainingConfig(batch_size=0), "training.batch_size"),
        (lambda: TrainingConfig(actor_lr=-1.0), "training.actor_lr"),
        (lambda: TrainingConfig(buffer_size=10, batch_size=20), "training.buffer_size"),
        (lambda: TrainingConfig(device="tpu9"), "training.device"),
        (lambda: TrainingConfig(max_grad_norm=0.0), "training.max_grad_norm"),
        (lambda: EvaluationConfig(episodes=0), "evaluation.episodes"),
        (lambda: LoggingConfig(progress="loud"), "logging.progress"),
        (lambda: AlgorithmConfig(gamma=2.0), "algorithm.gamma"),
        (lambda: AlgorithmConfig(critic="big"), "algorithm.critic"),
        (lambda: AlgorithmConfig(critic="team"), "algorithm.terminated_reduction"),
        (lambda: AlgorithmConfig(critic="independent", critic_sees="all_groups"), "algorithm.critic_sees"),
        (lambda: AlgorithmConfig(terminated_reduction="all"), "algorithm.posthumous"),
        (lambda: AlgorithmConfig(posthumous=True), "algorithm.terminated_reduction"),
        (lambda: AlgorithmConfig(target_entropy_weight=2.0), "algorithm.target_entropy_weight"),
        (lambda: TrainingConfig(learning_groups=()), "training.learning_groups"),
        (lambda: AlgorithmConfig(critic="team", terminated_reduction="all"), "algorithm.reward_reduction"),
        (lambda: ModelConfig(hidden=(0,)), "model.hidden"),
        (lambda: ExperimentConfig(seed=-1), "seed"),
    ],
)
def test_a_bad_value_names_the_override_to_change(make, name):
    with pytest.raises(ConfigError, match=f"^{name} must .*; got .*Change it with {name}=") as error:
        make()
    assert "\n" not in str(error.value)


def test_random_numbers_go_on_from_their_state():
    seed_everything(3)
    random.gauss(0, 1)
    np.random.normal()  # both keep a second number back
    state = random_state()
    expected = [
        torch.rand(2).tolist(),
        random.random(),
        random.gauss(0, 1),
        np.random.rand(2).tolist(),
        np.random.normal(),
    ]
    set_random_state(state)
    assert expected == [
        *(torch.rand(2).tolist(), random.random(), random.gauss(0, 1)),
        *(np.random.rand(2).tolist(), np.random.normal()),
    ]


def test_a_buffer_that_cannot_fit_is_refused_with_the_numbers():
    rows = 10**12
    with pytest.raises(ConfigError, match=r"1,000,000,000,000 rows of 100 bytes take 90.9 TiB, and .* free on cpu"):
        check_buffer_fits(rows, 100, "cpu")
    check_buffer_fits(1000, 100, "cpu")


def test_a_buffer_says_what_a_row_takes():
    # Observations [3, 4] twice, actions [3, 2] and rewards [3, 1] in float32, ends [3, 1] as bytes, of three agents.
    replay = Replay([GROUP], size=10, batch_size=2, device="cpu")
    replay.extend(make_batch(batch=(4,)).unsqueeze(0))
    assert replay.bytes_per_row(make_batch(batch=(4,))) == sum(
        value.numel() * value.element_size() for value in replay.rows(0, 1).values(True, True)
    )


@pytest.mark.parametrize("held", [7, 10])
def test_a_restored_buffer_holds_every_row_where_it_was_and_goes_on_there(held):
    made, restored = (Replay([GROUP], size=10, batch_size=2, device="cpu") for _ in range(2))
    for number in range(17 if held == 10 else 7):
        made.extend(make_batch(seed=number, batch=(1,)).unsqueeze(0))
    first = made.written - held
    parts = [made.rows(first, first + 2), made.rows(first + 2, first + 3), made.rows(first + 3, made.written)]
    for _ in range(2):  # the second time into one that is filled
        restored.restore(iter(parts), written=made.written)
    for replay in (made, restored):
        replay.extend(make_batch(seed=99, batch=(2,)).unsqueeze(0))
    assert restored.written == made.written
    for key, value in made.buffer[:].items(True, True):
        assert torch.equal(restored.buffer[:][key], value), key
