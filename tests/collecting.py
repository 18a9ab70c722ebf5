"""Compares many values in one test and reports every one that differs, not the first."""

from collections.abc import Iterable

Case = tuple[object, object, object]


def assert_all_as_expected(cases: Iterable[Case]) -> None:
    """Each case is a value, what is expected for it and what came; the message has a line for each that differs."""
    compared = list(cases)
    assert compared, "no value was compared"
    differing = [case for case in compared if case[1] != case[2]]
    lines = (f"{value!r:.300}\n  expected {expected!r}\n  got      {got!r}" for value, expected, got in differing)
    assert not differing, f"{len(differing)} of {len(compared)} values differ:\n" + "\n".join(lines)
