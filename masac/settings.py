"""What a field of a config declares beside its type and default: bounds, choices, unit, and whether it may change."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from masac.errors import check


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The declaration of a field.

    Args:
        low: the smallest value.
        above: what the value must be greater than.
        high: the largest value.
        choices: the possible values.
        unit: of the value, for the documentation.
        may_change: whether a resumed run may have another value than before.
    """

    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: Collection[object] | None = None
    unit: str | None = None
    may_change: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is finite and within the bounds, or among the choices. None ("null") has no bounds."""
        if self.choices is not None:
            return value in self.choices
        return value is None or (
            not _is_infinite(value)
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )

    @property
    def rule(self) -> str:
        """The bounds or choices, to complete "<name> must ..."."""
        if self.choices is not None:
            return f"be one of {', '.join('null' if one is None else str(one) for one in self.choices)}"
        if self.high is None:
            return f"be at least {self.low:g}" if self.above is None else f"be greater than {self.above:g}"
        start = f"[{self.low:g}" if self.above is None else f"({self.above:g}"
        return f"be in {start}, {self.high:g}]"


def setting(default: Any, **declared: Any) -> Any:
    """A field of a config dataclass.

    Args:
        default: its value if none is given.
        declared: the arguments of :class:`Setting`.
    """
    return field(default=default, metadata={"setting": Setting(**declared)})


MAY_CHANGE = {"setting": Setting(may_change=True)}
"""The metadata of a section of which a resumed run may change everything."""


def settings_of(config: Any) -> dict[str, Setting]:
    """The declarations of all fields of a config and of its sections, by dotted key.

    Args:
        config: an instance. If a section may change, so may all of its fields.
    """
    found: dict[str, Setting] = {}
    for one in fields(config):
        declared, value = one.metadata.get("setting", Setting()), getattr(config, one.name)
        if is_dataclass(value):
            for key, inner in settings_of(value).items():
                found[f"{one.name}.{key}"] = replace(inner, may_change=inner.may_change or declared.may_change)
        else:
            found[one.name] = declared
    return found


def check_settings(config: Any, section: str) -> None:
    """Raise :class:`ConfigError` for a field of a config that is out of its bounds or none of its choices.

    Args:
        config: an instance, of which sections are not looked into.
        section: its name, ``training`` say.
    """
    for one in fields(config):
        declared, value = one.metadata.get("setting", Setting()), getattr(config, one.name)
        if not declared.holds(value):
            rule = "be finite" if _is_infinite(value) and declared.choices is None else declared.rule
            check(f"{section}.{one.name}", value, False, rule)


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)
