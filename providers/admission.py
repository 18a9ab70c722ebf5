"""Applies the catalogue to a request: every broken rule at once, or a pinned plan with its price.

Pure and repeatable: the client asks before anything exists, and the workflow's first activity asks again.

It is over 400 lines because every rule of a request stands beside the plan that it guards.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from difflib import get_close_matches
from math import ceil
from typing import Any, get_args
from urllib.parse import urlsplit

from onetake.core.contracts import MOST_START_BYTES, Cadence, GenerationRequest, Plan, Price, Queues
from onetake.core.errors import Refused, Violation
from onetake.core.money import format_usd
from onetake.core.names import InputKind
from onetake.core.ports import InputRule, MediaLimit, MediaRules, Terms
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
from providers.contracts import contract_at
from providers.defaults import choose, legal
from providers.policies import Decided
from providers.tariff import Choice, Tariff

SHOT_TYPES = ("single", "multi")
UNKNOWN_DEADLINE_S = 1800.0
UNREACHABLE_LIMIT_S = 600.0
RESULT_LIFETIME_S = 6 * 3600.0  # how long a paid clip is sought where no document says how long it is kept
HEARTBEAT_TIMEOUT_S = 15.0
SHORTEST_HEARTBEAT_TIMEOUT_S = 4.0
DURATION_TOLERANCE_S = 0.5
ADDRESS_MOST = 2048
READ_MARGIN_S = 30.0  # what a deadline leaves after the first read is due, so that it can be made, and once more


class RouteAdmission:
    """The `Admission` port over the catalogue's data and the settings that scale and complete it."""

    def __init__(self, settings: Settings, catalogue: Catalogue | None = None, *, sends: bool = True) -> None:
        """`sends` is False in a process that only starts generations: the vendors' keys are the workers' alone."""
        self._settings = settings
        self._sends = sends
        self.catalogue = catalogue or load_catalogue()
        self.tariff = Tariff(self.catalogue, settings.prices)

    def plan(self, request: GenerationRequest, terms: Terms | None = None, *, base_queue: str) -> Plan:
        """See `onetake.core.ports.Admission.plan`."""
        quoted = None if request.quote_id is None else self._quoted(request, terms, base_queue)
        asked = as_quoted(request, quoted) if quoted else request
        name, vendor, route = self._checked(asked)
        policies = Decided.of(terms.policies if terms else (), request.route)
        refused = tuple(policies.violations(route, asked))
        wanted = policies.forced(route, asked)
        # What policies put in the caller's place must still be a request that the route takes.
        if refused or (refused := tuple(policies.blamed(broken_rules(route, wanted)))):
            raise Refused("policy_refused", violations=refused)
        day = _day_of(terms)
        choice = self._chosen(route, wanted, policies, day)
        price = quoted.price if quoted else self.tariff.price(request.route, choice, day).price
        plan = self._pinned(name, vendor, route, wanted, choice, base_queue, price)
        if refused := tuple(policies.price_violations(plan.price.amount_micros)):
            raise Refused("policy_refused", violations=refused)
        request.afford(plan.price.amount_micros)
        said = {"policies": tuple(policies.spoke), "limits": policies.limits()}
        return plan.model_copy(update={**said, **self._contracted(name, terms)})

    def _contracted(self, name: str, terms: Terms | None) -> dict[str, Any]:
        """What a contract says of failed jobs goes before the vendor's documents."""
        contract = contract_at(self.tariff.failed_job_cost, name, terms.at if terms else None)
        return {"failed_job_cost": contract.cost} if contract else {}

    def _chosen(self, route: Route, request: GenerationRequest, policies: Decided, day: date) -> Choice:
        """Complete resolution, duration and sound by the default profile, among what policies allow. They refuse a
        route of which nothing is short or small enough."""

        def amount_of(choice: Choice) -> int | None:
            return self._amount(request.route, choice, day)

        among, profile = legal(route, request), self._settings.defaults
        allowed = policies.narrowed(among, amount_of)
        choice = choose(allowed, route, request, profile, amount_of)
        if allowed != among and choice != choose(among, route, request, profile, amount_of):
            policies.note_bounds("most_seconds", "highest_resolution", "most_micros")
        return choice

    def _quoted(self, request: GenerationRequest, terms: Terms | None, base_queue: str) -> Plan:
        """The quoted plan, whose choices and price count; rules, policies, keys and queues are those of today."""
        quote = terms.quote if terms else None
        if terms is None or quote is None:
            raise Refused("quote_not_found", request.quote_id or "")
        if not quote.fits:
            raise Refused("quote_differs")
        if terms.at >= quote.expires_at:
            raise Refused("quote_expired", self._price_now(request, terms, base_queue))
        return quote.plan

    def _price_now(self, request: GenerationRequest, terms: Terms, base_queue: str) -> str:
        unlimited = request.model_copy(update={"quote_id": None, "max_cost_usd": None})
        return f"It costs {format_usd(self.plan(unlimited, terms, base_queue=base_queue).price.amount_micros)} now."

    def check(self, request: GenerationRequest) -> None:
        """See `onetake.core.ports.Admission.check`."""
        self._checked(request)

    def media_rules(self, request: GenerationRequest) -> MediaRules:
        """See `onetake.core.ports.Admission.media_rules`."""
        found = self.catalogue.route(request.route)
        return _media_rules(found[2], request) if found else MediaRules()

    def choice(self, request: GenerationRequest) -> Choice:
        """Complete resolution, duration and sound of a request that breaks no rule, by the default profile. Raises
        Refused(`route_unknown`). Pure."""
        route, profile = self._found(request.route)[2], self._settings.defaults
        among, day = legal(route, request), _day_of(None)
        return choose(among, route, request, profile, lambda choice: self._amount(request.route, choice, day))

    def _checked(self, request: GenerationRequest) -> tuple[str, VendorData, Route]:
        found = self._found(request.route)
        name, _, route = found
        violations = (*broken_rules(route, request), *self._too_early(found[1], route, request))
        if violations := violations or tuple(_too_large(request)):
            raise Refused("request_invalid", violations=violations)
        if self._sends:
            self._require_key(name)
        return found

    def least_deadline_s(self, vendor: VendorData, route: Route) -> int:
        """The shortest deadline within which the job of this route is read at all, in whole seconds."""
        first_read_s = route.first_read_s or vendor.cadence.first_read_s
        return max(1, ceil((first_read_s + READ_MARGIN_S) * self._settings.time_scale))

    def _too_early(self, vendor: VendorData, route: Route, request: GenerationRequest) -> Iterator[Violation]:
        """A job whose deadline is over before its first read is paid for, and nobody ever looks at it."""
        given, least = request.deadline_s, self.least_deadline_s(vendor, route)
        if given is not None and given < least:
            yield Violation("/deadline_s", str(given), f"at least {least} for this route", str(least))

    def _found(self, route_name: str) -> tuple[str, VendorData, Route]:
        found = self.catalogue.route(route_name)
        if found is None:
            raise Refused("route_unknown", nearest_route(route_name, self.catalogue.route_names()))
        return found

    def _require_key(self, name: str) -> None:
        key = self._settings.vendor(name).api_key
        if key is None or not key.get_secret_value():
            raise Refused("vendor_key_missing", f"Set ONETAKE_{name.upper()}_API_KEY for the workers.")

    def _pinned(
        self,
        name: str,
        vendor: VendorData,
        route: Route,
        request: GenerationRequest,
        choice: Choice,
        base_queue: str,
        price: Price,
    ) -> Plan:
        scale, facts = self._settings.time_scale, vendor.vendor
        ratios = route.aspect_ratios
        aspect_ratio = request.aspect_ratio or (ratios.default if ratios else None)
        width, height = route.pixels_of(choice.resolution, aspect_ratio)
        return Plan(
            route=request.route,
            vendor=name,
            vendor_model=route.vendor_model,
            price=price,
            duration_s=choice.duration_s,
            resolution=choice.resolution,
            aspect_ratio=aspect_ratio,
            reference_kinds=tuple(kind_by_name(url, route) for url in request.references),
            width=width,
            height=height,
            sound=choice.sound,
            watermark=request.watermark,
            prompt_extend=request.prompt_extend,
            cadence=_scaled(vendor.cadence, route.first_read_s, scale),
            deadline_s=request.deadline_s or facts.deadline_s * scale,
            unknown_deadline_s=UNKNOWN_DEADLINE_S * scale,
            unreachable_limit_s=UNREACHABLE_LIMIT_S * scale,
            heartbeat_timeout_s=max(HEARTBEAT_TIMEOUT_S * scale, SHORTEST_HEARTBEAT_TIMEOUT_S),
            failed_job_cost=facts.failed_job_cost,
            bills_generated=facts.bills == "generated_seconds",
            reported_cost_most=self._settings.reported_cost_most,
            callbacks=facts.callbacks,
            cancelable=facts.cancelable,
            takes_seed="seed" in route.fields,
            lists_jobs=facts.lists_jobs,
            reads_balance=facts.balance == "charged_at_creation" and name in self._settings.exclusive_keys,
            absence_window_s=facts.absence_window_s * scale,
            queues=Queues.of(base_queue, name),
            max_asset_bytes=self._settings.asset_max_bytes,
            duration_tolerance_s=DURATION_TOLERANCE_S,
            result_lifetime_s=(facts.result_lifetime_s or RESULT_LIFETIME_S) * scale,
            time_scale=scale,
        )

    def _amount(self, route_name: str, choice: Choice, day: date) -> int | None:
        try:
            return self.tariff.price(route_name, choice, day).price.amount_micros
        except Refused as refusal:
            if refusal.code != "price_missing":
                raise
            return None


def _day_of(terms: Terms | None) -> date:
    """The day whose prices count: the ledger's; without terms, this machine's."""
    return (terms.at if terms else datetime.now(UTC)).astimezone(UTC).date()


def as_quoted(request: GenerationRequest, quoted: Plan) -> GenerationRequest:
    """The request with the choices that it left to its route, as they were when its price was quoted."""
    left = [name for name in ("duration_s", "resolution", "aspect_ratio", "sound") if getattr(request, name) is None]
    return request.model_copy(update={name: getattr(quoted, name) for name in left})


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
                pointer, _fault_of(url), f"an http or https address of at most {ADDRESS_MOST} ASCII characters"
            )


def _is_address(url: str) -> bool:
    return len(url) <= ADDRESS_MOST and re.fullmatch(r"https?://[^/?#@\\\s]+([/?#][!-~]*)?", url) is not None


def _fault_of(url: str) -> str:
    """What is wrong with an address, without repeating it."""
    if len(url) > ADDRESS_MOST:
        return f"an address of {len(url)} characters"
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "an address with a space or a line break in it (%20 stands for a space)"
    if not url.isascii():
        return "an address with letters beyond ASCII (percent-encode them: a link as a browser copies it)"
    if not re.match(r"https?://", url):
        return "no http or https address"
    return "an address with a user name or a backslash in it, or without a host"


def _too_large(request: GenerationRequest) -> Iterator[Violation]:
    size = len(request.model_dump_json())
    if size > MOST_START_BYTES:
        yield Violation("", f"{size} bytes in all", f"a request of at most {MOST_START_BYTES} bytes")


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
