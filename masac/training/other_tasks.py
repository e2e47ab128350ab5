"""Evaluations in other tasks than the one a policy trains in, side by side with those in its own."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from masac.dotted_keys import nest
from masac.envs.config import TaskConfig
from masac.errors import ConfigError
from masac.groups import GroupSpec, read_groups
from masac.process.stop_signals import StopRequest
from masac.training.checkpointing.random_state import own_random_numbers
from masac.training.checkpointing.resume import by_key
from masac.training.config import ExperimentConfig, read_config
from masac.training.evaluator import Evaluator
from masac.training.logging import metrics
from masac.training.policies.misfit import misfit
from masac.training.policies.policy import Policy
from masac.training.policies.policy_files import PolicyFile
from masac.training.policies.saved_policy import make_policy


def task_changes(words: Sequence[str]) -> dict[str, Any]:
    """The values of overrides of a task, by key.

    Args:
        words: such as ``task.kwargs.n_agents=5``.

    Raises:
        ConfigError: for an override of another key, or none.
    """
    parser = OverridesParser.create()
    changes: dict[str, Any] = {}
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"an override must be task.KEY=VALUE; got {word!r} ({reason}).") from None
        if override.key_or_group.partition(".")[0] != "task":
            raise ConfigError(f"only the task can be changed here, with task=... or task.KEY=...; got {word!r}.")
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"an override must set a key to one value here; got {word!r}.")
        changes[override.key_or_group] = override.value()
    return changes


def changed_task(config: ExperimentConfig, changes: Mapping[str, Any]) -> TaskConfig:
    """The task of a run with changes, by dotted key."""
    return read_config(nest({**by_key(config), **changes})).task


class OtherTasks:
    """Evaluates a policy in the tasks of ``evaluation.others``. Training is the same as without.

    Args:
        config: of the run; the environments are made here.
        policy: that trains.
        learning: its groups that learn.
        frozen: the policies of other runs that act in it.
        device: of the environments and policies.
        say: prints a line.

    Attributes:
        columns: the names of the numbers.

    Raises:
        ConfigError: for a task that cannot be made, or in which the policy cannot act.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        policy: Policy,
        learning: Sequence[GroupSpec],
        *,
        frozen: Mapping[str, PolicyFile],
        device: str,
        say: Callable[[str], None],
    ) -> None:
        self.seed, self.learning = config.evaluation.seed, [group.name for group in learning]
        self.evaluators: dict[str, Evaluator] = {}
        self.policies: dict[str, Policy] = {}
        self.columns: list[str] = []
        saved, about = dict(policy.state_dict()), {group.name: {"actions": group.actions} for group in learning}
        for name, text in config.evaluation.others.items():
            try:
                with own_random_numbers(self.seed):
                    changed = replace(config, task=_task_of(config, text))
                    self.evaluators[name] = Evaluator(changed, device=device, say=say)
                    groups = read_groups(self.evaluators[name].env)
                    trained = [group for group in groups if group.name in self.learning]
                    self.policies[name] = copy = make_policy(groups, trained, changed, frozen=frozen)
                wrong = misfit(groups, about, dict(copy.state_dict()), saved)
                if wrong is not None:
                    raise ConfigError(f"it must have the same observations and actions; {wrong}")
            except ConfigError as error:
                self.close()
                raise ConfigError(
                    f"evaluation.others.{name} must be a task in which the policy can act; got {text!r}: {error}"
                ) from error
            copy.to(device).eval()
            for opponent in copy.opponents.values():
                opponent.to(device)
            self.columns += metrics.other_columns(name, groups, success=changed.task.success is not None)

    def evaluate(self, policy: Policy, *, stop: StopRequest | None = None) -> metrics.Row:
        """The numbers of all tasks.

        Args:
            policy: whose newest weights act.
            stop: see :meth:`~masac.training.evaluator.Evaluator.evaluate`.
        """
        numbers: metrics.Row = {}
        for name, copy in self.policies.items():
            copy.load_state_dict(policy.state_dict())
            with own_random_numbers(self.seed):
                found = self.evaluators[name].evaluate(copy, stop=stop)
            numbers |= metrics.other_numbers(name, metrics.evaluation_numbers(found, self.learning))
        return {column: numbers[column] for column in self.columns}

    def close(self) -> None:
        """Close the environments."""
        for evaluator in self.evaluators.values():
            evaluator.close()


def _task_of(config: ExperimentConfig, text: str) -> TaskConfig:
    changes = task_changes(shlex.split(text))
    if "task" in changes or not changes:
        raise ConfigError("write the keys of the task that differ, such as task.kwargs.n_agents=5")
    return changed_task(config, changes)
