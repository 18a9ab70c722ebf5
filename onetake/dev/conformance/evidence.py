"""Scenarios about what can tell how a lost submission ended: the vendor's list, and our balance there.

A vendor whose facts promise neither has nothing to show here.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import httpx
from pydantic import JsonValue

from onetake.core.ports import SubmitOrder
from onetake.dev.conformance.answers import ANY_JSON, DEEP, HTML
from onetake.dev.conformance.under_test import Lacking, VendorUnderTest, answer
from onetake.dev.simulator.journal import Job

SPENT_MICROS = 3_000_000


async def a_job_of_ours_is_found_in_the_list(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Where a list is promised, a job of exactly what was sent is found in it, with the time of its creation."""
    if not vendor.facts.vendor.lists_jobs:
        return
    order = _order(vendor)
    job, shown = await _job(vendor, order)
    found = vendor.lister.listed_jobs(await vendor.listing(order.plan, [(job, shown)]), order)
    if [(each.task_id, each.created_at) for each in found or ()] != [(job.task_id, job.created_at)]:
        yield f"listed_jobs: the job {job.task_id}, created at {job.created_at:g}, is read as {found}"


async def a_job_of_another_order_is_left_out(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Where a list is promised, a job of another seed or prompt is not ours, and two of the same are two."""
    if not vendor.facts.vendor.lists_jobs:
        return
    order = _order(vendor)
    first, second = await _job(vendor, order), await _job(vendor, order)
    listing = await vendor.listing(order.plan, [first, second])
    if len(vendor.lister.listed_jobs(listing, order) or ()) != 2:
        yield "listed_jobs: two jobs of one order are not two"
    for label, other in (
        ("another seed", replace(order, seed=2)),
        ("another prompt", replace(order, request=order.request.model_copy(update={"prompt": "Another."}))),
    ):
        if vendor.lister.listed_jobs(listing, other) != ():
            yield f"listed_jobs: a job of {label} is taken for ours"


async def the_balance_shows_every_charge(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Where a balance is promised, what is spent is charged and missing from it, to the last unit."""
    if not vendor.facts.vendor.balance:
        return
    rate = vendor.plan(vendor.request(vendor.first_route)).price.usd_per_credit
    before, same, after = [
        vendor.accountant.read_account(await vendor.account(micros)) for micros in (0, 0, SPENT_MICROS)
    ]
    if before is None or after is None or before != same or rate is None:
        yield f"read_account: {before}, {same}, {after} at a rate of {rate}"
    elif not (after.charged - before.charged) == before.balance - after.balance == Decimal(SPENT_MICROS) / 10**6 / rate:
        yield f"read_account: {SPENT_MICROS} micros are {before} and then {after}"


async def no_odd_answer_is_evidence(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Any other answer shows no job and no account, and raises nothing."""
    order = _order(vendor)
    odd = [httpx.Response(200, json=body) for body in ANY_JSON]
    odd += [httpx.Response(200, content=body, headers={"content-type": "application/json"}) for body in (DEEP, b"{")]
    odd += [httpx.Response(200, html=HTML.decode()), answer(500, {}), answer(404, {})]
    for response in odd:
        if vendor.facts.vendor.lists_jobs and vendor.lister.listed_jobs(response, order):
            yield f"listed_jobs: finds a job in {response.text[:80]}"
        if vendor.facts.vendor.balance and vendor.accountant.read_account(response) is not None:
            yield f"read_account: finds an account in {response.text[:80]}"


def _order(vendor: VendorUnderTest) -> SubmitOrder:
    return replace(vendor.order(vendor.request(vendor.first_route)), seed=1)


async def _job(vendor: VendorUnderTest, order: SubmitOrder) -> tuple[Job, JsonValue]:
    """A job of this order at the simulated vendor, and what its list says of it."""
    verdict = await vendor.judged(order)
    if verdict.order is None:
        raise Lacking(f"the simulated vendor takes no request of {vendor.first_route}: {verdict.detail}")
    job = vendor.job_of(verdict.order)
    return job, vendor.simulated.status(job, "pending", ())
