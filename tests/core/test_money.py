"""Integer micro-dollars: exact in, exact out, rounded up where something is held."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetake.core.money import LARGEST_MICROS, MICROS_PER_USD, format_usd, micros_up, parse_usd

MICROS = st.integers(-LARGEST_MICROS, LARGEST_MICROS)


@given(MICROS)
def test_what_is_shown_is_read_back_as_it_was(micros: int) -> None:
    assert micros == parse_usd(format_usd(micros).replace("$", ""))


@given(MICROS)
def test_whole_micros_are_never_rounded(micros: int) -> None:
    assert micros == micros_up(Decimal(micros).scaleb(-6))


@given(st.decimals(0, 10_000_000, places=9))
def test_a_part_of_a_micro_is_rounded_up(usd: Decimal) -> None:
    micros = micros_up(usd)
    assert usd * MICROS_PER_USD <= micros < usd * MICROS_PER_USD + 1


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (37_500, "$0.0375"),
        (500_000, "$0.50"),
        (1_000_000, "$1.00"),
        (1_234_567_890_000, "$1234567.89"),
        (-2_500_000, "-$2.50"),
        (-1, "-$0.000001"),
    ],
)
def test_dollars_have_two_to_six_decimals(micros: int, shown: str) -> None:
    assert shown == format_usd(micros)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("12.50", 12_500_000),
        ("0", 0),
        ("0.000001", 1),
        ("-3", -3_000_000),
        (".5", 500_000),
        ("1.", 1_000_000),
        (" 5 ", 5_000_000),
    ],
)
def test_an_amount_is_read(text: str, micros: int) -> None:
    assert micros == parse_usd(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1,50",
        "$5",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "0.0000001",
        "9223372036854.775808",
        "1e2",
        "1_0",
        "\uff11\uff12",  # the digits 1 and 2, full-width
        ".",
        "1" + "0" * 30,
        "1.0000000000000000000000000000000001",
    ],
)
def test_what_is_no_exact_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount in USD"):
        parse_usd(text)
