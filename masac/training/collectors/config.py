"""What a user can set about collecting."""

from __future__ import annotations

from dataclasses import dataclass

from masac.errors import check
from masac.settings import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """Who steps the training environments; task.num_workers is of those that this process steps, evaluation's too.

    Args:
        kind: local (this process), processes (others of this machine) or ray (actors, on many machines).
        num_workers: collectors; each steps an equal share of task.num_envs.
        address: ray only: of a cluster that runs (auto, or host:port), null to start one here that ends with the run.
        max_lag: how many pushes of weights a batch may be behind. 0 waits for a batch of the newest weights, as one
            process does; 1 collects the next batch while learning from this one; more evens out slow episodes.
        push_every: updates between two pushes of weights to the collectors.
        max_restarts: collectors that die and are replaced before the run gives up.
    """

    kind: str = setting("local", choices=("local", "processes", "ray"))
    num_workers: int = setting(1, low=1, unit="processes or actors")
    address: str | None = None
    max_lag: int = setting(1, low=0, unit="pushes")
    push_every: int = setting(1, low=1, unit="updates")
    max_restarts: int = setting(10, low=0, unit="collectors")

    def __post_init__(self) -> None:
        check_settings(self, "collector")
        rule = "be 1 with collector=local, which steps all environments in this process (processes and ray have more)"
        check("collector.num_workers", self.num_workers, self.kind != "local" or self.num_workers == 1, rule)
        rule = f"be null with collector={self.kind}: only collector=ray has a cluster"
        check("collector.address", self.address, self.kind == "ray" or self.address is None, rule)
