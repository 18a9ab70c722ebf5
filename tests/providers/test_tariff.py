"""Dated prices: the latest that is not in the future counts, by the ledger's day; a wrong file is refused whole."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetake.core.contracts import Price
from onetake.core.errors import Refused
from onetake.core.ports import Terms
from providers.admission import RouteAdmission
from providers.catalogue import ROUTES, load_catalogue, read_catalogue
from providers.pricing import Configured, in_force
from providers.tariff import Choice, Tariff
from tests.providers.parts import request_on, settings

ROUTE = "apixo/wan-2.6/text-to-video"
CREDITED = "wan26ai/wan-2.6/text-to-video"
CHOICE = Choice("720p", None, 5)
START = date(2026, 12, 1)
DATED = f"""
[usd_per_second."{ROUTE}"]
720p = "0.09"

[[price]]
route = "{ROUTE}"
valid_from = 2026-12-01
usd_per_second = {{ 720p = "0.20" }}
source = "contract 12"

[[price]]
route = "{ROUTE}"
valid_from = 2027-01-01
usd_per_second = {{ 720p = "0.05", 1080p = "0.06" }}

[[credit]]
vendor = "wan26ai"
valid_from = 2026-12-01
usd = "0.02"
"""

days = st.dates(START - timedelta(days=40), START + timedelta(days=40))


def tariff(folder: Path, text: str) -> Tariff:
    path = folder / "prices.toml"
    path.write_text(text)
    return Tariff(load_catalogue(), str(path))


def wrong(folder: Path, text: str) -> str:
    with pytest.raises(Refused) as refused:
        tariff(folder, text)
    assert refused.value.code == "settings_invalid"
    return refused.value.detail


@given(begins=st.lists(st.none() | days, unique=True), day=days)
def test_the_latest_price_that_is_not_in_the_future_counts(begins: list[date | None], day: date) -> None:
    entries = [Configured(usd=Decimal(number + 1), valid_from=each) for number, each in enumerate(begins)]
    found = in_force(entries, day)
    begun = [each for each in begins if each is None or each <= day]
    assert (found is None) == (not begun)
    if found is not None:
        assert found.valid_from in begun
        assert all((each or date.min) <= (found.valid_from or date.min) for each in begun)


def test_each_price_counts_from_its_day_on_and_says_which_it_was(tmp_path: Path) -> None:
    prices = tariff(tmp_path, DATED)
    told = [
        (found.price.amount_micros, found.price.table_version, found.source)
        for day in ("2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01")
        if (found := prices.price(ROUTE, CHOICE, date.fromisoformat(day)))
    ]
    version = prices.version
    assert told == [
        (450_000, f"{version}/undated", "ONETAKE_PRICES"),
        (1_000_000, f"{version}/2026-12-01", "contract 12"),
        (1_000_000, f"{version}/2026-12-01", "contract 12"),
        (250_000, f"{version}/2027-01-01", "ONETAKE_PRICES"),
    ]
    other = Choice("1080p", None, 5)
    assert prices.price(ROUTE, other, START).price.amount_micros == 750_000, "the document's, until it is configured"
    assert prices.days(ROUTE) == [date(2026, 11, 20), START, date(2027, 1, 1)]


def test_a_table_and_its_credit_count_from_the_later_day(tmp_path: Path) -> None:
    prices = tariff(tmp_path, f'[credits]\nwan26ai = "0.01"\n{DATED}')
    before, after = [prices.price(CREDITED, CHOICE, START - timedelta(days=less)).price for less in (1, 0)]
    assert (before.amount_micros, before.table_version) == (800_000, f"{prices.version}/2026-11-20")
    assert (after.amount_micros, after.table_version) == (1_600_000, f"{prices.version}/2026-12-01")


def test_the_version_changes_with_any_byte_of_either_source(tmp_path: Path) -> None:
    first, second = tariff(tmp_path, DATED).version, Tariff(load_catalogue(), None).version
    (tmp_path / "other").mkdir()
    assert len({first, second, tariff(tmp_path / "other", f"{DATED}#").version}) == 3


def test_the_day_is_the_ledgers_and_utc(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(DATED)
    admission = RouteAdmission(settings(prices=str(path)))

    def price_at(at: datetime) -> Price:
        return admission.plan(request_on(ROUTE), Terms(at=at), base_queue="onetake").price

    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    assert price_at(midnight - timedelta(microseconds=1)).amount_micros == 450_000
    assert price_at(midnight).amount_micros == 1_000_000


def test_no_price_counts_before_the_first_day_of_the_document() -> None:
    with pytest.raises(Refused) as refused:
        Tariff(read_catalogue(ROUTES), None).price(ROUTE, CHOICE, date(2026, 11, 19))
    assert refused.value.code == "price_missing"


def test_all_names_that_the_catalogue_does_not_have_are_told_with_the_nearest(tmp_path: Path) -> None:
    detail = wrong(
        tmp_path,
        f"""
        [credits]
        wan26 = "1"
        [usd_per_second]
        "apixo/wan-2.6/txt-to-video" = {{ 720p = "1" }}
        "{ROUTE}" = {{ 720 = "1" }}
        """,
    )
    for told in (
        "no vendor wan26; nearest: wan26ai",
        f"nearest: {ROUTE})",
        f"720 (no resolution of {ROUTE}; nearest: 720p",
    ):
        assert told in detail


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            DATED + DATED.partition("[[credit]]")[2].join(["[[credit]]", ""]),
            "credit (two of wan26ai from 2026-12-01 on)",
        ),
        (
            f'{DATED}\n[[price]]\nroute = "{ROUTE}"\nvalid_from = 2026-12-01\nusd_per_second = {{ 720p = "1" }}',
            f"price (two of {ROUTE} at 720p from 2026-12-01 on)",
        ),
        ('[[credit]]\nvendor = "wan26ai"\nusd = "1"', "credit.0.valid_from"),
        ('[[credit]]\nvendor = "wan26ai"\nusd = "1"\nvalid_from = "soon"', "credit.0.valid_from"),
        (f'[[price]]\nroute = "{ROUTE}"\nvalid_from = 2026-12-01\nusd_per_second = {{}}', "price.0.usd_per_second"),
    ],
)
def test_a_day_that_is_given_twice_or_not_at_all_is_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in wrong(tmp_path, text)
