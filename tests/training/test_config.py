"""Values that a config refuses."""

import pytest

from masac.algorithm import AlgorithmConfig
from masac.errors import ConfigError
from masac.networks.config import ModelConfig
from masac.training.config import EvaluationConfig, ExperimentConfig, LoggingConfig, TrainingConfig


def remembering(*, training=None, **model):
    return ExperimentConfig(training=training or TrainingConfig(), model=ModelConfig(memory="gru", **model))


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
        (lambda: ModelConfig(memory="rnn"), "model.memory"),
        (lambda: ExperimentConfig(training=TrainingConfig(burn_in=2)), "training.burn_in"),
        (lambda: remembering(training=TrainingConfig(n_step=3)), "training.n_step"),
        (lambda: remembering(training=TrainingConfig(buffer_size=256 * 15)), "training.buffer_size"),
    ],
)
def test_a_bad_value_names_the_override_to_change(make, name):
    with pytest.raises(ConfigError, match=f"^{name} must .*; got .*Change it with {name}=") as error:
        make()
    assert "\n" not in str(error.value)
