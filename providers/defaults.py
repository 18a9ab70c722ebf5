"""What a clip gets where the caller names no resolution, duration or sound: the default profile, `ONETAKE_DEFAULTS`.

`cheapest` takes the legal combination of the lowest known price, `vendor` what the vendor documents as its defaults.
What the caller names is never changed.
"""

from collections.abc import Callable
from itertools import product

from onetake.core.contracts import GenerationRequest
from onetake.core.names import Defaults
from providers.catalogue import Route
from providers.tariff import Choice


def legal(route: Route, request: GenerationRequest) -> tuple[Choice, ...]:
    """All that a clip may be where the caller names only what the request names. Pure."""
    named = _documented(route, request)
    resolutions = (named.resolution,) if request.resolution else route.resolutions.choices
    durations = route.duration_s.legal if request.duration_s is None else (named.duration_s,)
    # A vendor ignores the sound file of a clip without sound: who names one gets the route's default.
    is_priced = any(table.prices_sound for table in route.price)
    free = is_priced and request.sound is None and request.audio_url is None
    sounds = (False, True) if free else (named.sound,)
    return tuple(Choice(*each) for each in product(resolutions, sounds, durations))


def choose(
    among: tuple[Choice, ...],
    route: Route,
    request: GenerationRequest,
    profile: Defaults,
    amount_of: Callable[[Choice], int | None],
) -> Choice:
    """One of `among`, which must not be empty: the vendor's defaults where the profile wants them and they are there,
    else the cheapest. `amount_of` gives micro-USD, or None for a price that nobody knows. Without any known price the
    lowest resolution and the shortest duration are taken. Pure."""
    documented = _documented(route, request)
    if profile == "vendor" and documented in among:
        return documented
    if len(among) == 1:
        return among[0]
    amounts = {choice: amount for choice in among if (amount := amount_of(choice)) is not None}
    return min(amounts or among, key=lambda choice: (amounts.get(choice, 0), *_order(route, choice)))


def _documented(route: Route, request: GenerationRequest) -> Choice:
    return Choice(
        request.resolution or route.resolutions.default,
        route.sound_default if request.sound is None else request.sound,
        route.duration_s.default if request.duration_s is None else request.duration_s,
    )


def _order(route: Route, choice: Choice) -> tuple[int, int, bool]:
    """Of choices at one price: the lowest resolution, then the shortest, then the sound that the route has anyway."""
    return route.resolutions.choices.index(choice.resolution), choice.duration_s, choice.sound != route.sound_default
