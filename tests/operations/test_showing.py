"""What a pass shows of the books."""

from datetime import date
from decimal import Decimal

from onetake.ledger.drift import Drift
from onetake.operations.showing import drift_by_vendor


def drift(route: str, reported: int) -> Drift:
    return Drift(route=route, week=date(2026, 11, 23), count=1, expected_micros=100, reported_micros=reported)


def test_two_routes_do_not_make_up_for_each_other() -> None:
    assert drift_by_vendor([drift("a/x/t", 150), drift("a/y/t", 50), drift("b/x/t", 130)]) == {"a": 100, "b": 30}
    assert not drift("a/x/t", 104).is_beyond(Decimal(5))
