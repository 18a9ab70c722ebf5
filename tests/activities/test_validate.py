"""The plan is pinned once: whoever writes it first, the row, the answer of every validation and the hold are one plan.

The engine's part is made up, and so is what the inputs' bytes show; database, catalogue and prices are real.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from activities.inspect import Inspect, Looks
from activities.validate import Validate
from onetake.core.contracts import GenerationRequest, InspectInput, Plan, ReserveInput, Validated, ValidateInput
from onetake.core.errors import Refused, TryLater
from onetake.core.ids import new_generation_id, new_quote_id, workflow_id_of
from onetake.core.names import FIRST_ATTEMPT, InputKind
from onetake.core.ports import MediaRules
from onetake.ledger import Database, PostgresGenerations, PostgresLedger, PostgresQuotes, PostgresTerms
from onetake.ledger.database import Session
from providers.admission import RouteAdmission
from tests.ledger.databases import fresh_database
from tests.providers import parts

ROUTE: Final = "aivideoapi/wan-2.6/reference-to-video"
BASE_QUEUE: Final = "the client's"
SECONDS: Final = 5


@dataclass(frozen=True)
class Deployment:
    """The settings of one process."""

    usd_per_second: str
    time_scale: float
    exclusive_keys: str


deployments = st.builds(
    Deployment,
    st.sampled_from(["0.05", "0.20", "1.7"]),
    st.sampled_from([0.01, 1.0]),
    st.sampled_from(["", "aivideoapi"]),
)
CHEAP, DEAR = Deployment("0.05", 1.0, ""), Deployment("1.7", 0.01, "aivideoapi")

Admit = Callable[..., RouteAdmission]


@dataclass(frozen=True)
class Showing:
    """Input media whose references are all of one kind, or no media at all."""

    kind: InputKind | None = "video"

    async def inspect(self, rules: MediaRules, *, last_look: bool) -> Mapping[str, InputKind]:
        del last_look
        if self.kind is None:
            raise Refused("input_not_usable")
        return {rule.pointer: self.kind for rule in rules.inputs}


@pytest.fixture(scope="module")
async def database(server: Session, server_url: str, template_url: str) -> AsyncIterator[Database]:
    """One for all tests of this file."""
    async with fresh_database(server, server_url, template_url) as url:
        opened = await Database.connect(url)
        yield opened
        await opened.close()


@pytest.fixture(scope="module")
def admit(tmp_path_factory: pytest.TempPathFactory) -> Admit:
    """The admission of a process with these settings."""
    folder = tmp_path_factory.mktemp("prices")

    def admit(deployment: Deployment, *, sends: bool = True, **named: Any) -> RouteAdmission:
        prices: Path = folder / f"{deployment.usd_per_second}.toml"
        prices.write_text(f'[usd_per_second]\n"{ROUTE}" = {{ 720p = "{deployment.usd_per_second}" }}\n')
        own = {"time_scale": deployment.time_scale, "exclusive_keys": deployment.exclusive_keys, "prices": str(prices)}
        return RouteAdmission(parts.settings(**own | named), sends=sends)

    return admit


def asked(**fields: Any) -> GenerationRequest:
    references = ("https://example.com/one.mp4", "https://example.com/two.mp4")
    given = {"references": references, "resolution": "720p", "duration_s": SECONDS, "tenant": "acme"}
    return parts.request_on(ROUTE, **given | fields)


def new_workflow_id() -> str:
    return workflow_id_of("acme", new_generation_id())


async def validated(
    database: Database,
    catalogue: RouteAdmission,
    request: GenerationRequest,
    workflow_id: str,
    kind: InputKind | None = "video",
) -> Validated:
    """One attempt of a worker at each half."""
    generations = PostgresGenerations(database)
    order = ValidateInput(request=request, workflow_id=workflow_id, run_id="run")
    answer = await ActivityEnvironment().run(Validate(catalogue, generations, PostgresTerms(database)).validate, order)
    if answer.plan is None:
        return answer
    look = InspectInput(generation_id=answer.generation_id, request=request, plan=answer.plan)
    return await ActivityEnvironment().run(Inspect(catalogue, generations, Showing(kind)).inspect, look)


async def stored_plan(database: Database, generation_id: str) -> Plan | None:
    row = await database.answer("select plan::text from onetake.generation where id = $1", generation_id)
    return Plan.model_validate_json(row["plan"]) if row["plan"] else None


async def held_micros(database: Database, generation_id: str, plan: Plan) -> int:
    order = ReserveInput(
        generation_id=generation_id,
        attempt=FIRST_ATTEMPT,
        tenant="acme",
        user=None,
        feature=None,
        route=ROUTE,
        vendor=plan.vendor,
        price=plan.price,
    )
    return (await PostgresLedger(database).reserve(order)).amount_micros


def but_for_kinds(plan: Plan) -> Plan:
    return plan.model_copy(update={"reference_kinds": ()})


@settings(max_examples=20, deadline=None)
@given(
    client=deployments, workers=st.lists(deployments, min_size=1, max_size=3), plain=st.booleans(), image=st.booleans()
)
async def test_quote_row_answer_and_hold_are_one_plan(
    database: Database, admit: Admit, client: Deployment, workers: list[Deployment], plain: bool, image: bool
) -> None:
    request, workflow_id, kind = asked(), new_workflow_id(), "image" if image else "video"
    admissions = [admit(each) for each in workers]
    allowed = [each.plan(request, base_queue=ActivityEnvironment().info.task_queue) for each in admissions]
    if not plain:
        quote = admit(client, sends=False).plan(request, base_queue=BASE_QUEUE)
        row = await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=quote)
        assert row.plan == quote
        allowed = [quote]

    answers = await asyncio.gather(*(validated(database, each, request, workflow_id, kind) for each in admissions))
    plan = answers[0].plan
    assert plan is not None
    assert all(answer == answers[0] for answer in answers)
    assert plan.reference_kinds == (kind, kind)
    assert but_for_kinds(plan) in [but_for_kinds(each) for each in allowed]
    assert await stored_plan(database, answers[0].generation_id) == plan
    assert await held_micros(database, answers[0].generation_id, plan) == plan.price.amount_micros

    late = await validated(database, admit(DEAR), request, workflow_id, "video" if image else "image")
    assert late.plan == plan, "what the run goes by was changed"


async def test_a_run_that_was_started_directly_pays_what_its_quote_says(database: Database, admit: Admit) -> None:
    """The worker's own prices have risen since; once the quote has expired it refuses, and pins nothing."""
    plan, quote_id = admit(CHEAP).plan(asked(), base_queue=BASE_QUEUE), new_quote_id()
    await PostgresQuotes(database).make(quote_id, asked(), plan)
    answer = await validated(database, admit(DEAR), asked(quote_id=quote_id), new_workflow_id())
    assert answer.plan is not None
    assert answer.plan.price == plan.price
    assert answer.plan.time_scale == DEAR.time_scale, "all but the price and the choices is the worker's"
    older = new_quote_id()
    await database.row(
        """insert into onetake.quote select $2, tenant, request_sha256, plan, made_at - interval '1 hour', now()
        from onetake.quote where id = $1""",
        quote_id,
        older,
    )
    late = await validated(database, admit(DEAR), asked(quote_id=older), new_workflow_id())
    assert late.error is not None
    assert (late.plan, late.error.code) == (None, "quote_expired")
    assert await stored_plan(database, late.generation_id) is None


async def test_a_worker_that_may_not_send_refuses_what_a_client_has_pinned(database: Database, admit: Admit) -> None:
    request, workflow_id = asked(), new_workflow_id()
    quote = admit(CHEAP, sends=False).plan(request, base_queue=BASE_QUEUE)
    await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=quote)
    answer = await validated(database, admit(DEAR, aivideoapi_api_key=None), request, workflow_id)
    assert answer.error is not None
    assert (answer.plan, answer.error.code) == (None, "vendor_key_missing")
    assert await stored_plan(database, answer.generation_id) == quote


async def test_the_most_that_it_may_cost_is_held_against_the_price_that_is_stored(
    database: Database, admit: Admit
) -> None:
    dear = admit(DEAR).plan(asked(), base_queue=BASE_QUEUE)
    cheap = admit(CHEAP).plan(asked(), base_queue=BASE_QUEUE)
    for plan, code in ((cheap, None), (dear, "max_cost_exceeded")):
        request, workflow_id = asked(max_cost_usd="2"), new_workflow_id()
        await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=plan)
        answer = await validated(database, admit(DEAR if plan is cheap else CHEAP), request, workflow_id)
        assert (answer.error.code if answer.error else None) == code


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"resolution": "8k"}, "video", "request_invalid"),
        ({"max_cost_usd": "0.01"}, "video", "max_cost_exceeded"),
        ({}, None, "input_not_usable"),
    ],
)
async def test_what_a_plain_client_may_not_have_leaves_a_row_without_a_plan(
    database: Database, admit: Admit, fields: dict[str, Any], kind: InputKind | None, code: str
) -> None:
    request, workflow_id = asked(**fields), new_workflow_id()
    for _ in range(2):
        answer = await validated(database, admit(CHEAP), request, workflow_id, kind)
        assert answer.error is not None
        assert (answer.plan, answer.error.code) == (None, code)
        assert await stored_plan(database, answer.generation_id) is None


@dataclass
class Failing:
    """Looks that end with these errors, one after the other; `last` is what each was told."""

    codes: list[str]
    last: list[bool] = field(default_factory=list[bool])

    async def inspect(self, rules: MediaRules, *, last_look: bool) -> Mapping[str, InputKind]:
        del rules
        self.last.append(last_look)
        raise TryLater(self.codes.pop(0))


def _collect(beats: list[Any], *told: Any) -> None:
    beats.append(told)


async def test_an_attempt_whose_turn_had_not_come_is_no_look(database: Database, admit: Admit) -> None:
    """Or a request that waited for others would be refused at its first look, at a host that is busy for a moment."""
    codes = ["inputs_busy"] * 5 + ["input_not_usable", "inputs_busy", "input_not_usable", "input_not_usable"]
    looking, details = Failing(codes), ()
    plan = admit(CHEAP).plan(asked(), base_queue=BASE_QUEUE)
    order = InspectInput(generation_id=new_generation_id(), request=asked(), plan=plan)
    for _ in range(len(codes)):
        engine = ActivityEnvironment()
        engine.info = replace(engine.info, heartbeat_details=details)
        beats: list[Any] = []
        engine.on_heartbeat = partial(_collect, beats)
        with pytest.raises(TryLater):
            await engine.run(Inspect(admit(CHEAP), PostgresGenerations(database), looking).inspect, order)
        details = tuple(Looks.model_validate(one).model_dump() for one in beats[-1]) if beats else details
    assert looking.last == [False] * 8 + [True]
