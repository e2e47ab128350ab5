"""The policy that acts: an actor, and the normalization of what it sees."""

from __future__ import annotations

from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.modules import ProbabilisticActor

from masac.groups import GroupSpec
from masac.training.normalization import RunningNormalizer


class Policy(TensorDictModuleBase):
    """Writes a group's action into the data, and nothing else.

    Args:
        actor: from the (normalized) observation to the action.
        group: whose actor.
        normalizer: of observations, or None.
    """

    def __init__(self, actor: ProbabilisticActor, group: GroupSpec, normalizer: RunningNormalizer | None) -> None:
        super().__init__()
        self.actor = actor
        self.group = group
        self.normalizer = normalizer
        self.in_keys: list[NestedKey] = [group.observation_key]  # pyright: ignore[reportIncompatibleMethodOverride]
        self.out_keys: list[NestedKey] = [(group.name, "action")]  # pyright: ignore[reportIncompatibleMethodOverride]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act on data of batch size ``*B``."""
        seen = self.normalize(tensordict.select(*self.in_keys))
        action = self.actor(seen).get(self.out_keys[0])
        return tensordict.set(self.out_keys[0], action)

    def normalize(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The data with its observations (those at ``next`` too) normalized, if that is switched on; a shallow copy."""
        if self.normalizer is None:
            return tensordict
        out = tensordict.copy()
        key = self.group.observation_key
        for state in (out, out.get("next", None)):
            if state is not None:
                state.set(key, self.normalizer(state.get(key)))
        return out
