"""The interface of a collector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from tensordict import TensorDictBase


class Collector(ABC):
    """Steps environments with a stochastic policy; environments that end are reset.

    Attributes:
        restarted: the environments whose episodes were lost before the newest batch, which begins new ones.
    """

    restarted: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Batches ``[environments, steps]`` without end."""
        while True:
            yield self.collect()

    @abstractmethod
    def collect(self) -> TensorDictBase:
        """The next batch, ``[environments, steps]``."""

    @abstractmethod
    def reset(self, seed: int | None = None) -> None:
        """Begin new episodes in all environments.

        Args:
            seed: of all random numbers in them; None to keep their random states.
        """

    def updated(self, count: int) -> None:  # noqa: B027  a collector that acts with the policy itself has no use for it
        """Note that the policy changed.

        Args:
            count: updates since the last call.
        """

    def numbers(self) -> Mapping[str, float | int | None]:
        """Numbers to log with the newest batch."""
        return {"collect/policy_lag": 0, "collect/policy_lag_updates": 0, "collect/restarts": 0}

    @abstractmethod
    def close(self) -> None:
        """Close the environments, and end the processes they run in."""
