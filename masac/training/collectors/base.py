"""What the trainer knows of a collector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from tensordict import TensorDictBase


class Collector(ABC):
    """Steps environments with a policy that acts with noise; those that end are reset, and go on.

    Attributes:
        restarted: the environments that began new episodes with the newest batch, without an end of the ones before.
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
            seed: of everything random in them; None to go on with their random numbers.
        """

    def updated(self, count: int) -> None:  # noqa: B027  a collector that uses the policy itself need not know
        """Be told that the policy changed: by so many updates since the last time."""

    def numbers(self) -> Mapping[str, float | int | None]:
        """What to log with the newest batch."""
        return {"collect/policy_lag": 0, "collect/policy_lag_updates": 0, "collect/restarts": 0}

    @abstractmethod
    def close(self) -> None:
        """Close the environments, and end the processes they run in."""
