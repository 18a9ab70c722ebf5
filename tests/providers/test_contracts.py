"""What a contract says of failed jobs goes before a vendor's documents, from its date on."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from onetake.core.errors import Refused
from onetake.core.ports import Terms
from providers.admission import RouteAdmission
from providers.catalogue import load_catalogue
from providers.tariff import Tariff
from tests.providers.parts import request_for, settings

FILE = """
[[failed_job_cost]]
vendor = "apixo"
valid_from = 2026-12-01
cost = "free"
source = "contract 12"

[[failed_job_cost]]
vendor = "apixo"
valid_from = 2027-01-01
cost = "charged"
source = "contract 13"
"""


def written(path: Path, text: str) -> str:
    (path / "prices.toml").write_text(text, encoding="utf-8")
    return str(path / "prices.toml")


@pytest.mark.parametrize(
    ("at", "cost"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), "unknown"),
        (datetime(2026, 12, 1, tzinfo=UTC), "free"),
        (datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2))), "unknown"),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), "free"),
        (datetime(2027, 1, 1, tzinfo=UTC), "charged"),
        (datetime(2030, 1, 1, tzinfo=UTC), "charged"),
    ],
)
def test_the_latest_in_force_on_the_day_is_pinned(tmp_path: Path, at: datetime, cost: str) -> None:
    admission = RouteAdmission(settings(prices=written(tmp_path, FILE)))
    assert admission.plan(request_for(), Terms(at=at), base_queue="onetake").failed_job_cost == cost


def test_without_terms_it_is_todays_and_of_its_vendor_alone(tmp_path: Path) -> None:
    later = datetime.now(UTC).date() + timedelta(days=2)  # tomorrow may have begun when it is asked
    entries = (("apixo", "2020-01-01", "free"), ("apixo", later, "charged"), ("gmi", "2021-01-01", "refunded"))
    text = "".join(
        f'[[failed_job_cost]]\nvendor = "{vendor}"\nvalid_from = {day}\ncost = "{cost}"\nsource = "x"\n'
        for vendor, day, cost in entries
    )
    admission = RouteAdmission(settings(prices=written(tmp_path, text)))
    assert admission.plan(request_for(), base_queue="onetake").failed_job_cost == "free"


ENTRY = '[[failed_job_cost]]\nvendor = "apixo"\nvalid_from = 2026-12-01\ncost = "free"\nsource = "c"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.replace("apixo", "apixxo"), "'apixxo' is no vendor; the nearest is 'apixo'"),
        (ENTRY + ENTRY.replace("free", "charged"), "apixo has two entries of 2026-12-01"),
        (ENTRY.replace("free", "gratis"), "wrong at: failed_job_cost.0.cost"),
        (ENTRY.replace("2026-12-01", '"soon"'), "wrong at: failed_job_cost.0.valid_from"),
        (ENTRY.replace('"c"', '" "'), "wrong at: failed_job_cost.0.source"),
        (ENTRY.replace("source", "sauce"), "failed_job_cost.0.source"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        Tariff(load_catalogue(), written(tmp_path, text))
    assert refused.value.code == "settings_invalid"
    assert said in str(refused.value)
