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
from onetake.dev.conformance.subject import Lacking, Subject, answer
from onetake.dev.simulator.journal import Job

SPENT_MICROS = 3_000_000


async def a_job_of_ours_is_found_in_the_list(subject: Subject) -> AsyncIterator[str]:
    """Where a list is promised, a job of exactly what was sent is found in it, with the time of its creation."""
    if not subject.facts.vendor.lists_jobs:
        return
    order = _order(subject)
    job, shown = await _job(subject, order)
    found = subject.lister.listed_jobs(await subject.listing(order.plan, [(job, shown)]), order)
    if [(each.task_id, each.created_at) for each in found or ()] != [(job.task_id, job.created_at)]:
        yield f"listed_jobs: the job {job.task_id}, created at {job.created_at:g}, is read as {found}"


async def a_job_of_another_order_is_left_out(subject: Subject) -> AsyncIterator[str]:
    """Where a list is promised, a job of another seed or prompt is not ours, and two of the same are two."""
    if not subject.facts.vendor.lists_jobs:
        return
    order = _order(subject)
    first, second = await _job(subject, order), await _job(subject, order)
    listing = await subject.listing(order.plan, [first, second])
    if len(subject.lister.listed_jobs(listing, order) or ()) != 2:
        yield "listed_jobs: two jobs of one order are not two"
    for label, other in (
        ("another seed", replace(order, seed=2)),
        ("another prompt", replace(order, request=order.request.model_copy(update={"prompt": "Another."}))),
    ):
        if subject.lister.listed_jobs(listing, other) != ():
            yield f"listed_jobs: a job of {label} is taken for ours"


async def the_balance_shows_every_charge(subject: Subject) -> AsyncIterator[str]:
    """Where a balance is promised, what is spent is charged and missing from it, to the last unit."""
    if not subject.facts.vendor.balance:
        return
    rate = subject.plan(subject.request(subject.first_route)).price.usd_per_credit
    before, same, after = [
        subject.accountant.read_account(await subject.account(micros)) for micros in (0, 0, SPENT_MICROS)
    ]
    if before is None or after is None or before != same or rate is None:
        yield f"read_account: {before}, {same}, {after} at a rate of {rate}"
    elif not (after.charged - before.charged) == before.balance - after.balance == Decimal(SPENT_MICROS) / 10**6 / rate:
        yield f"read_account: {SPENT_MICROS} micros are {before} and then {after}"


async def no_odd_answer_is_evidence(subject: Subject) -> AsyncIterator[str]:
    """Any other answer shows no job and no account, and raises nothing."""
    order = _order(subject)
    odd = [httpx.Response(200, json=body) for body in ANY_JSON]
    odd += [httpx.Response(200, content=body, headers={"content-type": "application/json"}) for body in (DEEP, b"{")]
    odd += [httpx.Response(200, html=HTML.decode()), answer(500, {}), answer(404, {})]
    for response in odd:
        if subject.facts.vendor.lists_jobs and subject.lister.listed_jobs(response, order):
            yield f"listed_jobs: finds a job in {response.text[:80]}"
        if subject.facts.vendor.balance and subject.accountant.read_account(response) is not None:
            yield f"read_account: finds an account in {response.text[:80]}"


def _order(subject: Subject) -> SubmitOrder:
    return replace(subject.order(subject.request(subject.first_route)), seed=1)


async def _job(subject: Subject, order: SubmitOrder) -> tuple[Job, JsonValue]:
    """A job of this order at the simulated vendor, and what its list says of it."""
    verdict = await subject.judged(order)
    if verdict.order is None:
        raise Lacking(f"the simulated vendor takes no request of {subject.first_route}: {verdict.detail}")
    job = subject.job_of(verdict.order)
    return job, subject.twin.status(job, "pending", ())
