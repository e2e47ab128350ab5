"""The network sizes a user can set."""

from __future__ import annotations

from dataclasses import dataclass

from masac.errors import check


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Networks of actors and critics.

    Args:
        hidden: units of the hidden layers.
        activation: relu, tanh, elu, silu or gelu.
        layer_norm: a layer norm before every activation, in actors and critics.
        agent_ids: give a shared actor the agent's id (one-hot) beside its observation.
        log_std_min: lower bound of the log standard deviation of the policy before tanh.
        log_std_max: upper bound of it.
    """

    hidden: tuple[int, ...] = (128, 128)
    activation: str = "relu"
    layer_norm: bool = False
    agent_ids: bool = False
    log_std_min: float = -5.0
    log_std_max: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        check("model.hidden", self.hidden, all(size >= 1 for size in self.hidden), "hold sizes of at least 1")
        names = ("relu", "tanh", "elu", "silu", "gelu")
        check("model.activation", self.activation, self.activation in names, f"be one of {', '.join(names)}")
        check("model.log_std_min", self.log_std_min, self.log_std_min < self.log_std_max, "be below model.log_std_max")
