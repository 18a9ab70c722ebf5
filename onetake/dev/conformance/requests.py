"""Scenarios about the request that an adapter builds: every field that a route accepts, and nothing else."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast, get_args
from urllib.parse import quote

import httpx
from pydantic import JsonValue

from onetake.core.contracts import GenerationRequest
from onetake.dev.conformance.patterns import leaves
from onetake.dev.conformance.under_test import BASE_URL, CALLBACK_URL, VendorUnderTest, references, videos
from providers.admission import broken_rules
from providers.catalogue import OptionalField, Route

# Ours alone: who pays and how it is kept. No vendor may hear of it.
PRIVATE: dict[str, Any] = {
    "tenant": "kit-tenant",
    "user": "kit-user",
    "feature": "kit-feature",
    "labels": {"kit-label": "kit-value"},
    "idempotency_key": "kit-idempotency-key",
    "max_cost_usd": 9999,
    "deadline_s": 4321,
}
# Different legal values of each field, whatever the route; where the route has a say, only the first one is used.
VALUES: dict[str, tuple[Any, ...]] = {
    "negative_prompt": ("kit negative prompt", "kit other negative prompt"),
    "aspect_ratio": ("16:9",),
    "image": ("https://media.example/kit-first.png", "https://media.example/kit-second.png"),
    "videos": (("https://media.example/kit-clip.mp4",),),
    "references": (("https://media.example/kit-clip.mp4",),),
    "audio_url": ("https://media.example/kit-track.mp3", "https://media.example/kit-other-track.mp3"),
    "sound": (False, True),
    "shot_type": ("single", "multi"),
    "prompt_extend": (False, True),
    "seed": (0, 2_147_483_647),
    "watermark": (False, True),
}


async def every_accepted_field_reaches_the_vendor(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every field that a route accepts reaches the request, with its own value."""
    for name, route in vendor.routes():
        for field in sorted(route.fields):
            bodies: list[str] = []
            for value in values_of(field, route):
                body = _body(vendor, vendor.request(name, **_with(field, value, route)))
                bodies.append(json.dumps(body))
                missing = [text for text in _texts(value) if text not in _leaf_texts(body)]
                if missing and field != "aspect_ratio":
                    yield f"{route.mode}: send {field}: {missing[0][:60]} is nowhere in the request"
            if len(set(bodies)) != len(bodies):
                yield f"{route.mode}: send {field}: different values make the same request"


async def the_prompt_and_the_choices_are_always_sent(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The prompt, the duration and the resolution are always sent, also where they are the route's own."""
    for name, route in vendor.routes():
        plain = _body(vendor, vendor.request(name))
        if vendor.request(name).prompt not in _leaf_texts(plain):
            yield f"{route.mode}: the prompt is nowhere in the request"
        choices: dict[str, tuple[Any, Any]] = {
            "duration_s": (route.duration_s.default, _other(route.duration_s.default, route.duration_s.legal)),
            "resolution": (route.resolutions.default, _other(route.resolutions.default, route.resolutions.choices)),
        }
        for field, (default, other) in choices.items():
            if _body(vendor, vendor.request(name, **{field: default})) != plain:
                yield f"{route.mode}: {field} {default} and no {field} must make the same request"
            if other is None:
                continue
            changed = _body(vendor, vendor.request(name, **{field: other}))
            differing = dict(leaves(changed)).items() - dict(leaves(plain)).items()
            if not differing:
                yield f"{route.mode}: {field} changes nothing in the request"
            if any(path not in dict(leaves(plain)) for path, _ in differing):
                yield f"{route.mode}: send {field} also when it is {default}: the vendor's default decides the price"


async def nothing_of_ours_is_sent(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Nothing else is sent: not who pays, not our labels, no null, no key."""
    for name, route in vendor.routes():
        plain = vendor.adapter.submit_request(BASE_URL, vendor.order(vendor.request(name)))
        private = vendor.adapter.submit_request(BASE_URL, vendor.order(vendor.request(name, **PRIVATE)))
        if (plain.url, plain.content) != (private.url, private.content):
            yield f"{route.mode}: tenant, user, feature, labels, keys and limits must not change the request"
        if any(leaf is None for _, leaf in leaves(_json(plain))):
            yield f"{route.mode}: leave a field out instead of sending null"
        if "authorization" in plain.headers or vendor.api_key in str(plain.url):
            yield f"{route.mode}: leave the key to the driver"


async def the_vendor_takes_what_we_build(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The simulated vendor, which refuses every field that it does not document, takes every request."""
    for name, route in vendor.routes():
        for label, fields in [("", {}), *_labelled(route)]:
            verdict = await vendor.judged(vendor.order(vendor.request(name, **fields)))
            if verdict.order is None:
                yield f"{route.mode}{label}: refused with {verdict.status}: {verdict.detail}"


async def fields_of_other_routes_are_refused_by_name(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A field that a route does not accept is refused by its name before anything is sent."""
    for name, route in vendor.routes():
        for field in sorted(set(get_args(OptionalField)) - route.fields):
            request = vendor.request(name, **{field: VALUES[field][0]})
            if f"/{field}" not in {violation.pointer for violation in broken_rules(route, request)}:
                yield f"{route.mode}: {field} is neither accepted nor refused"


async def a_callback_address_is_sent_when_there_is_one(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The callback address is sent when there is one, whole and once, and is understood."""
    if not vendor.facts.vendor.callbacks:
        return
    for name, route in vendor.routes():
        order = vendor.order(vendor.request(name), CALLBACK_URL)
        texts = list(_leaf_texts(_json(vendor.adapter.submit_request(BASE_URL, order))))
        if texts.count(CALLBACK_URL) != 1:
            yield f"{route.mode}: the callback address stands {texts.count(CALLBACK_URL)} times in the request"
        verdict = await vendor.judged(order)
        if verdict.order is not None and verdict.order.callback_url != CALLBACK_URL:
            yield f"{route.mode}: the simulated vendor would not call back"


async def the_same_order_is_the_same_bytes(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The same order makes the same bytes, so that its hash can tell a repeat."""
    for name, route in vendor.routes():
        order = vendor.order(vendor.request(name))
        first, second = (vendor.adapter.submit_request(BASE_URL, order) for _ in range(2))
        if (first.url, first.content) != (second.url, second.content):
            yield f"{route.mode}: build the body without clocks and without chance"
        if not first.headers.get("content-type", "").startswith("application/json"):
            yield f"{route.mode}: say that the body is JSON"


async def a_configured_address_replaces_the_documented_one(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A configured base URL replaces the documented one whole, for submissions and for status reads."""
    request = vendor.request(vendor.first_route)
    built = {
        "submit_request": vendor.adapter.submit_request(BASE_URL, vendor.order(request)),
        "status_request": vendor.adapter.status_request(BASE_URL, vendor.plan(request), "task-1"),
    }
    for function, made in built.items():
        if not str(made.url).startswith(f"{BASE_URL}/"):
            yield f"{function}: {made.url.host}{made.url.path} does not begin with the base URL that was given"


async def a_status_read_names_its_task(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A status read asks for exactly the task it was given, whatever characters the id is made of."""
    plan = vendor.plan(vendor.request(vendor.first_route))
    real = vendor.simulated.new_task_id()
    if await vendor.asked_for(plan, real) != real:
        yield "status_request: the simulated vendor does not find the task id in it"
    for task_id in ("a/b", "a?b=c", "a#b", "a b", "a%2Fb", "../a"):
        sent = vendor.adapter.status_request(BASE_URL, plan, task_id).url.raw_path.decode()
        if quote(task_id, safe="") not in sent:
            yield f"status_request: quote the task id with safe='': {task_id!r} became {sent}"


def values_of(field: str, route: Route) -> tuple[Any, ...]:
    """A few different legal values of a field of this route."""
    match field:
        case "aspect_ratio":
            return route.aspect_ratios.choices if route.aspect_ratios else ()
        case "videos":
            return tuple(videos(number) for number in _from_to(route.videos.least, route.videos.most))
        case "references":
            numbers = _from_to(route.references.least, route.references.most)
            return tuple(references(route, number) for number in numbers)
        case _:
            return VALUES[field]


def _with(field: str, value: Any, route: Route) -> dict[str, Any]:
    """The field, and what the route's rules want beside it."""
    beside = {"prompt_extend": True} if value == "multi" and "prompt_extend" in route.fields else {}
    return {field: value, **beside}


def _labelled(route: Route) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in sorted(route.fields):
        for value in values_of(field, route):
            yield f" with {field} {str(value)[:40]}", _with(field, value, route)


def _from_to(least: int, most: int) -> range:
    return range(max(least, 1), most + 1)


def _other(default: Any, legal: Any) -> Any:
    return next((value for value in legal if value != default), None)


def _texts(value: Any) -> list[str]:
    return [*map(str, cast("tuple[object, ...]", value))] if isinstance(value, tuple) else [str(value)]


def _body(vendor: VendorUnderTest, request: GenerationRequest) -> JsonValue:
    return _json(vendor.adapter.submit_request(BASE_URL, vendor.order(request)))


def _json(request: httpx.Request) -> JsonValue:
    return json.loads(request.content)


def _leaf_texts(body: JsonValue) -> list[str]:
    return [str(leaf) for _, leaf in leaves(body)]
