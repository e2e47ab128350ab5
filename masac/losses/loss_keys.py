"""The keys of a group loss: the entries of the data that it reads, and the entries that it returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tensordict import NestedKey
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule

from masac.keys import as_path, in_group
from masac.losses.padded_rows import RowMaskedLoss
from masac.losses.value_estimators import is_lambda_return

LOSS_OUT_KEYS = ["loss_actor", "loss_qvalue", "loss_alpha"]
OTHER_OUT_KEYS = ["alpha", "entropy"]
EXTRA_OUT_KEYS = ["target_entropy", "qvalue", "td_error", "fraction_masked", "fraction_terminal"]
"""The entries that a loss returns, in this order: the terms, what TorchRL's losses return beside them, ours alone."""


class GroupKeys(RowMaskedLoss):
    """Base of group losses: their keys, with defaults inside of the group."""

    @dataclass
    class _AcceptedKeys:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The keys that ``set_keys`` can change; see :meth:`GroupKeys.set_keys` for the defaults."""

        action: NestedKey = "action"
        value: NestedKey = "state_value"  # TorchRL's entry; never read or written here
        log_prob: NestedKey = "action_log_prob"
        reward: NestedKey = "reward"
        done: NestedKey = "done"
        terminated: NestedKey = "terminated"
        agent_mask: NestedKey = "mask"
        agent_alive: NestedKey = "alive"
        memory: NestedKey = "memory"
        is_init: NestedKey = "is_init"
        priority: NestedKey = "td_error"
        priority_weight: NestedKey = "priority_weight"
        steps_to_next_obs: NestedKey = "steps_to_next_obs"

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys  # pyright: ignore[reportIncompatibleMethodOverride]

    group: NestedKey
    actor_network: ProbabilisticTensorDictSequential
    qvalue_network: TensorDictModule
    out_keys: list[str]  # pyright: ignore[reportIncompatibleMethodOverride]

    _value_name: str
    """The accepted key of a critic's output."""
    _keys_in_group: tuple[str, ...] = (
        "action",
        "log_prob",
        "reward",
        "done",
        "terminated",
        "agent_mask",
        "agent_alive",
        "memory",
        "is_init",
    )

    def _set_group_keys(self) -> None:
        keys: dict[str, NestedKey | None] = dict.fromkeys(self._keys_in_group)
        action_keys = self.actor_network.dist_sample_keys
        if len(action_keys) == 1:
            keys["action"] = action_keys[0]
        value_keys = [key for key in self.qvalue_network.out_keys if as_path(key)[-1] == self._value_name]
        if len(value_keys) == 1:
            keys[self._value_name] = value_keys[0]
        self._resolved_keys = {name: key for name, key in keys.items() if key is not None}
        self.set_keys(**keys)

    def set_keys(self, **kwargs: NestedKey | None) -> None:
        """Name the entries of the data; None restores the default, which for entries of agents is inside the group."""
        for name, key in kwargs.items():
            if key is None and name in self._keys_in_group:
                in_the_group = (*as_path(self.group), getattr(self.default_keys(), name))
                kwargs[name] = self._resolved_keys.get(name, in_the_group)
        super().set_keys(**kwargs)

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        self._in_keys = None

    @property
    def in_keys(self) -> list[NestedKey]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The entries that ``forward`` needs. It also reads :attr:`optional_in_keys` where the data has them."""
        if self._in_keys is None:
            states = self._state_keys()
            keys = self.tensor_keys
            read = [keys.reward, keys.terminated, *([keys.done] if is_lambda_return(self.value_estimator) else [])]
            signals = [("next", *as_path(key)) for key in read]
            following = [("next", *key) for key in states]
            self._in_keys = [as_path(keys.action), *states, *following, *signals, *self._required_row_masks]
        return self._in_keys

    @in_keys.setter
    def in_keys(self, values: list[NestedKey]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._in_keys = values

    @property
    def optional_in_keys(self) -> list[NestedKey]:
        """The entries that ``forward`` reads where present: keep them too when selecting data for the loss."""
        keys = self.tensor_keys
        named = [as_path(key) for key in (keys.agent_mask, keys.priority_weight, keys.steps_to_next_obs)]
        return [*named, *self._optional_row_masks]

    @property
    def keyword_out_keys(self) -> list[str]:
        """The keys that a call with keyword tensors returns: those of TorchRL's losses, or of ``select_out_keys``."""
        selected = self.out_keys != self.out_keys_source
        return [key for key in self.out_keys if selected or key not in EXTRA_OUT_KEYS]

    @property
    def _keyword_keys(self) -> Iterator[NestedKey]:
        """The entries that a call may pass as keyword tensors, each named by its key joined with ``_``.

        They are :attr:`in_keys`, in this order, the optional keys, the done flag, which TorchRL's losses require, and
        the signals at the root of ``next``, which are read where the group has none. A generator, since every call asks
        for them, and calls with a TensorDict do not use them.
        """
        keys = self.tensor_keys
        signals = [as_path(key) for key in (keys.reward, keys.terminated, keys.done)]
        at_next = [("next", *path) for path in signals]
        at_root = [("next", path[-1]) for path in signals if in_group(path, self.group)]
        read = [*map(as_path, self.in_keys), *map(as_path, self.optional_in_keys)]
        yield from dict.fromkeys([*read, *at_next, *at_root])

    def _state_keys(self) -> list[tuple[str, ...]]:
        """The entries of a state that the data must have."""
        given = {as_path(self.tensor_keys.action), as_path(self.tensor_keys.agent_alive)}
        actor_keys = [as_path(key) for key in self.actor_network.in_keys]
        critic_keys = [as_path(key) for key in self.qvalue_network.in_keys if as_path(key) not in given]
        return list(dict.fromkeys([*actor_keys, *critic_keys]))
