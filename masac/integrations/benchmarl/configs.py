"""Configs for users of BenchMARL; the defaults are in ``masac/integrations/conf/algorithm``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

from benchmarl.algorithms import IsacConfig, MasacConfig  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

from masac.integrations.benchmarl.algorithms import GroupIsac, GroupMasac
from masac.integrations.benchmarl.options import GroupOptions


@dataclass
class GroupIsacConfig(GroupOptions, IsacConfig):
    """Config of :class:`GroupIsac`: the fields of BenchMARL's ``IsacConfig`` and those of :class:`GroupOptions`."""

    def __post_init__(self) -> None:
        """Raise ValueError for values that no loss takes."""
        super().__post_init__()
        self.check_critic_value("agent")

    @classmethod
    def get_from_yaml(cls, path: str | None = None) -> GroupIsacConfig:
        """The config in a file; masac's ``group_isac.yaml`` if None."""
        if path is not None:
            return super().get_from_yaml(path)
        with as_file(files("masac.integrations.conf") / "algorithm" / "group_isac.yaml") as own:
            return super().get_from_yaml(str(own))

    @staticmethod
    def associated_class() -> type[GroupIsac]:
        """The algorithm."""
        return GroupIsac


@dataclass
class GroupMasacConfig(GroupOptions, MasacConfig):
    """Config of :class:`GroupMasac`: the fields of BenchMARL's ``MasacConfig`` and of :class:`GroupOptions`, and one.

    Args:
        critic_value: for continuous actions: ``"agent"``, a value per agent; ``"team"``, one for the group.
    """

    critic_value: str

    def __post_init__(self) -> None:
        """Raise ValueError for values that no loss takes."""
        super().__post_init__()
        self.check_critic_value(self.critic_value)

    @classmethod
    def get_from_yaml(cls, path: str | None = None) -> GroupMasacConfig:
        """The config in a file; masac's ``group_masac.yaml`` if None."""
        if path is not None:
            return super().get_from_yaml(path)
        with as_file(files("masac.integrations.conf") / "algorithm" / "group_masac.yaml") as own:
            return super().get_from_yaml(str(own))

    @staticmethod
    def associated_class() -> type[GroupMasac]:
        """The algorithm."""
        return GroupMasac
