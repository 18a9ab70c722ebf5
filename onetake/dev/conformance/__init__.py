"""The conformance kit: the same scenarios for every vendor's adapter, and what a new one still lacks.

Requests are made from the vendor's own catalogue and judged by its simulator; answers are made by its simulator and
judged by what a paid pipeline needs. It asks a simulator and never a real vendor, and it changes nothing.

    registration  where a vendor has to be entered, and what it lacks there
    under_test    one vendor: its adapter, its facts, the vendor as it is simulated, and requests of its own catalogue
    requests      what an adapter builds          limits     what admission and the vendor take, and prices
    answers       what an adapter reads           patterns   what answers are varied with
    evidence      what a list and a balance show  wire       what happens to connections (peer: a server of raw bytes)
    live          one job a route at a simulator  kit        all of it, one vendor after the other
"""

from collections.abc import Sequence

from onetake.dev.conformance.registration import Finding, Registries, Report, examine, shipped_registries

__all__ = ["Finding", "Registries", "Report", "check", "shipped_registries"]


def check(names: Sequence[str], *, against: str | None = None, registries: Registries | None = None) -> list[Report]:
    """Try these vendors, at the simulator of that address or at one that lives as long as this call.

    Blocks, for a few seconds a vendor; a vendor that is not entered everywhere is not tried. Raises ValueError
    when the address is no simulator's.
    """
    registries = registries or shipped_registries()
    examined = {name: examine(name, registries) for name in names}
    if not any(vendor for _, vendor in examined.values()):
        return [Report(name, tuple(findings)) for name, (findings, _) in examined.items()]
    from onetake.dev.conformance import kit  # noqa: PLC0415 - it imports every adapter, of which one may be half written

    return kit.run(examined, against.rstrip("/") if against else None)
