"""The values of ``training.opponents``: what acts for a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from masac.errors import ConfigError

FORMS = "random, frozen:RUN_DIR[@CHECKPOINT], scripted:package.module:function, self-play or self-play:GROUP"


@dataclass(frozen=True, kw_only=True)
class OpponentName:
    """What acts for a group.

    Args:
        kind: random, frozen, scripted or self-play.
        what: a run, a function, or the group whose snapshots act (the group itself, if none is named).
    """

    kind: str
    what: str


def read_opponents(names: Mapping[str, str]) -> dict[str, OpponentName]:
    """The parsed values of ``training.opponents``, by group.

    Raises:
        ConfigError: for a value of another form.
    """
    return {group: _read(group, str(text)) for group, text in names.items()}


def _read(group: str, text: str) -> OpponentName:
    kind, _, what = text.partition(":")
    if kind == "random" and not what:
        return OpponentName(kind=kind, what="")
    if kind == "self-play":
        return OpponentName(kind=kind, what=what or group)
    if (kind == "frozen" and what) or (kind == "scripted" and ":" in what):
        return OpponentName(kind=kind, what=what)
    raise ConfigError(
        f"training.opponents.{group} must be {FORMS}; got {text!r}. Change it with training.opponents.{group}=..."
    )


def learns(group: str, opponents: Mapping[str, OpponentName]) -> bool:
    """Whether a group may learn: it has no opponent in its place, except past snapshots of itself."""
    return group not in opponents or opponents[group] == OpponentName(kind="self-play", what=group)
