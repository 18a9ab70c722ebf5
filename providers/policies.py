"""Which policy decides what: on each point the narrowest one that says something.

A user's is narrower than a feature's, a feature's than a tenant's, a tenant's than everyone's. Of one caller's the
narrower is the one whose pattern names more of the route; of two that name as much, the later in the alphabet.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from onetake.core.contracts import CountLimit, GenerationRequest, Policy
from onetake.core.errors import Refused, Violation
from onetake.core.money import format_usd
from providers.catalogue import Catalogue, Route
from providers.tariff import Choice

_RANKS: Final = {"user": 3, "feature": 2, "tenant": 1, "everyone": 0}
_PATTERN: Final = re.compile(r"[A-Za-z0-9._/*-]+")
FORCED_FIELDS: Final = ("watermark", "sound", "prompt_extend")


def checked_pattern(given: str, catalogue: Catalogue) -> str:
    """A pattern that matches some route; a vendor's name alone means all its routes. Raises Refused(`usage`)."""
    pattern = f"{given}/*" if given in catalogue.vendors else given
    if not _PATTERN.fullmatch(pattern):
        raise Refused(
            "usage", f"{given[:64]!r} is not a pattern of routes, such as apixo/* or */wan-2.6/reference-to-video*."
        )
    if not any(matches(pattern, name) for name in catalogue.route_names()):
        from providers.admission import nearest_route  # noqa: PLC0415 - it imports this module

        hint = nearest_route(given.strip("*"), (*catalogue.vendors, *catalogue.route_names()))
        raise Refused("usage", f"No route matches {pattern!r}. {hint}".strip())
    return pattern


def matches(pattern: str, route: str) -> bool:
    """Whether the pattern names the route."""
    return fnmatchcase(route, pattern)


def height_of(resolution: str) -> int:
    """`720p` is 720: resolutions are compared by it. What has no number is the highest."""
    found = re.match(r"[0-9]+", resolution)
    return int(found[0]) if found else 10**9


@dataclass
class Decided:
    """What policies say about one route, and which of them spoke about the request at hand."""

    points: dict[str, tuple[Any, Policy]]
    spoke: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, policies: Sequence[Policy], route: str) -> "Decided":
        """The narrowest word on each point."""
        points: dict[str, tuple[Any, Policy]] = {}
        for policy in sorted((each for each in policies if matches(each.pattern, route)), key=_narrowness):
            said = policy.model_dump(exclude={"id", "scope", "key", "pattern"}, exclude_none=True)
            points |= {point: (value, policy) for point, value in said.items()}
        return cls(points)

    def value(self, point: str) -> Any:
        """What was said on the point; None when nothing was."""
        return self.points[point][0] if point in self.points else None

    def limits(self) -> tuple[CountLimit, ...]:
        """The numbers of generations that the ledger must keep to."""
        counted = [(self.points.get("most_open"), "open"), (self.points.get("most_starts_per_minute"), "starts")]
        return tuple(_limit(*said, counts) for said, counts in counted if said is not None)

    def forced(self, route: Route, request: GenerationRequest) -> GenerationRequest:
        """The request with the yes and no that policies put where the caller said nothing."""
        added: dict[str, bool] = {}
        for name in FORCED_FIELDS:
            if self.value(name) is not None and getattr(request, name) is None and name in route.fields:
                added[name] = self.value(name) == "forced"
                self._note(name)
        return request.model_copy(update=added)

    def violations(self, route: Route, request: GenerationRequest) -> Iterator[Violation]:
        """What the caller asked for and may not have, before there is a price."""
        if self.value("allowed") is False:
            yield self._violation("allowed", "/route", request.route, "no generation")
        most = self.value("most_seconds")
        if most is not None and request.duration_s is not None and request.duration_s > most:
            yield self._violation("most_seconds", "/duration_s", str(request.duration_s), f"at most {most} seconds")
        highest = self.value("highest_resolution")
        if highest and request.resolution is not None and height_of(request.resolution) > height_of(highest):
            yield self._violation("highest_resolution", "/resolution", request.resolution, f"at most {highest}")
        for name in FORCED_FIELDS:
            yield from self._forced_violations(name, route, request)

    def _forced_violations(self, name: str, route: Route, request: GenerationRequest) -> Iterator[Violation]:
        force, given = self.value(name), getattr(request, name)
        if force == "forced" and name not in route.fields:
            yield self._violation(name, f"/{name}", "a route without it", "only routes that take it, with true")
        elif force is not None and given is not None and given is not (force == "forced"):
            yield self._violation(name, f"/{name}", str(given).lower(), "true" if force == "forced" else "false")

    def narrowed(self, among: Sequence[Choice], amount_of: Callable[[Choice], int | None]) -> tuple[Choice, ...]:
        """What of these is allowed. Raises Refused(`policy_refused`) when nothing is short or small enough.

        When all are too dear, all are returned: the price of the chosen one is refused.
        """
        most, highest = self.value("most_seconds"), self.value("highest_resolution")
        short = [each for each in among if most is None or each.duration_s <= most]
        small = [each for each in among if highest is None or height_of(each.resolution) <= height_of(highest)]
        if refused := tuple(self._out_of_reach(short=short, small=small)):
            raise Refused("policy_refused", violations=refused)
        allowed = tuple(each for each in among if each in short and each in small)
        if (most_micros := self.value("most_micros")) is None:
            return allowed
        return tuple(each for each in allowed if (amount_of(each) or 0) <= most_micros) or allowed

    def _out_of_reach(self, *, short: Sequence[Choice], small: Sequence[Choice]) -> Iterator[Violation]:
        if not short:
            allowed = f"at most {self.value('most_seconds')} seconds"
            yield self._violation("most_seconds", "/duration_s", "a longer clip", allowed)
        if not small:
            highest = self.value("highest_resolution")
            yield self._violation("highest_resolution", "/resolution", "a larger clip", f"at most {highest}")

    def blamed(self, broken: Iterable[Violation]) -> Iterator[Violation]:
        """Rules of the route that are broken only by what policies put in the caller's place, with who did."""
        for each in broken:
            yield replace(each, allowed=f"{each.allowed}; {', '.join(self.spoke)}")

    def price_violations(self, amount_micros: int) -> Iterator[Violation]:
        """Whether one generation may cost so much."""
        most = self.value("most_micros")
        if most is not None and amount_micros > most:
            allowed = f"at most {format_usd(most)} for one generation"
            yield self._violation("most_micros", "/max_cost_usd", format_usd(amount_micros), allowed)

    def note_bounds(self, *points: str) -> None:
        """Remember that these points narrowed what was chosen in the caller's place."""
        for point in points:
            if point in self.points:
                self._note(point)

    def _note(self, point: str) -> None:
        value, policy = self.points[point]
        self.spoke.append(f"{point} {value}, by {policy.name}")

    def _violation(self, point: str, pointer: str, given: str, allowed: str) -> Violation:
        return Violation(pointer, given, f"{allowed}, by {self.points[point][1].name}")


def _narrowness(policy: Policy) -> tuple[int, int, str]:
    return _RANKS[policy.scope], len(policy.pattern.replace("*", "")), policy.pattern


def _limit(most: int, policy: Policy, counts: str) -> CountLimit:
    named = {"policy_id": policy.id, "scope": policy.scope, "key": policy.key, "pattern": policy.pattern}
    return CountLimit.model_validate({**named, "counts": counts, "most": most})
