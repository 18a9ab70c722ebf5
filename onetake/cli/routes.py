"""What can be asked for: the catalogue's routes, their rules, prices and sources."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli.answer import Answer
from onetake.cli.options import AsJson, examples
from onetake.errors import Refused

if TYPE_CHECKING:
    from rich.console import Console

    from providers.catalogue import CatalogueData, Count, Route, Vendor


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command(
        epilog=examples("onetake routes", "onetake routes apixo/wan-2.6/text-to-video", "onetake routes --json")
    )(routes)


def routes(
    route: Annotated[
        str | None, typer.Argument(help="One route, with its rules and where they come from.", metavar="ROUTE")
    ] = None,
    as_json: AsJson = False,
) -> Answer:
    """List the routes with their prices. Named, one of them with its rules and their sources."""
    del as_json
    from providers.catalogue import load_catalogue

    data = load_catalogue()
    return _all(data) if route is None else _one(data, route)


def _all(data: "CatalogueData") -> Answer:
    rows = [_document(name, data) for name in data.route_names()]

    def show(console: "Console") -> None:
        from rich.table import Table

        table = Table("route", "seconds", "resolutions", "price", box=None, pad_edge=False)
        for row in rows:
            table.add_row(row["route"], row["rules"]["duration_s"], row["rules"]["resolution"], _cheapest(row))
        console.print(table)

    return Answer({"version": data.version, "routes": rows}, show)


def _one(data: "CatalogueData", name: str) -> Answer:
    if data.route(name) is None:
        from difflib import get_close_matches

        near = get_close_matches(name, data.route_names(), n=3, cutoff=0.4)
        raise Refused("route_unknown", f"Did you mean {' or '.join(near)}?" if near else "")
    row = _document(name, data)

    def show(console: "Console") -> None:
        console.print(row["route"])
        for field, rule in row["rules"].items():
            console.print(f"  {field:<16} {rule}", soft_wrap=True)
        for line in row["prices"]:
            console.print(f"  {'price':<16} {_price_text(line)}", soft_wrap=True)
        console.print(f"  {'failed jobs':<16} {row['failed_job_cost']}")
        for source in row["sources"]:
            console.print(f"  {'source':<16} {source}", soft_wrap=True)
        for gap in row["undocumented"]:
            console.print(f"  {'undocumented':<16} {gap}", soft_wrap=True)

    return Answer(row, show)


def _document(name: str, data: "CatalogueData") -> dict[str, Any]:
    found = data.route(name)
    if found is None:
        raise KeyError(name)
    _, vendor, route = found
    return {
        "route": name,
        "rules": rules_of(route),
        "prices": [
            {"resolution": line.resolution, "sound": line.sound, "usd": str(line.usd), "unit": route.price.unit}
            for line in route.price.table
        ],
        **_facts_of(vendor),
        "version": data.version,
    }


def _facts_of(vendor: "Vendor") -> dict[str, Any]:
    return {
        "failed_job_cost": vendor.failed_job_cost,
        "callbacks": vendor.callbacks,
        "cancelable": vendor.cancelable,
        "sources": list(vendor.documented),
        "undocumented": list(vendor.undocumented),
    }


def rules_of(route: "Route") -> dict[str, str]:
    """Every rule that admission checks, by the request's field."""
    return dict(_rules(route))


def _rules(route: "Route") -> Iterator[tuple[str, str]]:
    yield "prompt", f"1 to {route.prompt.most} characters" if route.prompt.required else f"up to {route.prompt.most}"
    yield "duration_s", f"{route.duration_s}"
    yield "resolution", ", ".join(route.resolutions.choices)
    if route.aspect_ratios:
        yield "aspect_ratio", ", ".join(route.aspect_ratios.choices)
    if route.negative_prompt:
        yield "negative_prompt", f"up to {route.negative_prompt.most} characters"
    counted: tuple[tuple[str, Count], ...] = (
        ("image", route.image),
        ("videos", route.videos),
        ("references", route.references),
    )
    for name, count in counted:
        if count.most:
            yield name, f"exactly {count.least}" if count.least == count.most else f"{count.least} to {count.most}"
    named = {"aspect_ratio", "negative_prompt", "image", "videos", "references"}
    for name in sorted(route.fields - named):
        yield name, "accepted"


def _cheapest(row: dict[str, Any]) -> str:
    from decimal import Decimal

    lines = sorted(row["prices"], key=lambda line: Decimal(line["usd"]))
    return _price_text(lines[0]) if len(lines) == 1 else f"from {_price_text(lines[0])}"


def _price_text(line: dict[str, Any]) -> str:
    sound = {True: ", sound", False: ", no sound", None: ""}[line["sound"]]
    return f"${line['usd']} a second ({line['resolution']}{sound})"
