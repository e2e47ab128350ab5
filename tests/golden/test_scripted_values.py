"""Values derived by hand, reached by training: an agent that dies at step 2, two that are cut short at step 5.

With a discount of 1/2, and a reward of 1 for the better action and 0 for the other:

- ``a_1`` and ``a_2`` see the same in every step and never end, they are only cut short: V = 1 + V / 2 = 2, so
  Q(better) = 1 + 2 / 2 = 2 and Q(other) = 0 + 2 / 2 = 1. Were a time limit an end, values would lie below that.
- ``a_0`` dies by its second action: Q(better) = 1 and Q(other) = 0 there. Before, V = 1 follows: Q(better) = 1.5 and
  Q(other) = 0.5. Were its death no end, values would rise towards 2.

With continuous actions the reward is 1 - a²: the same values at a = 0, and less 1/4 at a = 1/2.
"""

import pytest
import torch
from rich.console import Console
from tensordict import TensorDict

from masac.algorithm import AlgorithmConfig
from masac.compat import parameters_in
from masac.envs.config import TaskConfig
from masac.networks.config import ModelConfig
from masac.training.config import EvaluationConfig, ExperimentConfig, LoggingConfig, TrainingConfig
from masac.training.trainer import Trainer

OBSERVATION = torch.tensor([[1.0, 0, 0, 0.0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]])
FIRST_STEP = [1.5, 2.0, 2.0]
"""Values of the better action in the first step."""


def trained(path, *, critic, continuous, skip, **kwargs):
    config = ExperimentConfig(
        task=TaskConfig(
            suite="pettingzoo",
            scenario=None,
            factory="tests.golden.timeless:make",
            kwargs={"continuous": continuous},
            num_envs=4,
            horizon=None,
        ),
        algorithm=AlgorithmConfig(
            critic=critic, gamma=0.5, alpha_init=1e-3, fixed_alpha=True, tau=0.05, skip_done_states=skip, **kwargs
        ),
        model=ModelConfig(hidden=(32,)),
        training=TrainingConfig(
            total_frames=2400,
            warmup_frames=400,
            updates_per_frame=0.4,
            batch_size=64,
            actor_lr=5e-3,
            critic_lr=5e-3,
            buffer_size=2000,
            normalize_rewards=False,  # values in units of rewards
        ),
        evaluation=EvaluationConfig(every_frames=0, episodes=1),
        logging=LoggingConfig(progress="off"),
    )
    with Trainer(config, path, console=Console(quiet=True)) as trainer:
        summary = trainer.run().summary
    return trainer, summary


def values(trainer, *, clock, action):
    """The critics' mean values, ``[3]`` or ``[3, 2]``, where ``a_0`` sees ``clock`` and all do ``action``."""
    loss = trainer.learner.loss.losses["a"]
    observation = OBSERVATION.clone().unsqueeze(0)
    observation[0, 0, 3] = clock
    entries = {"observation": observation, "action": action.expand(1, 3, -1), "alive": torch.ones(1, 3, 1)}
    state = TensorDict({"a": TensorDict(entries, [1, 3])}, [1])
    found = []
    for params in loss.qvalue_network_params.unbind(0):
        with parameters_in(loss.qvalue_network, params), torch.no_grad():
            found.append(loss.qvalue_network(state.clone())[loss.qvalue_network.out_keys[0]][0])
    return torch.stack(found).mean(0).squeeze(-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("critic", "skip"),
    [
        ("independent", "fill"),
        ("centralized", "drop"),
        ("pooled", "off"),
    ],
)
def test_discrete_critics_reach_the_values_derived_by_hand(tmp_path, critic, skip):
    trainer, summary = trained(tmp_path, critic=critic, continuous=False, skip=skip)
    better = torch.tensor([0.0, 1.0])
    first = values(trainer, clock=0.0, action=better)
    torch.testing.assert_close(first[:, 1], torch.tensor(FIRST_STEP), atol=0.1, rtol=0)
    torch.testing.assert_close(first[:, 0], torch.tensor(FIRST_STEP) - 1, atol=0.1, rtol=0)
    last = values(trainer, clock=0.5, action=better)[0]
    torch.testing.assert_close(last, torch.tensor([0.0, 1.0]), atol=0.1, rtol=0)
    assert summary["groups"]["a"]["return/0"] == 2.0  # over its own life of two steps
    assert summary["groups"]["a"]["return/1"] == 5.0
    assert summary["groups"]["a"]["life_mean"] == 4.0  # (2 + 5 + 5) / 3


@pytest.mark.slow
def test_continuous_critics_reach_the_values_derived_by_hand(tmp_path):
    trainer, summary = trained(tmp_path, critic="centralized", continuous=True, skip="fill")
    first = values(trainer, clock=0.0, action=torch.zeros(1))
    torch.testing.assert_close(first, torch.tensor(FIRST_STEP), atol=0.12, rtol=0)
    assert values(trainer, clock=0.5, action=torch.zeros(1))[0].item() == pytest.approx(1.0, abs=0.12)
    assert summary["groups"]["a"]["return/1"] == pytest.approx(5.0, abs=0.1)
