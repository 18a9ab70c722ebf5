"""Scenarios about a route's limits: just inside is taken by admission and by the vendor, just outside by neither."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Refused
from onetake.core.money import format_usd
from onetake.dev.conformance.under_test import VendorUnderTest, references, videos
from providers.catalogue import SEED_MOST, Route


async def texts_end_where_the_vendor_ends_them(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The longest prompt and negative prompt are taken, one character more is refused."""
    for name, route in vendor.routes():
        for field, limit in (("prompt", route.prompt), ("negative_prompt", route.negative_prompt)):
            if limit is None:
                continue
            async for complaint in _taken(vendor, name, **{field: "p" * limit.most}):
                yield f"{field} of {limit.most} characters: {complaint}"
            for complaint in _refused(vendor, name, f"/{field}", **{field: "p" * (limit.most + 1)}):
                yield complaint
        if route.prompt.required:
            for complaint in _refused(vendor, name, "/prompt", prompt=" "):
                yield complaint


async def durations_end_where_the_vendor_ends_them(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every second that the catalogue allows is taken, every neighbour outside is refused."""
    for name, route in vendor.routes():
        legal = set(route.duration_s.legal)
        for duration_s in sorted(legal):
            async for complaint in _taken(vendor, name, duration_s=duration_s):
                yield f"{duration_s} s: {complaint}"
        for duration_s in sorted({near for value in legal for near in (value - 1, value + 1)} - legal):
            for complaint in _refused(vendor, name, "/duration_s", duration_s=duration_s):
                yield complaint


async def words_are_those_of_the_catalogue(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every resolution and aspect ratio of the catalogue is taken, other words are refused."""
    for name, route in vendor.routes():
        words = {"resolution": route.resolutions.choices}
        if route.aspect_ratios:
            words["aspect_ratio"] = route.aspect_ratios.choices
        for field, choices in words.items():
            for choice in choices:
                async for complaint in _taken(vendor, name, **{field: choice}):
                    yield f"{field} {choice}: {complaint}"
            for other in ("4k", choices[0].upper() + " "):
                for complaint in _refused(vendor, name, f"/{field}", **{field: other}):
                    yield complaint


async def inputs_are_counted(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """As many inputs as the catalogue allows are taken, one fewer or one more is refused."""
    for name, route in vendor.routes():
        for field, least, most in _counts(route):
            for number in {least, most}:
                async for complaint in _taken(vendor, name, **{field: _inputs(field, route, number)}):
                    yield f"{number} of {field}: {complaint}"
            outside = {least - 1, most + 1} if field != "image" else {0}
            for number in outside:
                given = {field: _inputs(field, route, number)}
                for complaint in _refused(vendor, name, f"/{field}", **given):
                    yield complaint


async def seeds_fit(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The smallest and the largest seed are taken, their neighbours outside are refused."""
    for name, route in vendor.routes():
        if "seed" not in route.fields:
            continue
        for seed in (0, SEED_MOST):
            async for complaint in _taken(vendor, name, seed=seed):
                yield f"seed {seed}: {complaint}"
        for seed in (-1, SEED_MOST + 1):
            for complaint in _refused(vendor, name, "/seed", seed=seed):
                yield complaint


async def every_choice_costs_what_the_vendor_charges(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every choice of resolution, duration and sound costs what the simulated vendor charges for it."""
    for name, route in vendor.routes():
        for fields in _choices(route):
            request = vendor.request(name, **fields)
            expected = vendor.plan(request).price.amount_micros
            order = (await vendor.judged(vendor.order(request))).order
            if order is not None and order.price_micros != expected:
                asked = ", ".join(f"{field} {value}" for field, value in fields.items())
                charged = format_usd(order.price_micros)
                yield f"{route.mode}, {asked}: we expect {format_usd(expected)}, it charges {charged}"


async def a_failed_job_costs_what_the_vendor_keeps(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """What the catalogue says of a failed job's cost is what the simulated vendor does."""
    said, refunds = vendor.facts.vendor.failed_job_cost, vendor.simulated.refunds_failed_jobs
    if refunds != (said in ("free", "refunded")):
        does = "gives the money of failed jobs back" if refunds else "keeps the money of failed jobs"
        yield f"failed_job_cost is {said}, the simulated vendor {does}"


def _choices(route: Route) -> Iterator[dict[str, Any]]:
    for resolution in route.resolutions.choices:
        for duration_s in route.duration_s.legal:
            for sound in (False, True) if "sound" in route.fields and route.sound_default is not None else (None,):
                yield {"resolution": resolution, "duration_s": duration_s, "sound": sound}


def _counts(route: Route) -> Iterator[tuple[str, int, int]]:
    for field, count in (("image", route.image), ("videos", route.videos), ("references", route.references)):
        if count.most:
            yield field, count.least, count.most


def _inputs(field: str, route: Route, number: int) -> Any:
    match field:
        case "image":
            return "https://media.example/first.png" if number else None
        case "videos":
            return videos(number)
        case _:
            return references(route, number) if number <= route.references.most else videos(number)


async def _taken(vendor: VendorUnderTest, name: str, **fields: Any) -> AsyncIterator[str]:
    """Complain unless admission plans it and the vendor understands the same clip."""
    request = vendor.request(name, **fields)
    try:
        order = vendor.order(request)
    except Refused as refusal:
        yield f"{name}: our own admission refuses it: {refusal}"
        return
    verdict = await vendor.judged(order)
    if verdict.order is None:
        yield f"{name}: the simulated vendor refuses it: {verdict.detail}"
    elif (verdict.order.duration_s, verdict.order.resolution) != (order.plan.duration_s, order.plan.resolution):
        yield f"{name}: the simulated vendor understands {verdict.order.duration_s} s, {verdict.order.resolution}"


def _refused(vendor: VendorUnderTest, name: str, pointer: str, **fields: Any) -> Iterator[str]:
    """Complain unless admission refuses this field, before anything is reserved."""
    request: GenerationRequest = vendor.request(name, **fields)
    try:
        vendor.plan(request)
    except Refused as refusal:
        if pointer in {violation.pointer for violation in refusal.violations}:
            return
    shown = {field: str(value)[:20] for field, value in fields.items()}
    yield f"{name}: {shown} must be refused at {pointer}"
