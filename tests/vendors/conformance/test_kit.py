"""The kit passes every vendor that is shipped, and catches each way in which an adapter could cost money or leak.

It is over 400 lines because each scenario of the kit has a broken adapter here that it must catch.
"""

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from onetake.core.contracts import ErrorInfo, Plan, StatusReading
from onetake.core.names import VENDOR_NAMES
from onetake.core.ports import Account, SubmitOrder, SubmitOutcome, VendorStatus
from onetake.dev.conformance import Registries, check, shipped_registries
from onetake.dev.conformance.answers import (
    a_callback_names_its_job,
    a_clip_under_an_odd_word_is_shown,
    a_failed_job_has_failed,
    a_finished_job_has_its_links,
    a_job_that_the_vendor_does_not_know_is_missing,
    a_receipt_is_an_acceptance,
    a_receipt_without_an_id_is_ambiguous,
    a_refusal_that_names_a_task_is_ambiguous,
    a_server_error_is_ambiguous,
    a_status_alone_turns_away,
    a_time_of_creation_is_the_jobs,
    a_word_for_failure_is_no_success,
    a_word_for_success_is_read_in_any_spelling,
    an_answer_says_which_job_it_is_about,
    an_error_inside_a_200_is_no_acceptance,
    an_odd_id_is_ambiguous,
    an_outage_is_no_failure,
    an_unfinished_job_is_open,
    any_answer_has_an_outcome,
    any_callback_is_harmless,
    every_row_of_the_failure_table_is_reached,
    every_row_of_the_outcome_table_is_reached,
    links_are_addresses,
    links_are_found_in_any_shape,
    no_error_is_an_acceptance,
    nothing_odd_ends_a_job,
    only_an_unknown_state_is_an_alarm,
    the_vendors_words_are_made_safe,
    too_many_requests_are_a_throttle,
    what_is_not_understood_is_ambiguous,
)
from onetake.dev.conformance.evidence import (
    a_job_of_another_order_is_left_out,
    a_job_of_ours_is_found_in_the_list,
    no_odd_answer_is_evidence,
    the_balance_shows_every_charge,
)
from onetake.dev.conformance.kit import LIVE, SCENARIOS, Scenario
from onetake.dev.conformance.limits import (
    a_failed_job_costs_what_the_vendor_keeps,
    durations_end_where_the_vendor_ends_them,
    every_choice_costs_what_the_vendor_charges,
    inputs_are_counted,
    texts_end_where_the_vendor_ends_them,
    words_are_those_of_the_catalogue,
)
from onetake.dev.conformance.live import Live, every_job_costs_what_we_expect
from onetake.dev.conformance.patterns import leaves, sample_of
from onetake.dev.conformance.registration import Report, examine
from onetake.dev.conformance.requests import (
    a_callback_address_is_sent_when_there_is_one,
    a_configured_address_replaces_the_documented_one,
    a_status_read_names_its_task,
    every_accepted_field_reaches_the_vendor,
    nothing_of_ours_is_sent,
    the_prompt_and_the_choices_are_always_sent,
    the_same_order_is_the_same_bytes,
    the_vendor_takes_what_we_build,
)
from onetake.dev.conformance.under_test import FUNCTIONS, VendorUnderTest
from onetake.dev.conformance.wire import (
    a_broken_connection_is_ambiguous,
    a_failed_read_is_tried_later,
    a_huge_answer_is_ambiguous,
    a_throttle_carries_the_vendors_pause,
    one_post_with_the_key_in_its_header,
    our_key_is_never_repeated,
)
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from providers import aivideoapi, apixo, gmi
from providers.catalogue import Catalogue, load_catalogue
from providers.vendor import CallbackHint, ListedJob, json_object, json_post
from providers.vendors import VENDORS

REGISTRIES = shipped_registries()


@pytest.fixture(scope="session")
def reports() -> Mapping[str, Report]:
    """All shipped vendors, tried once at one simulator."""
    return {report.vendor: report for report in check(list(VENDORS))}


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_shipped_vendor_conforms(reports: Mapping[str, Report], vendor: str) -> None:
    report = reports[vendor]
    assert [finding for finding in report.findings if finding.verdict != "ok"] == []
    assert len(report.findings) > len(FUNCTIONS) + len(LIVE) + sum(map(len, SCENARIOS.values()))


def test_every_vendor_with_a_place_is_known() -> None:
    assert tuple(VENDORS) == VENDOR_NAMES == tuple(REGISTRIES.simulators)
    assert set(REGISTRIES.names()) == set(VENDOR_NAMES) == set(load_catalogue().vendors)


# -- Adapters with one mistake each ------------------------------------------------------------------------------------


def _under_test(module: object = apixo, name: str = "apixo", data: Catalogue | None = None) -> VendorUnderTest:
    registries = dataclasses.replace(REGISTRIES, adapters={**REGISTRIES.adapters, name: module})
    findings, under_test = examine(name, dataclasses.replace(registries, data=data or REGISTRIES.data))
    assert under_test, findings
    return under_test


def _changed(**functions: Callable[..., Any]) -> object:
    """The adapter of APIXO with these functions instead of its own."""
    own = {function: getattr(apixo, function) for function in FUNCTIONS}
    return SimpleNamespace(**{**own, **functions})


def _after(function: str, change: Callable[[Any], Any]) -> object:
    """The adapter of APIXO, one function of which answers something else."""
    own = getattr(apixo, function)

    def changed(*arguments: Any) -> Any:
        return change(own(*arguments))

    return _changed(**{function: changed})


def _body(change: Callable[[dict[str, Any]], Any]) -> object:
    """The adapter of APIXO with another body."""

    def changed(request: httpx.Request) -> httpx.Request:
        body = json.loads(request.content)
        change(body)
        return json_post(str(request.url), body)

    return _after("submit_request", changed)


def _outcome(change: Callable[[SubmitOutcome], SubmitOutcome]) -> object:
    return _after("submit_outcome", change)


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda body: body["input"].pop(name, None)


def _guesses_an_id(outcome: SubmitOutcome) -> SubmitOutcome:
    return SubmitOutcome("accepted", "unknown") if "usable task id" in outcome.note else outcome


def _sends_again(outcome: SubmitOutcome) -> SubmitOutcome:
    return SubmitOutcome("not_sent") if outcome.outcome == "ambiguous" else outcome


def _believes(response: httpx.Response) -> SubmitOutcome:
    """Takes whatever stands where the id stands."""
    body: Any = response.json()
    data: dict[str, Any] = body.get("data") or {}
    task_id = data.get("taskId")
    return SubmitOutcome("accepted", task_id) if task_id else SubmitOutcome("ambiguous")


def _sees_the_status_only(response: httpx.Response) -> SubmitOutcome:
    return SubmitOutcome("accepted", "task") if response.is_success else SubmitOutcome("ambiguous")


def _says_who_pays(base_url: str, order: SubmitOrder) -> httpx.Request:
    return json_post(str(apixo.submit_request(base_url, order).url), {"user": order.request.user})


def _goes_elsewhere(base_url: str, order: SubmitOrder) -> httpx.Request:
    del base_url
    return apixo.submit_request("https://api.apixo.ai/api/v1", order)


def _quotes_nothing(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
    del plan
    return httpx.Request("GET", f"{base_url}/statusTask/wan-2-6-video?taskId={vendor_task_id}")


def _hears_nothing(body: bytes) -> CallbackHint:
    del body
    return CallbackHint()


def _believes_callbacks(body: bytes) -> CallbackHint:
    return CallbackHint(json.loads(body)["data"]["taskId"], "success")


def _repeats_words(response: httpx.Response) -> SubmitOutcome:
    if response.status_code // 100 != 4:
        return apixo.submit_outcome(response)
    said = ErrorInfo(code="vendor_rejected", message=response.text, hint="")
    return SubmitOutcome("rejected", error=said)


def _status(**readings: StatusReading) -> object:
    """The adapter of APIXO, which reads one state of ours as something else."""

    def changed(status: VendorStatus | None) -> VendorStatus | None:
        state = status.reading.state if status else "none"
        if state not in readings:
            return status
        return dataclasses.replace(status or VendorStatus(readings[state]), reading=readings[state])

    return _after("read_status", changed)


def _seen(odd: Callable[[VendorStatus], bool], **instead: Any) -> object:
    """The adapter of APIXO, which says something else of the answers that are so."""

    def changed(status: VendorStatus | None) -> VendorStatus | None:
        return dataclasses.replace(status, **instead) if status is not None and odd(status) else status

    return _after("read_status", changed)


def _reads_nothing_but_json(response: httpx.Response) -> SubmitOutcome:
    return SubmitOutcome("ambiguous") if json_object(response) is None else apixo.submit_outcome(response)


FAILED = StatusReading(
    state="failed", vendor_state="x", error=ErrorInfo(code="vendor_failed", message="It failed.", hint="")
)
MISSING = StatusReading(state="missing", vendor_state="404")
OPEN = StatusReading(state="open", vendor_state="x")


@dataclass(frozen=True)
class Mistake:
    """An adapter that is wrong, and the scenarios that must say so."""

    name: str
    module: object
    caught_by: tuple[Scenario, ...]


MISTAKES = (
    Mistake(
        "accepts without an id",
        _outcome(_guesses_an_id),
        (a_receipt_without_an_id_is_ambiguous, an_odd_id_is_ambiguous, a_huge_answer_is_ambiguous),
    ),
    Mistake("accepts any id", _changed(submit_outcome=_believes), (an_odd_id_is_ambiguous, any_answer_has_an_outcome)),
    Mistake(
        "would be sent again",
        _outcome(_sends_again),
        (
            a_server_error_is_ambiguous,
            what_is_not_understood_is_ambiguous,
            a_refusal_that_names_a_task_is_ambiguous,
            a_broken_connection_is_ambiguous,
        ),
    ),
    Mistake(
        "refuses what may be paid",
        _outcome(lambda outcome: dataclasses.replace(outcome, outcome="rejected", error=FAILED.error)),
        (a_receipt_is_an_acceptance, a_server_error_is_ambiguous, too_many_requests_are_a_throttle),
    ),
    Mistake(
        "throttles every refusal",
        _outcome(
            lambda outcome: (
                dataclasses.replace(outcome, outcome="throttled") if outcome.outcome == "rejected" else outcome
            )
        ),
        (every_row_of_the_outcome_table_is_reached, no_error_is_an_acceptance),
    ),
    Mistake(
        "knows no throttle",
        _outcome(lambda outcome: SubmitOutcome("ambiguous") if outcome.outcome == "throttled" else outcome),
        (too_many_requests_are_a_throttle, a_throttle_carries_the_vendors_pause),
    ),
    Mistake(
        "sees the HTTP status only",
        _changed(submit_outcome=_sees_the_status_only),
        (an_error_inside_a_200_is_no_acceptance, any_answer_has_an_outcome, what_is_not_understood_is_ambiguous),
    ),
    Mistake(
        "reads nothing but JSON",
        _changed(submit_outcome=_reads_nothing_but_json),
        (a_status_alone_turns_away,),
    ),
    Mistake(
        "knows one spelling",
        _seen(lambda seen: seen.reading.vendor_state != "success", reading=OPEN),
        (a_word_for_success_is_read_in_any_spelling,),
    ),
    Mistake(
        "takes failures for successes",
        _status(failed=StatusReading(state="succeeded", vendor_state="x")),
        (a_word_for_failure_is_no_success, a_failed_job_has_failed),
    ),
    Mistake(
        "hides a clip under an odd word",
        _seen(lambda seen: seen.reading.state == "open", links=()),
        (a_clip_under_an_odd_word_is_shown,),
    ),
    Mistake("finds no links", _seen(lambda _: True, links=()), (links_are_found_in_any_shape,)),
    Mistake(
        "takes milliseconds for seconds",
        _seen(lambda _: True, created_at=1.7e12),
        (a_time_of_creation_is_the_jobs,),
    ),
    Mistake(
        "repeats the vendor's words",
        _changed(submit_outcome=_repeats_words),
        (the_vendors_words_are_made_safe, our_key_is_never_repeated),
    ),
    *(
        Mistake(f"drops {name}", _body(_without(sent)), (every_accepted_field_reaches_the_vendor,))
        for name, sent in {
            "negative_prompt": "negative_prompt",
            "image": "image_urls",
            "references": "reference_urls",
            "audio_url": "audio_urls",
            "sound": "sound",
            "shot_type": "shot_type",
            "prompt_extend": "prompt_extend",
            "seed": "seed",
            "watermark": "watermark",
        }.items()
    ),
    Mistake("drops the prompt", _body(_without("prompt")), (the_prompt_and_the_choices_are_always_sent,)),
    Mistake("drops the duration", _body(_without("duration")), (the_prompt_and_the_choices_are_always_sent,)),
    Mistake("drops the resolution", _body(_without("resolution")), (the_prompt_and_the_choices_are_always_sent,)),
    Mistake(
        "drops the callback address",
        _body(lambda body: body.pop("callback_url", None)),
        (a_callback_address_is_sent_when_there_is_one,),
    ),
    Mistake("sends a null", _body(lambda body: body["input"].update(seed=None)), (nothing_of_ours_is_sent,)),
    Mistake("sends a field too many", _body(lambda body: body.update(hd=True)), (the_vendor_takes_what_we_build,)),
    Mistake(
        "says who pays",
        _changed(submit_request=_says_who_pays),
        (nothing_of_ours_is_sent, the_vendor_takes_what_we_build),
    ),
    Mistake(
        "has an address of its own",
        _changed(submit_request=_goes_elsewhere),
        (a_configured_address_replaces_the_documented_one,),
    ),
    Mistake(
        "brings its own key",
        _after("submit_request", lambda request: _with_header(request, "Authorization", "Bearer own")),
        (nothing_of_ours_is_sent,),
    ),
    Mistake(
        "puts the key into the address",
        _after("submit_request", lambda request: httpx.Request("GET", f"{request.url}?key=sim-apixo-key")),
        (nothing_of_ours_is_sent, one_post_with_the_key_in_its_header, the_same_order_is_the_same_bytes),
    ),
    Mistake(
        "quotes no id",
        _changed(status_request=_quotes_nothing),
        (a_status_read_names_its_task,),
    ),
    Mistake(
        "raises no alarm",
        _after("read_status", lambda status: status and dataclasses.replace(status, alarm="")),
        (only_an_unknown_state_is_an_alarm,),
    ),
    Mistake("fails what is open", _status(open=FAILED), (an_unfinished_job_is_open, nothing_odd_ends_a_job)),
    Mistake(
        "fails an outage",
        _status(none=FAILED),
        (an_outage_is_no_failure, a_failed_read_is_tried_later, nothing_odd_ends_a_job),
    ),
    Mistake("misses in an outage", _status(none=MISSING), (a_job_that_the_vendor_does_not_know_is_missing,)),
    Mistake("never misses", _status(missing=OPEN), (a_job_that_the_vendor_does_not_know_is_missing,)),
    Mistake("never fails", _status(failed=OPEN), (a_failed_job_has_failed, every_row_of_the_failure_table_is_reached)),
    Mistake(
        "loses the links",
        _after("read_status", lambda status: status and dataclasses.replace(status, links=())),
        (a_finished_job_has_its_links,),
    ),
    Mistake(
        "takes any text for a link",
        _after("read_status", lambda status: status and dataclasses.replace(status, links=("file:///etc/passwd",))),
        (a_finished_job_has_its_links, links_are_addresses),
    ),
    Mistake(
        "does not say which job",
        _after("read_status", lambda status: status and dataclasses.replace(status, vendor_task_id=None)),
        (an_answer_says_which_job_it_is_about, a_failed_read_is_tried_later),
    ),
    Mistake("reads no callback", _changed(callback_hint=_hears_nothing), (a_callback_names_its_job,)),
    Mistake(
        "believes a callback",
        _changed(callback_hint=_believes_callbacks),
        (any_callback_is_harmless,),
    ),
)


def _with_header(request: httpx.Request, name: str, value: str) -> httpx.Request:
    request.headers[name] = value
    return request


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
async def test_an_adapter_with_a_mistake_is_caught(mistake: Mistake) -> None:
    under_test = _under_test(mistake.module)
    for scenario in mistake.caught_by:
        assert await _complaints(scenario, under_test), scenario.__name__


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_that_raises_is_named_with_its_place(function: str) -> None:
    def raises(*_: object) -> None:
        raise KeyError("data")

    under_test = _under_test(_changed(**{function: raises}))
    named = f"{function} must not raise: KeyError at test_kit.py"
    for scenario in chain.from_iterable(SCENARIOS.values()):
        if any(named in text for text in await _complaints(scenario, under_test)):
            return
    pytest.fail("no scenario names it")


def _with_data(change: Callable[[dict[str, Any]], Any], vendor: str = "apixo") -> Catalogue:
    data = load_catalogue().model_dump(mode="python")
    for route in data["vendors"][vendor]["routes"]:
        change(route)
    return Catalogue.model_validate(data)


DATA_MISTAKES: Mapping[str, tuple[str, Callable[[dict[str, Any]], Any], Scenario]] = {
    "a cheaper second": (
        "apixo",
        lambda route: route["price"][0]["table"][0].update(usd="0.09"),
        every_choice_costs_what_the_vendor_charges,
    ),
    "a longer prompt": ("gmi", lambda route: route["prompt"].update(most=1600), texts_end_where_the_vendor_ends_them),
    "a longer clip": (
        "gptimage2",
        lambda route: route["duration_s"].update(most=20),
        durations_end_where_the_vendor_ends_them,
    ),
    "another resolution": (
        "gptimage2",
        lambda route: (
            route["pixels"] == "of_the_input" and route["resolutions"].update(choices=("720p", "1080p", "480p"))
        ),
        words_are_those_of_the_catalogue,
    ),
    "more references": (
        "gmi",
        lambda route: route["references"]["most"] and route["references"].update(most=5),
        inputs_are_counted,
    ),
}


@pytest.mark.parametrize("name", DATA_MISTAKES)
async def test_a_wrong_fact_is_caught(name: str) -> None:
    vendor, change, scenario = DATA_MISTAKES[name]
    under_test = _under_test(REGISTRIES.adapters[vendor], vendor, _with_data(change, vendor))
    assert await _complaints(scenario, under_test)


async def test_a_wrong_cost_of_failed_jobs_is_caught() -> None:
    data = load_catalogue().model_dump(mode="python")
    data["vendors"]["gmi"]["vendor"]["failed_job_cost"] = "free"
    under_test = _under_test(gmi, "gmi", Catalogue.model_validate(data))
    assert await _complaints(a_failed_job_costs_what_the_vendor_keeps, under_test)


async def _complaints(scenario: Scenario, under_test: VendorUnderTest) -> list[str]:
    try:
        return [complaint async for complaint in _bounded(scenario(under_test))]
    except Exception as error:  # noqa: BLE001 - the kit reports it; here it counts as caught
        return [str(error)]


async def _bounded(complaints: AsyncIterator[str]) -> AsyncIterator[str]:
    """The first complaints are enough."""
    number = 0
    async for complaint in complaints:
        yield complaint
        if (number := number + 1) == 20:
            return


async def test_the_running_simulator_catches_a_wrong_price() -> None:
    data = _with_data(lambda route: [line.update(usd="0.01") for line in route["price"][0]["table"]])
    with running(SimulatorConfig(callback_gap_scale=0.1)) as url:
        at = Live(_under_test(data=data), url)
        said = [text async for text in every_job_costs_what_we_expect(at, await at.runs())]
    assert any("the plan expects" in text for text in said)


# -- What tells how a lost submission ended ----------------------------------------------------------------------------

CREATED_AT = 1_700_000_000.0


def _some_listed(*found: ListedJob) -> object:
    def listed_jobs(*_: object) -> tuple[ListedJob, ...]:
        return found

    return SimpleNamespace(**{**vars(gmi), "listed_jobs": listed_jobs})


def _account_of(change: Callable[[Account], Account | None]) -> object:
    def changed(response: httpx.Response) -> Account | None:
        account = aivideoapi.read_account(response)
        return account and change(account)

    return SimpleNamespace(**{**vars(aivideoapi), "read_account": changed})


EVIDENCE_MISTAKES: Mapping[str, tuple[str, object, Scenario]] = {
    "finds nothing": ("gmi", _some_listed(), a_job_of_ours_is_found_in_the_list),
    "finds another": ("gmi", _some_listed(ListedJob("another", CREATED_AT)), a_job_of_ours_is_found_in_the_list),
    "finds one of two": ("gmi", _some_listed(ListedJob("one", CREATED_AT)), a_job_of_another_order_is_left_out),
    "finds whatever is there": (
        "gmi",
        _some_listed(ListedJob("one", CREATED_AT), ListedJob("two", CREATED_AT)),
        a_job_of_another_order_is_left_out,
    ),
    "finds jobs in anything": ("gmi", _some_listed(ListedJob("one", CREATED_AT)), no_odd_answer_is_evidence),
    "sees no charge": (
        "aivideoapi",
        _account_of(lambda account: dataclasses.replace(account, charged=Decimal(0))),
        the_balance_shows_every_charge,
    ),
    "sees another balance": (
        "aivideoapi",
        _account_of(lambda account: dataclasses.replace(account, balance=Decimal(7))),
        the_balance_shows_every_charge,
    ),
}


@pytest.mark.parametrize("name", EVIDENCE_MISTAKES)
async def test_a_mistake_about_evidence_is_caught(name: str) -> None:
    vendor, module, scenario = EVIDENCE_MISTAKES[name]
    assert await _complaints(scenario, _under_test(module, vendor))


@pytest.mark.parametrize("vendor", ["gmi", "aivideoapi"])
def test_what_the_facts_promise_is_asked_for(vendor: str) -> None:
    own = {function: getattr(REGISTRIES.adapters[vendor], function) for function in FUNCTIONS}
    findings, _ = examine(vendor, dataclasses.replace(REGISTRIES, adapters={vendor: SimpleNamespace(**own)}))
    assert len([finding for finding in findings if "promise" in finding.scenario and finding.verdict == "lacks"]) == 2


def test_what_stands_nowhere_lacks_everything(tmp_path: Path) -> None:
    registries = Registries({}, load_catalogue(), {}, routes_folder=tmp_path)
    (report,) = check(["toy"], registries=registries)
    todo = " ".join(finding.todo for finding in report.findings)
    assert not report.conforms
    for word in ("providers/toy.py", "VENDORS in providers/vendors.py", "[cadence]", "toy_api_key", "simulator/toy.py"):
        assert word in todo


def test_an_address_that_is_no_simulator_is_refused() -> None:
    with pytest.raises(ValueError, match="is no simulator"):
        check(["apixo"], against="http://127.0.0.1:1")


@pytest.mark.parametrize("pattern", ["a|b", "5..", "(x|y)z", r"model\b.{0,9}(not (found|there)|gone)"])
def test_a_pattern_has_a_sample(pattern: str) -> None:
    assert sample_of(pattern)


def test_a_pattern_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match="write it more simply"):
        sample_of(r"(?=never)x")


def test_leaves_have_their_ways() -> None:
    assert dict(leaves({"a": [1, {"b": None}], "c": []})) == {("a", 0): 1, ("a", 1, "b"): None, ("c",): []}
