"""Applies the catalogue to a request: every broken rule at once, or a pinned plan with its price.

Pure and repeatable: the client asks before anything exists, and the workflow's first activity asks again.
"""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import get_args
from urllib.parse import urlsplit

from onetake.core.contracts import Cadence, GenerationRequest, Plan, Price, Queues
from onetake.core.errors import Refused, Violation
from onetake.core.names import InputKind
from onetake.core.ports import InputRule, MediaLimit, MediaRules
from onetake.core.settings import Settings
from providers.catalogue import (
    SEED_MOST,
    Catalogue,
    ClipLimits,
    Count,
    ImageLimits,
    OptionalField,
    Route,
    TextLimit,
    VendorData,
    load_catalogue,
)
from providers.pricing import load_prices, price_of

SHOT_TYPES = ("single", "multi")
UNKNOWN_DEADLINE_S = 1800.0
THROTTLE_LIMIT_S = 1800.0
UNREACHABLE_LIMIT_S = 600.0
HEARTBEAT_TIMEOUT_S = 15.0
SHORTEST_HEARTBEAT_TIMEOUT_S = 4.0
DURATION_TOLERANCE_S = 0.5
ADDRESS_MOST = 2048


class RouteAdmission:
    """The `Admission` port over the catalogue's data and the settings that scale and complete it."""

    def __init__(self, settings: Settings, catalogue: Catalogue | None = None, *, sends: bool = True) -> None:
        """`sends` is False in a process that only starts generations: the vendors' keys are the workers' alone."""
        self._settings = settings
        self._sends = sends
        self.catalogue = catalogue or load_catalogue()

    def plan(self, request: GenerationRequest, *, base_queue: str) -> Plan:
        """See `onetake.core.ports.Admission.plan`."""
        name, vendor, route = self._checked(request)
        plan = self._pinned(name, vendor, route, request, base_queue)
        request.afford(plan.price.amount_micros)
        return plan

    def check(self, request: GenerationRequest) -> None:
        """See `onetake.core.ports.Admission.check`."""
        self._checked(request)

    def media_rules(self, request: GenerationRequest) -> MediaRules:
        """See `onetake.core.ports.Admission.media_rules`."""
        found = self.catalogue.route(request.route)
        return _media_rules(found[2], request) if found else MediaRules()

    def _checked(self, request: GenerationRequest) -> tuple[str, VendorData, Route]:
        found = self.catalogue.route(request.route)
        if found is None:
            raise Refused("route_unknown", nearest_route(request.route, self.catalogue.route_names()))
        name, _, route = found
        violations = tuple(broken_rules(route, request))
        if violations:
            raise Refused("request_invalid", violations=violations)
        if self._sends:
            self._require_key(name)
        return found

    def _require_key(self, name: str) -> None:
        key = self._settings.vendor(name).api_key
        if key is None or not key.get_secret_value():
            raise Refused("vendor_key_missing", f"Set ONETAKE_{name.upper()}_API_KEY for the workers.")

    def _pinned(self, name: str, vendor: VendorData, route: Route, request: GenerationRequest, base_queue: str) -> Plan:
        scale, facts = self._settings.time_scale, vendor.vendor
        resolution = request.resolution or route.resolutions.default
        ratios = route.aspect_ratios
        aspect_ratio = request.aspect_ratio or (ratios.default if ratios else None)
        width, height = route.pixels_of(resolution, aspect_ratio)
        duration_s = route.duration_s.default if request.duration_s is None else request.duration_s
        sound = route.sound_default if request.sound is None else request.sound
        return Plan(
            route=request.route,
            vendor=name,
            vendor_model=route.vendor_model,
            price=self._price(name, vendor, route, request.route, resolution, sound, duration_s),
            duration_s=duration_s,
            resolution=resolution,
            aspect_ratio=aspect_ratio,
            reference_kinds=tuple(kind_by_name(url, route) for url in request.references),
            width=width,
            height=height,
            sound=sound,
            cadence=_scaled(vendor.cadence, route.first_read_s, scale),
            deadline_s=request.deadline_s or facts.deadline_s * scale,
            unknown_deadline_s=UNKNOWN_DEADLINE_S * scale,
            throttle_limit_s=THROTTLE_LIMIT_S * scale,
            unreachable_limit_s=UNREACHABLE_LIMIT_S * scale,
            heartbeat_timeout_s=max(HEARTBEAT_TIMEOUT_S * scale, SHORTEST_HEARTBEAT_TIMEOUT_S),
            failed_job_cost=facts.failed_job_cost,
            callbacks=facts.callbacks,
            cancelable=facts.cancelable,
            takes_seed="seed" in route.fields,
            lists_jobs=facts.lists_jobs,
            reads_balance=facts.balance == "charged_at_creation" and name in self._settings.exclusive_keys,
            absence_window_s=facts.absence_window_s * scale,
            queues=Queues.of(base_queue, name),
            max_asset_bytes=self._settings.asset_max_bytes,
            duration_tolerance_s=DURATION_TOLERANCE_S,
            time_scale=scale,
        )

    def _price(
        self,
        name: str,
        vendor: VendorData,
        route: Route,
        full_name: str,
        resolution: str,
        sound: bool | None,
        duration_s: int,
    ) -> Price:
        configured = load_prices(self._settings.prices)
        return price_of(
            full_name,
            route.price,
            resolution=resolution,
            sound=sound,
            duration_s=duration_s,
            input_seconds=route.input_seconds_most,
            usd_per_credit=vendor.usd_per_credit(configured.credits, name),
            configured=configured,
            version=self.catalogue.version,
        )


def _media_rules(route: Route, request: GenerationRequest) -> MediaRules:
    media, kinds = route.media, route.reference_kinds
    image = (_image_limit(media.image),) if media.image else ()
    video = (_clip_limit("video", media.video),) if media.video else ()
    audio = (_clip_limit("audio", media.audio),) if media.audio else ()
    either = (image if kinds.image else ()) + (video if kinds.video else ())
    named = [("/image", request.image, image), ("/audio_url", request.audio_url, audio)]
    named += [(f"/videos/{number}", url, video) for number, url in enumerate(request.videos)]
    named += [(f"/references/{number}", url, either) for number, url in enumerate(request.references)]
    return MediaRules(
        inputs=tuple(InputRule(pointer, url, limits) for pointer, url, limits in named if url is not None),
        most_references={"image": kinds.image, "video": kinds.video},
    )


def _image_limit(limits: ImageLimits) -> MediaLimit:
    return MediaLimit(
        "image",
        limits.formats,
        limits.most_bytes,
        least_px=limits.least_px,
        most_px=limits.most_px,
        alpha=limits.alpha,
    )


def _clip_limit(kind: InputKind, limits: ClipLimits) -> MediaLimit:
    return MediaLimit(kind, limits.formats, limits.most_bytes, least_s=limits.least_s, most_s=limits.most_s)


def kind_by_name(url: str, route: Route) -> InputKind:
    """What a reference seems to be: the route's only kind, else by the ending of its name, until its bytes are seen."""
    if not route.reference_kinds.image:
        return "video"
    endings = (".mp4", ".mov", ".webm", ".mkv")
    is_video = route.reference_kinds.video and urlsplit(url).path.lower().endswith(endings)
    return "video" if is_video else "image"


def _scaled(cadence: Cadence, first_read_s: float | None, scale: float) -> Cadence:
    return Cadence(
        first_read_s=(first_read_s or cadence.first_read_s) * scale,
        interval_s=cadence.interval_s * scale,
        growth=cadence.growth,
        max_interval_s=cadence.max_interval_s * scale,
    )


def nearest_route(given: str, names: tuple[str, ...]) -> str:
    """The routes that may have been meant, as a question; empty when none is near."""
    close = get_close_matches(given, names, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(close)}?" if close else ""


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
            yield Violation(f"/{name}", _quoted(value), ", ".join(choices), _nearest_word(value, choices))


def _nearest_word(value: str, choices: tuple[str, ...]) -> str | None:
    """The nearest size or ratio when the value reads as one (`480p`, `16:10`), else the word most alike."""
    given = _ratio(value)
    if given and (ratios := {choice: ratio for choice in choices if (ratio := _ratio(choice))}):
        return min(ratios, key=lambda choice: max(ratios[choice] / given, given / ratios[choice]))
    close = get_close_matches(value, choices, n=1, cutoff=0.0)
    return close[0] if close else None


def _ratio(word: str) -> float | None:
    found = re.fullmatch(r"([1-9][0-9]{0,4})(?::([1-9][0-9]{0,4})|[pP])?", word)
    return int(found[1]) / int(found[2] or 1) if found else None


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


def _multi_shot(route: Route, request: GenerationRequest) -> Iterator[Violation]:
    if route.multi_shot_needs_prompt_extend and request.shot_type == "multi" and request.prompt_extend is False:
        yield Violation(
            "/prompt_extend", "false with shot_type multi", "true: several shots are only made with it", "true"
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
    _multi_shot,
)
