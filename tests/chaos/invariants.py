"""The checker: the invariants by their numbers, each a function from the evidence to the violations it found, as text.

Left out, because what they are about is not built yet: I11 (events to subscribers), I15 (answers to other tenants)
and I20 (the published catalogue of errors). I26, that every crash point has killed somebody, is about all tests
together: `tests/system/test_kills_*.py` asserts it. `lost` and `found` are the promise in its own
words; `looked` says when there was nothing to look at.
"""

from collections.abc import Callable, Mapping
from typing import Final

from tests.chaos import bucket, histories, life, money, secrecy, vendor
from tests.chaos.evidence import Evidence

INVARIANTS: Final[Mapping[str, Callable[[Evidence], list[str]]]] = {
    "I1": money.i1,
    "I2": money.i2,
    "I3": money.i3,
    "I4": vendor.i4,
    "I5": vendor.i5,
    "I6": bucket.i6,
    "I7": histories.i7,
    "I8": histories.i8,
    "I9": money.i9,
    "I10": life.i10,
    "I12": bucket.i12,
    "I13": secrecy.i13,
    "I14": secrecy.i14,
    "I16": secrecy.i16,
    "I17": histories.i17,
    "I18": histories.i18,
    "I19": lambda _: histories.i19(),
    "I21": life.i21,
    "I22": bucket.i22,
    "I23": vendor.i23,
    "I24": life.i24,
    "I25": life.i25,
    "I27": life.i27,
    "I28": money.i28,
    "I31": vendor.i31,
    "looked": life.looked,
    "lost": vendor.lost,
    "found": vendor.found,
}


def check_all(evidence: Evidence) -> dict[str, list[str]]:
    """Every invariant with what breaks it; all lists are empty when all is well."""
    return {number: check(evidence) for number, check in INVARIANTS.items()}


def broken(evidence: Evidence) -> dict[str, list[str]]:
    """Only what is broken."""
    return {number: found for number, found in check_all(evidence).items() if found}
