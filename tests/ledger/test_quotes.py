"""A quote holds its price through any changes of prices and any times, until it expires by the database's clock."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetake.client import Onetake
from onetake.core.contracts import GenerationRequest, Plan, Price
from onetake.core.errors import Failed, Refused
from onetake.core.ids import new_generation_id, new_quote_id, workflow_id_of
from onetake.ledger import Database, PostgresGenerations, PostgresQuotes, PostgresTerms
from onetake.ledger.database import Session
from providers.admission import RouteAdmission
from tests.ledger.databases import fresh_database
from tests.providers import parts

ROUTE: Final = "apixo/wan-2.6/text-to-video"
USD: Final = ("0.05", "0.10", "0.40", "1.7")
START: Final = datetime(2026, 11, 29, 23, 50, tzinfo=UTC)  # ten minutes to midnight: quotes outlive the day
LIFE: Final = timedelta(minutes=15)
TENANTS: Final = count()

Admit = Callable[[str], RouteAdmission]


@pytest.fixture(scope="module")
async def database(server: Session, server_url: str, template_url: str) -> AsyncIterator[Database]:
    """One for all tests of this file; its clock is theirs."""
    async with fresh_database(server, server_url, template_url) as url:
        opened = await Database.connect(url)
        yield opened
        await opened.close()


@pytest.fixture(scope="module")
def admit(tmp_path_factory: pytest.TempPathFactory) -> Admit:
    """The admission of a process at this price of a second."""
    folder = tmp_path_factory.mktemp("prices")

    def admit(usd: str) -> RouteAdmission:
        prices: Path = folder / f"{usd}.toml"
        prices.write_text(f'[usd_per_second]\n"{ROUTE}" = {{ 720p = "{usd}", 1080p = "{usd}" }}\n')
        return RouteAdmission(parts.settings(prices=str(prices)), sends=False)

    return admit


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest.model_validate({"route": ROUTE, "prompt": "a fox", "tenant": "acme"} | fields)


async def set_clock(database: Database, moment: datetime) -> None:
    await database.row(
        "create or replace function onetake.clock() returns timestamptz language sql stable"
        f" as $$select timestamptz '{moment.isoformat()}'$$"
    )


async def quoted(database: Database, admission: RouteAdmission, request: GenerationRequest) -> tuple[str, Plan]:
    """What `Onetake.quote` does."""
    plan = admission.plan(request, await PostgresTerms(database).of(request), base_queue="onetake")
    quote_id = new_quote_id()
    await PostgresQuotes(database).make(quote_id, request, plan)
    return quote_id, plan


async def admitted(database: Database, admission: RouteAdmission, request: GenerationRequest) -> Plan:
    return admission.plan(request, await PostgresTerms(database).of(request), base_queue="onetake")


async def refusal(database: Database, admission: RouteAdmission, request: GenerationRequest) -> Refused:
    with pytest.raises(Refused) as refused:
        await admitted(database, admission, request)
    return refused.value


@dataclass
class World:
    """What a caller may rely on: the price of now, and every quote with its price and its last moment."""

    usd: str = USD[0]
    now: datetime = START
    quotes: list[tuple[str, int, datetime]] = field(default_factory=list[tuple[str, int, datetime]])


step = st.one_of(
    st.tuples(st.just("price"), st.sampled_from(USD)),
    st.tuples(st.just("later"), st.sampled_from([1, 60, 899, 900, 86_400])),
    st.tuples(st.just("quote"), st.none()),
    st.tuples(st.just("use"), st.integers(0, 5)),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(step, min_size=4, max_size=20))
async def test_a_quote_holds_its_price_until_it_expires_and_not_a_moment_longer(
    database: Database, admit: Admit, steps: list[tuple[str, Any]]
) -> None:
    request, world = asked(tenant=f"t{next(TENANTS)}"), World()
    await set_clock(database, world.now)
    for kind, value in steps:
        match kind:
            case "price":
                world.usd = value
            case "later":
                world.now += timedelta(seconds=value)
                await set_clock(database, world.now)
            case "quote":
                quote_id, plan = await quoted(database, admit(world.usd), request)
                world.quotes.append((quote_id, plan.price.amount_micros, world.now + LIFE))
            case _:
                for held in world.quotes[value:]:
                    await used(database, admit, request, world, held)


async def used(
    database: Database, admit: Admit, request: GenerationRequest, world: World, held: tuple[str, int, datetime]
) -> None:
    quote_id, amount_micros, expires_at = held
    wanted = request.model_copy(update={"quote_id": quote_id})
    now_micros = (await admitted(database, admit(world.usd), request)).price.amount_micros
    if world.now < expires_at:
        assert (await admitted(database, admit(world.usd), wanted)).price.amount_micros == amount_micros
    else:
        refused = await refusal(database, admit(world.usd), wanted)
        shown = f"It costs ${now_micros / 1_000_000:.2f} now."
        assert (refused.code, refused.detail) == ("quote_expired", shown)


async def test_a_quote_pins_the_choices_that_the_request_left_open(database: Database, admit: Admit) -> None:
    await set_clock(database, START)
    request = asked()
    _, plan = await quoted(database, admit("0.05"), request)
    longer = plan.model_copy(update={"duration_s": 9, "resolution": "1080p", "price": _price(7)})
    quote_id = new_quote_id()
    await PostgresQuotes(database).make(quote_id, request, longer)
    pinned = await admitted(database, admit("1.7"), request.model_copy(update={"quote_id": quote_id}))
    assert (pinned.duration_s, pinned.resolution, pinned.width, pinned.price) == (9, "1080p", 1920, _price(7))


async def test_choices_that_the_route_no_longer_allows_are_refused_although_they_were_quoted(
    database: Database, admit: Admit
) -> None:
    await set_clock(database, START)
    request = asked()
    _, plan = await quoted(database, admit("0.05"), request)
    quote_id = new_quote_id()
    await PostgresQuotes(database).make(quote_id, request, plan.model_copy(update={"duration_s": 99}))
    refused = await refusal(database, admit("0.05"), request.model_copy(update={"quote_id": quote_id}))
    assert (refused.code, refused.violations[0].pointer) == ("request_invalid", "/duration_s")


async def test_a_quote_is_for_one_request_of_one_tenant(database: Database, admit: Admit) -> None:
    await set_clock(database, START)
    quote_id, _ = await quoted(database, admit("0.05"), asked())
    answers = {
        "quote_differs": asked(quote_id=quote_id, prompt="another fox"),
        "quote_not_found": asked(quote_id=quote_id, tenant="other"),
    }
    for code, request in answers.items():
        assert (await refusal(database, admit("0.05"), request)).code == code
    unknown = asked(quote_id=new_quote_id())
    assert (await refusal(database, admit("0.05"), unknown)).code == "quote_not_found"
    with_key = asked(quote_id=quote_id, idempotency_key="k")
    assert (await admitted(database, admit("1.7"), with_key)).price.amount_micros == 250_000


async def test_a_quote_above_what_the_request_allows_is_refused(database: Database, admit: Admit) -> None:
    """The limit is part of the request, so the quote could only be made before a change of our own."""
    await set_clock(database, START)
    request = asked(max_cost_usd="0.30")
    _, plan = await quoted(database, admit("0.05"), request)
    quote_id = new_quote_id()
    await PostgresQuotes(database).make(quote_id, request, plan.model_copy(update={"price": _price(300_001)}))
    refused = await refusal(database, admit("0.05"), request.model_copy(update={"quote_id": quote_id}))
    assert refused.code == "max_cost_exceeded"


async def test_a_quote_without_the_ledgers_terms_is_never_ignored(admit: Admit) -> None:
    with pytest.raises(Refused) as refused:
        admit("0.05").plan(asked(quote_id=new_quote_id()), base_queue="onetake")
    assert refused.value.code == "quote_not_found"


async def test_a_repeated_key_returns_its_generation_after_the_quote_expired(database: Database, admit: Admit) -> None:
    await set_clock(database, START)
    quote_id, _ = await quoted(database, admit("0.05"), asked())
    request = asked(quote_id=quote_id, idempotency_key="repeated")
    plan, generations = await admitted(database, admit("1.7"), request), PostgresGenerations(database)
    row = await generations.accept_once(request, workflow_id=workflow_id_of("acme", new_generation_id()), plan=plan)
    await set_clock(database, START + LIFE)
    for again in (request, request.model_copy(update={"quote_id": None})):
        first = await generations.first_of(again)
        assert first is not None
        assert (first.id, first.plan) == (row.id, plan)


async def test_a_client_makes_quotes_and_makes_none_of_a_quote(database_url: str, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[usd_per_second]\n"{ROUTE}" = {{ 720p = "0.05" }}\n')
    own = parts.settings(prices=str(prices), database_url=database_url)
    async with Onetake.connect(own) as onetake:
        quote = await onetake.quote(asked())
        assert (quote.plan.price.amount_micros, quote.plan) == (250_000, await onetake.plan(asked()))
        assert await onetake.plan(asked(quote_id=quote.id)) == quote.plan
        with pytest.raises(Refused) as refused:
            await onetake.quote(asked(quote_id=quote.id))
    assert refused.value.violations[0].pointer == "/quote_id"


async def test_quotes_never_change_and_are_forgotten_a_day_after_they_expired(database: Database, admit: Admit) -> None:
    quotes = PostgresQuotes(database)
    await set_clock(database, START + timedelta(days=400))
    await quotes.forget()
    quote_id, _ = await quoted(database, admit("0.05"), asked())
    with pytest.raises(Failed, match="OT001"):
        await database.row("update onetake.quote set expires_at = made_at + interval '1 day' where id = $1", quote_id)
    for after, gone in ((LIFE, 0), (LIFE + timedelta(days=1), 0), (LIFE + timedelta(days=1, seconds=1), 1)):
        await set_clock(database, START + timedelta(days=400) + after)
        assert await quotes.forget() == gone
    assert await quotes.forget() == 0


def _price(amount_micros: int) -> Price:
    return Price(amount_micros=amount_micros, unit="quoted", table_version="then")
