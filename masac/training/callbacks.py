"""Callbacks: a user's code that a run calls while it trains. They may end the run, log numbers, change environments."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from masac.envs.attributes import set_attributes
from masac.errors import ConfigError, RunFailedError
from masac.named_objects import find_object
from masac.process.tracebacks import report_of
from masac.training.collectors.local import LocalCollector
from masac.training.config import TrainingConfig
from masac.training.logging.metrics import Row, learning_numbers
from masac.training.result import RunResult

PART = "callbacks"
"""The part of a checkpoint's state that holds the state of callbacks."""


class Callback:
    """Base of callbacks; every method does nothing. With several ranks, all have callbacks, and rank 0 evaluates."""

    def on_collect(self, run: Run, data: TensorDictBase) -> None:
        """Called after every rollout, before it is stored.

        Args:
            run: the run.
            data: batch size ``[environments, steps]``, not to be changed.
        """

    def on_update(self, run: Run, numbers: Mapping[str, float | int | None]) -> None:
        """Called after the updates of an iteration, if there were any.

        Args:
            run: the run.
            numbers: means over these updates, such as ``agents/loss/qvalue``.
        """

    def on_evaluate(self, run: Run, numbers: Mapping[str, float | int | None]) -> None:
        """Called after every evaluation.

        Args:
            run: the run.
            numbers: of ``metrics.csv``, such as ``eval/return_mean``.
        """

    def on_checkpoint(self, run: Run, folder: Path) -> None:
        """Called after every checkpoint, which does not hold what changes here: the next one does.

        Args:
            run: the run.
            folder: of the checkpoint.
        """

    def on_end(self, run: Run, result: RunResult) -> None:
        """Called at the end of a run that did not fail, when all files are written.

        Args:
            run: the run.
            result: that ``Trainer.run`` returns.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: tensors, numbers, text, and lists and dicts of them; saved in checkpoints."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`, when the run is resumed."""


class StopAtReturn(Callback):
    """Ends the run when the return of an evaluation is high enough (``training.stop_at_return``).

    Args:
        value: mean return per agent.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def on_evaluate(self, run: Run, numbers: Mapping[str, float | int | None]) -> None:
        """End the run if the return was reached."""
        found = numbers["eval/return_mean"]
        if found is not None and found >= self.value:
            run.end(f"the evaluation return {found:.3f} has reached training.stop_at_return={self.value:g}")


class Run:
    """A run, as its callbacks see it.

    Args:
        trainer: of the run, a :class:`Trainer`.

    Attributes:
        trainer: the :class:`Trainer`, with its config, policy, environments and all parts.
        end_reason: why a callback ended the run; empty if none did.
        event: the method of callbacks that was called last.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.end_reason = self.event = ""
        self.logged: Row = {}
        self.attributes: dict[str, Any] = {}
        self._set: dict[str, Any] = {}  # in this iteration

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        return self.trainer.frames

    def end(self, reason: str) -> None:
        """End the run after this iteration (in ``on_checkpoint``, the next one), with a checkpoint and all results.

        Args:
            reason: in words, for the summary.
        """
        self.end_reason = self.end_reason or reason

    def log(self, name: str, value: float) -> None:
        """Write a number into this iteration's row of ``metrics.csv`` and to the loggers; with several ranks, rank 0's.

        Args:
            name: of the column, such as ``curriculum/level``; not one of masac's.
            value: the number.

        Raises:
            ValueError: for a column of masac's, and in ``on_end``, when there is no row any more.
        """
        if self.event == "on_end":
            raise ValueError(
                f"run.log must be called before the run ends; got {name!r} in on_end. Write a file into result.run_dir"
            )
        if name in self.trainer.log.own_columns:
            raise ValueError(
                f"the name of a logged number must not be a column of masac's own; got {name!r}. Rename it."
            )
        self.logged[name] = float(value)

    def set_environment(self, **attributes: Any) -> None:
        """Set attributes of the training environments (of VMAS: of the scenario), as a curriculum does.

        They take effect as the environment reads them, and are set again when the run is resumed. With several ranks,
        those of the others follow at the end of the iteration. Evaluation environments keep theirs.

        Args:
            attributes: values by the names of attributes that the environment has.
        """
        collector = self.trainer.collector
        if not isinstance(collector, LocalCollector):
            raise ConfigError(
                "set_environment must be called in a run whose environments are in this process; got "
                f"collector={self.trainer.config.collector.kind}. Change it with collector=local"
            )
        set_attributes(collector.env, attributes)
        self.attributes |= attributes
        self._set |= attributes

    def take_set(self) -> dict[str, Any]:
        """The attributes that were set in this iteration."""
        taken, self._set = self._set, {}
        return taken

    def follow(self, attributes: Mapping[str, Any]) -> None:
        """Set the attributes that callbacks of other ranks set."""
        if attributes:
            self.set_environment(**attributes)
            self._set = {}


class Callbacks:
    """The callbacks of a run.

    Args:
        training: names some of them.
        passed: in Python.
        trainer: of the run.
        warn: prints a warning.

    Raises:
        ConfigError: for a name that stands for no callback.
    """

    def __init__(
        self,
        training: TrainingConfig,
        passed: Sequence[Callback],
        trainer: Any,
        *,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.run, self.warn = Run(trainer), warn
        self.all: list[Callback] = [_find(name) for name in training.callbacks]
        if not isinstance(passed, Sequence):
            raise ConfigError(
                f"callbacks must be a list; got {type(passed).__name__}. Use Trainer(config, callbacks=[...])"
            )
        for one in passed:
            self.all.append(_checked(one, "callbacks"))
        if training.stop_at_return is not None:
            self.all.append(StopAtReturn(training.stop_at_return))

    def on_update(self, updates: Sequence[Mapping[str, Tensor]]) -> Exception | None:
        """Call ``on_update`` where a callback has it: reading the numbers takes time."""
        if not updates or all(type(one).on_update is Callback.on_update for one in self.all):
            return None
        return self.call("on_update", learning_numbers(updates, skips=True))

    def call(self, event: str, argument: object) -> Exception | None:
        """Call a method of all callbacks; returns the error to raise if one of them raises."""
        self.run.event = event
        for one in self.all:
            try:
                getattr(one, event)(self.run, argument)
            except Exception as error:
                return _failure(one, event, error)
        return None

    def take_logged(self) -> Row:
        """The numbers that were logged in this iteration."""
        logged, self.run.logged = self.run.logged, {}
        return logged

    def state(self) -> dict[str, Tensor]:
        """The states of all callbacks, and the attributes of environments, for a checkpoint."""
        states: dict[str, Any] = {}
        for name, one in self._by_name().items():
            try:
                states[name] = one.state_dict()
            except Exception as error:
                raise _failure(one, "state_dict", error) from error
        states["attributes"] = self.run.attributes
        return {f"{PART}/{name}": _as_tensor(state, name) for name, state in states.items() if state}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state`."""
        saved = {name.removeprefix(f"{PART}/"): value for name, value in state.items() if name.startswith(f"{PART}/")}
        for name, one in self._by_name().items():
            if name in saved:
                try:
                    one.load_state_dict(_from_tensor(saved[name]))
                except Exception as error:
                    raise _failure(one, "load_state_dict", error) from error
        for name in sorted(saved.keys() - self._by_name().keys() - {"attributes"}):
            self.warn(
                f"the run had a callback {name.partition('-')[2]} with a state, which is not here. Pass it to Trainer "
                "again, or name it in training.callbacks, at its place in the list"
            )
        if "attributes" in saved:
            self.run.set_environment(**_from_tensor(saved["attributes"]))

    def _by_name(self) -> dict[str, Callback]:
        return {f"{index}-{type(one).__name__}": one for index, one in enumerate(self.all)}


def _find(name: str) -> Callback:
    kind: Callable[[], Any] = find_object(name, "training.callbacks", "Callback")
    try:
        made = kind()
    except Exception as error:
        report = report_of(error)
        raise ConfigError(
            f"training.callbacks must name callbacks that are made without arguments; {name!r} raised {report.what} "
            f"({report.where}). Pass one with arguments in Python: Trainer(config, callbacks=[...])",
            traceback=report.traceback,
        ) from error
    return _checked(made, f"training.callbacks={name}")


def _checked(made: object, name: str) -> Callback:
    if not isinstance(made, Callback):
        raise ConfigError(f"{name} must be a masac.Callback; got {type(made).__name__}. Derive the class from Callback")
    return made


def _failure(callback: Callback, event: str, error: Exception) -> RunFailedError:
    report, kind = report_of(error), type(callback)
    return RunFailedError(
        f"callbacks must not fail; {kind.__module__}:{kind.__qualname__}.{event} raised {report.what} "
        f"({report.where}). Fix it there.",
        traceback=report.traceback,
    )


def _as_tensor(state: Any, name: str) -> Tensor:
    """A state as bytes that load without running code."""
    file = io.BytesIO()
    torch.save(state, file)
    content = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    try:
        _from_tensor(content)
    except Exception as error:
        raise RunFailedError(
            f"the state of a callback must hold tensors, numbers, text, and lists and dicts of them; that of {name} "
            f"holds something else ({str(error).splitlines()[0]})."
        ) from error
    return content


def _from_tensor(content: Tensor) -> Any:
    return torch.load(io.BytesIO(content.cpu().numpy().tobytes()), weights_only=True)
