"""The conformance kit: the same scenarios for every vendor's adapter, and what a new one still lacks.

Requests are made from the vendor's own catalogue and judged by its simulator; answers are made by its simulator and
judged by what a paid pipeline needs. It asks a simulator and never a real vendor, and it changes nothing.

    places     where a vendor has to stand, and what it lacks there
    subject    one vendor on the bench            patterns   what answers are varied with
    requests   what an adapter builds             limits     what admission and the vendor take, and prices
    answers    what an adapter reads              wire       what happens to connections (peer: a server of raw bytes)
    live       one job a route at a simulator     kit        all of it, one vendor after the other
"""

from collections.abc import Sequence

from onetake.dev.conformance.places import Finding, Places, Report, place, shipped_places

__all__ = ["Finding", "Places", "Report", "check", "shipped_places"]


def check(names: Sequence[str], *, against: str | None = None, places: Places | None = None) -> list[Report]:
    """Try these vendors, at the simulator of that address or at one that lives as long as this call.

    Blocks, for about six seconds a vendor; a vendor that does not stand everywhere is not tried. Raises ValueError
    when the address is no simulator's.
    """
    places = places or shipped_places()
    placed = {name: place(name, places) for name in names}
    if not any(subject for _, subject in placed.values()):
        return [Report(name, tuple(findings)) for name, (findings, _) in placed.items()]
    from onetake.dev.conformance import kit  # noqa: PLC0415 - it imports every adapter, of which one may be half written

    return kit.run(placed, against.rstrip("/") if against else None)
