"""The config section ``collector``."""

from __future__ import annotations

from dataclasses import dataclass

from masac.errors import check
from masac.settings import check_settings, setting

COLLECTORS = {
    "local": "environments in this process, the default",
    "processes": "in others",
    "ray": "on a Ray cluster",
}
"""The kinds of collectors; ``make.py`` makes them."""


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """Where the training environments are stepped; task.num_workers is for environments that this process steps.

    Args:
        kind: local (in this process), processes (in other processes of this machine) or ray (in actors on any number of
            machines).
        num_workers: number of workers; each steps an equal share of task.num_envs.
        address: ray only: the address of a running cluster (auto, or host:port); null starts one that ends with the
            run.
        max_lag: how many pushes of weights a batch may be behind. 0 waits for a batch with the newest weights, as a
            single process does; 1 collects the next batch while learning from this one; more evens out slow episodes.
        push_every: updates between two pushes of weights to the workers.
        max_restarts: how many workers may die and be replaced before the run fails.
    """

    kind: str = setting("local", choices=tuple(COLLECTORS))
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
