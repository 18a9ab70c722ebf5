"""Integer micro-dollars: 1 USD is 1,000,000 micros. Floats never touch money."""

import re
from decimal import ROUND_CEILING, Decimal

MICROS_PER_USD = 1_000_000
LARGEST_MICROS = 2**63 - 1
LARGEST_CHARGE_MICROS = 10**15  # of one job; sums of thousands of them are still numbers of the ledger
MOST_DIGITS = 30


def micros_up(usd: Decimal) -> int:
    """Turn dollars into micros, rounded up: what is reserved must never fall short of what is charged."""
    return int((usd * MICROS_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def parse_usd(text: str) -> int:
    """Read a plain decimal of dollars such as ``12.50``. Raises ValueError for anything else, and for what is not a
    whole number of micros."""
    wrong = ValueError(f"{text[:32]!r} is not an amount in USD with at most six decimals")
    # Decimal also reads exponents, underscores between digits and the digits of every script.
    if not re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\s*", text, re.ASCII):
        raise wrong
    usd = Decimal(text)
    if abs(usd.adjusted()) > MOST_DIGITS:
        raise wrong
    numerator, denominator = usd.as_integer_ratio()
    micros, rest = divmod(numerator * MICROS_PER_USD, denominator)
    if rest or abs(micros) > LARGEST_MICROS:
        raise wrong
    return micros


def format_usd(micros: int) -> str:
    """Show micros as dollars with at least two and at most six decimals: ``$0.50``, ``$0.0375``."""
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), MICROS_PER_USD)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{decimals}"
