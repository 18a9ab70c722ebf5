"""The development prices of `prices.toml`, for simulated vendors whose documents name none. Money is micro-USD."""

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

MICROS_PER_USD = 1_000_000
FILE = Path(__file__).with_name("prices.toml")


def micros_per_second(route: str) -> dict[str, int]:
    """What a second of output costs on `vendor/model/mode`, by resolution (`720p`, `1080p`)."""
    return {resolution: _micros(usd) for resolution, usd in _read()["usd_per_second"][route].items()}


def micros_per_credit(vendor: str) -> int:
    """What one credit of the vendor costs."""
    return _micros(_read()["credits"][vendor])


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def _micros(usd: str) -> int:
    return int(Decimal(usd) * MICROS_PER_USD)
