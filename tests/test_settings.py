"""Declarations of config fields."""

import math
from dataclasses import dataclass, field

import pytest

from masac.errors import ConfigError
from masac.settings import MAY_CHANGE, check_settings, setting, settings_of


@dataclass(frozen=True, kw_only=True)
class Inner:
    rows: int = setting(8, low=1, unit="rows", may_change=True)
    tau: float | None = setting(0.5, above=0, high=1)
    rate: float = setting(1.0, low=0)
    kind: str | None = setting("a", choices=(None, "a", "b"))
    plain: int = -1

    def __post_init__(self):
        check_settings(self, "inner")


@dataclass(frozen=True, kw_only=True)
class Outer:
    kept: Inner = field(default_factory=Inner)
    free: Inner = field(default_factory=Inner, metadata=MAY_CHANGE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 0}, "inner.rows must be at least 1; got 0. Change it with inner.rows=..."),
        ({"tau": 0.0}, "inner.tau must be in (0, 1]; got 0.0. Change it with inner.tau=..."),
        ({"tau": 1.5}, "inner.tau must be in (0, 1]; got 1.5. Change it with inner.tau=..."),
        ({"tau": math.nan}, "inner.tau must be in (0, 1]; got nan. Change it with inner.tau=..."),
        ({"rate": math.inf}, "inner.rate must be finite; got inf. Change it with inner.rate=..."),
        ({"kind": "c"}, "inner.kind must be one of null, a, b; got 'c'. Change it with inner.kind=..."),
    ],
)
def test_a_value_out_of_bounds_names_its_rule(values, message):
    with pytest.raises(ConfigError) as error:
        Inner(**values)
    assert str(error.value) == message


def test_bounds_themselves_and_null_are_right():
    Inner(rows=1, tau=1.0, kind=None)
    Inner(tau=None)


def test_settings_are_found_by_dotted_key():
    found = settings_of(Outer())
    assert found["kept.rows"].unit == "rows"
    assert {key for key, one in found.items() if one.may_change} == {
        "kept.rows",
        *(f"free.{name}" for name in ("rows", "tau", "rate", "kind", "plain")),
    }
