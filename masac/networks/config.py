"""The network sizes a user can set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from masac.errors import check
from masac.settings import check_settings, setting

MOST_CHOICES = 20
"""With more, the runs of a critic take most of an update."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Networks of actors and critics.

    Args:
        hidden: units of the hidden layers.
        activation: relu, tanh, elu, silu or gelu.
        layer_norm: a layer norm before every activation, in actors and critics; not after convolutions.
        cnn: channels of the 3x3 convolutions over each image in an observation. They halve its sides until both are at
            most 8; the last one is repeated for larger images.
        agent_ids: give a shared actor the agent's id (one-hot) beside its observation.
        choices_as: how critics value discrete actions. input: the agent's own action is an input of the critic, which
            runs once for each choice, and learns from fewer frames. output: the critic has an output for each choice,
            which is faster where there are many. auto: input for up to 20 choices.
        memory: none, or gru or lstm: recurrent networks over what each agent has observed so far, one for actors and
            one for critics, which see its output beside the observation. For tasks in which one observation does not
            tell all, such as a hidden velocity or a cue that is over.
        memory_size: numbers of that output.
        log_std_min: lower bound of the log standard deviation of the policy before tanh.
        log_std_max: upper bound of it.
        actor: your own actors, ``package.module:function``, called with a NetworkSpec for every group; null for MLPs.
        critic: your own critics, likewise, called for each of ``algorithm.num_qvalue_nets``.
        actors: your own actor of one group, by the group's name (``model.actors.GROUP=``), in place of ``actor``; null
            for an MLP.
        critics: your own critic of one group, likewise.
    """

    hidden: tuple[int, ...] = setting((128, 128), unit="units")
    activation: str = setting("relu", choices=("relu", "tanh", "elu", "silu", "gelu"))
    layer_norm: bool = False
    cnn: tuple[int, ...] = setting((16, 32, 32), unit="channels")
    agent_ids: bool = False
    choices_as: str = setting("auto", choices=("auto", "input", "output"))
    memory: str = setting("none", choices=("none", "gru", "lstm"))
    memory_size: int = setting(64, low=1, unit="numbers per agent")
    log_std_min: float = setting(-5.0, unit="log of action units")
    log_std_max: float = setting(2.0, unit="log of action units")
    actor: str | None = None
    critic: str | None = None
    actors: dict[str, str | None] = field(default_factory=dict)
    critics: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "cnn", tuple(self.cnn))
        check_settings(self, "model")
        check("model.hidden", self.hidden, all(size >= 1 for size in self.hidden), "hold sizes of at least 1")
        rule = "hold at least one number of channels, each at least 1"
        check("model.cnn", self.cnn, bool(self.cnn) and all(size >= 1 for size in self.cnn), rule)
        check("model.log_std_min", self.log_std_min, self.log_std_min < self.log_std_max, "be below model.log_std_max")

    @property
    def memory_dim(self) -> int:
        """The numbers that actors and critics read of a memory; 0 without one."""
        return 0 if self.memory == "none" else self.memory_size

    def choices_are_inputs(self, n_actions: int) -> bool:
        """Whether a critic takes an agent's own discrete action, one of ``n_actions``, as an input."""
        wanted = self.choices_as == "input" or (self.choices_as == "auto" and n_actions <= MOST_CHOICES)
        return wanted and bool(self.hidden)  # without a hidden layer an action could only shift the value

    def own(self, kind: str, group: str) -> tuple[str, str] | None:
        """The user's function that makes a group's ``actor`` or ``critic``, and the key that names it; None without."""
        name, by_group = getattr(self, kind), getattr(self, f"{kind}s")
        key = f"model.{kind}"
        if group in by_group:
            name, key = by_group[group], f"model.{kind}s.{group}"
        return None if name is None else (name, key)

    def check_groups(self, groups: Sequence[str]) -> None:
        """Raise :class:`~masac.errors.ConfigError` for a network of a group that does not learn."""
        for kind in ("actors", "critics"):
            for name in getattr(self, kind):
                rule = f"name a group that learns ({', '.join(groups)})"
                check(f"model.{kind}", name, name in groups, rule)
