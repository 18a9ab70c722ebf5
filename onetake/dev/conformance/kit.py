"""Every scenario, by group, and how one vendor is led through them. Importing this imports every adapter."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack

import httpx

from onetake.core.errors import OnetakeError
from onetake.dev.conformance import answers, evidence, limits, live, requests, wire
from onetake.dev.conformance.live import Live, Run
from onetake.dev.conformance.registration import Finding, Report
from onetake.dev.conformance.under_test import Lacking, VendorUnderTest, place_of
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running

Scenario = Callable[[VendorUnderTest], AsyncIterator[str]]
LiveScenario = Callable[[Live, list[Run]], AsyncIterator[str]]

SCENARIOS: Mapping[str, tuple[Scenario, ...]] = {
    "request": (
        requests.every_accepted_field_reaches_the_vendor,
        requests.the_prompt_and_the_choices_are_always_sent,
        requests.nothing_of_ours_is_sent,
        requests.the_vendor_takes_what_we_build,
        requests.fields_of_other_routes_are_refused_by_name,
        requests.a_callback_address_is_sent_when_there_is_one,
        requests.the_same_order_is_the_same_bytes,
        requests.a_configured_address_replaces_the_documented_one,
        requests.a_status_read_names_its_task,
    ),
    "limits": (
        limits.texts_end_where_the_vendor_ends_them,
        limits.durations_end_where_the_vendor_ends_them,
        limits.words_are_those_of_the_catalogue,
        limits.inputs_are_counted,
        limits.seeds_fit,
        limits.every_choice_costs_what_the_vendor_charges,
        limits.a_failed_job_costs_what_the_vendor_keeps,
    ),
    "submission": (
        answers.a_receipt_is_an_acceptance,
        answers.a_receipt_without_an_id_is_ambiguous,
        answers.an_odd_id_is_ambiguous,
        answers.a_refusal_that_names_a_task_is_ambiguous,
        answers.every_row_of_the_outcome_table_is_reached,
        answers.no_error_is_an_acceptance,
        answers.a_server_error_is_ambiguous,
        answers.a_status_alone_turns_away,
        answers.too_many_requests_are_a_throttle,
        answers.an_error_inside_a_200_is_no_acceptance,
        answers.what_is_not_understood_is_ambiguous,
        answers.any_answer_has_an_outcome,
        answers.the_vendors_words_are_made_safe,
    ),
    "status": (
        answers.an_unfinished_job_is_open,
        answers.only_an_unknown_state_is_an_alarm,
        answers.a_finished_job_has_its_links,
        answers.a_word_for_success_is_read_in_any_spelling,
        answers.a_word_for_failure_is_no_success,
        answers.a_clip_under_an_odd_word_is_shown,
        answers.links_are_found_in_any_shape,
        answers.a_time_of_creation_is_the_jobs,
        answers.links_are_addresses,
        answers.a_failed_job_has_failed,
        answers.every_row_of_the_failure_table_is_reached,
        answers.a_job_that_the_vendor_does_not_know_is_missing,
        answers.an_outage_is_no_failure,
        answers.an_answer_says_which_job_it_is_about,
        answers.nothing_odd_ends_a_job,
    ),
    "evidence": (
        evidence.a_job_of_ours_is_found_in_the_list,
        evidence.a_job_of_another_order_is_left_out,
        evidence.the_balance_shows_every_charge,
        evidence.no_odd_answer_is_evidence,
    ),
    "callback": (answers.a_callback_names_its_job, answers.any_callback_is_harmless),
    "connection": (
        wire.one_post_with_the_key_in_its_header,
        wire.a_throttle_carries_the_vendors_pause,
        wire.a_broken_connection_is_ambiguous,
        wire.a_huge_answer_is_ambiguous,
        wire.nobody_there_is_not_sent,
        wire.our_key_is_never_repeated,
        wire.a_failed_read_is_tried_later,
    ),
}
LIVE: tuple[LiveScenario, ...] = (
    live.every_route_is_accepted,
    live.every_job_ends_well,
    live.every_clip_arrives,
    live.every_callback_arrives,
    live.every_job_costs_what_we_expect,
    live.refusals_are_understood,
    live.doubtful_submissions_are_ambiguous,
    live.a_failing_job_is_read_to_its_end,
)
SHOWN_COMPLAINTS = 3


def run(examined: Mapping[str, tuple[list[Finding], VendorUnderTest | None]], against: str | None) -> list[Report]:
    """Try the vendors that can be tried, at the simulator of that address or at one of our own. Blocks.

    Raises ValueError when the address is no simulator's.
    """
    with ExitStack() as cleanup:
        if against:
            _require_simulator(against)
        url = against or cleanup.enter_context(running(SimulatorConfig(callback_gap_scale=0.1)))
        return [asyncio.run(_report(name, *found, url)) for name, found in examined.items()]


async def _report(name: str, findings: list[Finding], vendor: VendorUnderTest | None, url: str) -> Report:
    tried = [*await try_adapter(vendor), *await _try_live(vendor, url)] if vendor else []
    return Report(name, (*findings, *tried))


async def try_adapter(vendor: VendorUnderTest) -> list[Finding]:
    """Every scenario that needs no simulator to run."""
    return [
        await _finding(group, scenario, scenario(vendor))
        for group, scenarios in SCENARIOS.items()
        for scenario in scenarios
    ]


async def _try_live(vendor: VendorUnderTest, url: str) -> list[Finding]:
    jobs = Live(vendor, url)
    try:
        runs = await jobs.runs()
    except Exception as error:  # noqa: BLE001 - see _complaints
        todo = _todo([_text_of(error)])
        return [Finding("simulator", _title(scenario), "lacks", todo) for scenario in LIVE]
    return [await _finding("simulator", scenario, scenario(jobs, runs)) for scenario in LIVE]


async def _finding(group: str, scenario: Callable[..., object], complaints: AsyncIterator[str]) -> Finding:
    found = await _complaints(complaints)
    return Finding(group, _title(scenario), "lacks" if found else "ok", _todo(found))


async def _complaints(complaints: AsyncIterator[str]) -> list[str]:
    """All complaints; an adapter that raises is one, and never the end of the kit."""
    found: list[str] = []
    try:
        async for complaint in complaints:
            found.append(complaint)  # noqa: PERF401 - what came before an error is kept
    except Exception as error:  # noqa: BLE001 - whatever an adapter or its data file does
        found.append(_text_of(error))
    return found


def _text_of(error: Exception) -> str:
    if isinstance(error, Lacking | OnetakeError):
        return str(error)
    return f"{place_of(error)}: {str(error)[:200]}"


def _todo(complaints: Iterable[str]) -> str:
    distinct = [*dict.fromkeys(re.sub(r"\s+", " ", complaint) for complaint in complaints)]
    more = len(distinct) - SHOWN_COMPLAINTS
    return "; ".join(distinct[:SHOWN_COMPLAINTS]) + (f"; and {more} more" if more > 0 else "")


def _title(scenario: Callable[..., object]) -> str:
    return (scenario.__doc__ or scenario.__name__).strip().splitlines()[0]


def _require_simulator(url: str) -> None:
    try:
        answer = httpx.get(f"{url}/healthz", trust_env=False, timeout=60)
        vendors = answer.json()["vendors"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        vendors = None
    if not vendors:
        raise ValueError(f"{url} is no simulator: start one with `onetake simulator`")
