"""Applies the catalogue to a request: every broken rule at once, or a pinned plan with its price.

Pure and repeatable: the client asks before anything exists, and the workflow's first activity asks again.
"""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from difflib import get_close_matches
from typing import get_args

from onetake.contracts import Cadence, GenerationRequest, Plan, Price, Queues
from onetake.errors import Refused, Violation
from onetake.money import MICROS_PER_USD, format_usd, micros_up
from onetake.settings import Settings
from providers.catalogue import SEED_MOST, CatalogueData, Count, OptionalField, Route, TextLimit, Vendor, load_catalogue

SHOT_TYPES = ("single", "multi")
UNKNOWN_DEADLINE_S = 1800.0
THROTTLE_LIMIT_S = 1800.0
UNREACHABLE_LIMIT_S = 600.0
HEARTBEAT_TIMEOUT_S = 15.0
SHORTEST_HEARTBEAT_TIMEOUT_S = 2.0
DURATION_TOLERANCE_S = 0.5
ADDRESS_MOST = 2048


class Catalogue:
    """The `Admission` port over the catalogue's data and the settings that scale and complete it."""

    def __init__(self, settings: Settings, data: CatalogueData | None = None, *, sends: bool = True) -> None:
        """`sends` is False in a process that only starts generations: the vendors' keys are the workers' alone."""
        self._settings = settings
        self._sends = sends
        self.data = data or load_catalogue()

    def plan(self, request: GenerationRequest, *, base_queue: str) -> Plan:
        """See `onetake.ports.Admission.plan`."""
        found = self.data.route(request.route)
        if found is None:
            raise Refused("route_unknown", _nearest_route(request.route, self.data.route_names()))
        name, vendor, route = found
        violations = tuple(broken_rules(route, request))
        if violations:
            raise Refused("request_invalid", violations=violations)
        if self._sends:
            self._require_key(name)
        plan = self._pinned(name, vendor, route, request, base_queue)
        _within_max_cost(request, plan.price.amount_micros)
        return plan

    def _require_key(self, name: str) -> None:
        key = self._settings.vendor(name).api_key
        if key is None or not key.get_secret_value():
            raise Refused("vendor_key_missing", f"Set ONETAKE_{name.upper()}_API_KEY for the workers.")

    def _pinned(self, name: str, vendor: Vendor, route: Route, request: GenerationRequest, base_queue: str) -> Plan:
        scale = self._settings.time_scale
        resolution = request.resolution or route.resolutions.default
        duration_s = route.duration_s.default if request.duration_s is None else request.duration_s
        sound = route.sound_default if request.sound is None else request.sound
        width, height = route.pixels.get(resolution, (None, None))
        return Plan(
            route=request.route,
            vendor=name,
            price=Price(
                amount_micros=route.price.amount_micros(resolution, sound, duration_s),
                unit=f"{format_usd(micros_up(route.price.rate(resolution, sound)))} a second",
                table_version=self.data.version,
            ),
            duration_s=duration_s,
            resolution=resolution,
            width=width,
            height=height,
            sound=sound,
            cadence=_scaled(vendor.cadence, route.first_read_s, scale),
            deadline_s=request.deadline_s or vendor.deadline_s * scale,
            unknown_deadline_s=UNKNOWN_DEADLINE_S * scale,
            throttle_limit_s=THROTTLE_LIMIT_S * scale,
            unreachable_limit_s=UNREACHABLE_LIMIT_S * scale,
            heartbeat_timeout_s=max(HEARTBEAT_TIMEOUT_S * scale, SHORTEST_HEARTBEAT_TIMEOUT_S),
            failed_job_cost=vendor.failed_job_cost,
            callbacks=vendor.callbacks,
            cancelable=vendor.cancelable,
            takes_seed="seed" in route.fields,
            queues=Queues(
                submit=f"{base_queue}-submit-{name}", read=f"{base_queue}-read-{name}", media=f"{base_queue}-media"
            ),
            max_asset_bytes=self._settings.asset_max_bytes,
            duration_tolerance_s=DURATION_TOLERANCE_S,
            time_scale=scale,
        )


def _scaled(cadence: Cadence, first_read_s: float | None, scale: float) -> Cadence:
    return Cadence(
        first_read_s=(first_read_s or cadence.first_read_s) * scale,
        interval_s=cadence.interval_s * scale,
        growth=cadence.growth,
        max_interval_s=cadence.max_interval_s * scale,
    )


def _nearest_route(given: str, names: tuple[str, ...]) -> str:
    close = get_close_matches(given, names, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def _within_max_cost(request: GenerationRequest, amount_micros: int) -> None:
    # Compared and not converted: a comparison rounds nothing and has no largest number.
    limit = request.max_cost_usd
    if limit is not None and Decimal(amount_micros) / MICROS_PER_USD > limit:
        allowed = format_usd(int(limit * MICROS_PER_USD))
        raise Refused("max_cost_exceeded", f"It costs {format_usd(amount_micros)}; max_cost_usd is {allowed}.")


def broken_rules(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    """Yield every rule of the route that the request breaks. Texts are counted, never repeated."""
    for rule in _RULES:
        yield from rule(route, request)


def _unknown_fields(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    for name in get_args(OptionalField):
        if getattr(request, name) not in (None, ()) and name not in route.fields:
            yield Violation(f"/{name}", "a value", f"nothing: {route.mode} has no {name} at this vendor")


def _texts(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    if route.prompt.required and not request.prompt.strip():
        yield Violation("/prompt", "nothing but spaces", f"1 to {route.prompt.most} characters")
    yield from _too_long("/prompt", request.prompt, route.prompt)
    if route.negative_prompt is not None and request.negative_prompt is not None:
        yield from _too_long("/negative_prompt", request.negative_prompt, route.negative_prompt)


def _too_long(pointer: str, text: str, limit: TextLimit) -> Iterator[Violation]:
    if not text.isascii() and re.search(r"[\ud800-\udfff]", text):
        yield Violation(pointer, "half a character", "text that can be sent as UTF-8")
    if len(text) > limit.most:
        yield Violation(pointer, f"{len(text)} characters", f"at most {limit.most} characters")


def _duration(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    value = request.duration_s
    if value is not None and not route.duration_s.allows(value):
        yield Violation("/duration_s", str(value), f"{route.duration_s} seconds", str(route.duration_s.nearest(value)))


def _words(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    ratios = route.aspect_ratios.choices if route.aspect_ratios else ()
    for name, choices in (
        ("resolution", route.resolutions.choices),
        ("aspect_ratio", ratios),
        ("shot_type", SHOT_TYPES if "shot_type" in route.fields else ()),
    ):
        value: str | None = getattr(request, name)
        if value is not None and choices and value not in choices:
            close = get_close_matches(value, choices, n=1, cutoff=0.0)
            yield Violation(f"/{name}", _quoted(value), ", ".join(choices), close[0] if close else None)


def _inputs(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    images = () if request.image is None else (request.image,)
    yield from _counted("/image", images, route.image)
    yield from _counted("/videos", request.videos, route.videos)
    yield from _counted("/references", request.references, route.references)


def _counted(pointer: str, given: tuple[str, ...], count: Count) -> Iterator[Violation]:
    if count.most and not count.least <= len(given) <= count.most:
        allowed = f"{count.least} to {count.most}" if count.least != count.most else f"exactly {count.least}"
        yield Violation(pointer, _addresses_in_words(len(given)), f"{allowed} {_noun(count.most)}")


def _addresses_in_words(number: int) -> str:
    return f"{number} {_noun(number)}"


def _noun(number: int) -> str:
    return "address" if number == 1 else "addresses"


def _addresses(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    """The addresses that the route counts; what is beyond its count is one violation already, not a thousand."""
    named = [("/image", request.image), ("/audio_url", request.audio_url)]
    named += [(f"/videos/{n}", url) for n, url in enumerate(request.videos[: route.videos.most])]
    named += [(f"/references/{n}", url) for n, url in enumerate(request.references[: route.references.most])]
    for pointer, url in named:
        if url is not None and not _is_address(url):
            yield Violation(
                pointer, "another kind of text", f"an http or https address of at most {ADDRESS_MOST} characters"
            )


def _is_address(url: str) -> bool:
    return len(url) <= ADDRESS_MOST and re.fullmatch(r"https?://[^/?#@\\\s]+([/?#][!-~]*)?", url) is not None


def _seed(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    if "seed" in route.fields and request.seed is not None and not 0 <= request.seed <= SEED_MOST:
        nearest = str(max(0, min(request.seed, SEED_MOST)))
        yield Violation("/seed", str(request.seed), f"0 to {SEED_MOST}", nearest)


def _silent_audio(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    if "sound" in route.fields and request.sound is False and request.audio_url is not None:
        yield Violation(
            "/audio_url", "an address with sound off", "sound on, or no audio_url: the vendor would ignore it"
        )


def _quoted(value: str) -> str:
    return repr(value[:32])


_RULES: tuple[Callable[[Route, GenerationRequest], Iterator[Violation]], ...] = (
    _unknown_fields,
    _texts,
    _duration,
    _words,
    _inputs,
    _addresses,
    _seed,
    _silent_audio,
)
