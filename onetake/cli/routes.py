"""The verb that lists the catalogue's routes, with their rules, prices and sources."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.options import register
from onetake.core.errors import Refused

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.core.settings import Settings
    from providers.catalogue import Catalogue, Count, Route, VendorFacts

# Rules whose source stands under another name.
_SOURCE_OF = {"shot_type multi": "multi_shot_needs_prompt_extend"}


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(app, routes, "onetake routes", "onetake routes apixo/wan-2.6/text-to-video", "onetake routes --json")


def routes(
    route: Annotated[
        str | None, typer.Argument(help="One route, with its rules and where they come from.", metavar="ROUTE")
    ] = None,
) -> Answer:
    """List the routes with their prices. Named, one of them with its rules and their sources."""
    from providers.catalogue import load_catalogue

    data, settings = load_catalogue(), environment.settings()
    return _all(data, settings) if route is None else _one(data, route, settings)


def _all(data: "Catalogue", settings: "Settings") -> Answer:
    rows = [_document(name, data, settings) for name in data.route_names()]

    def show(console: "Console") -> None:
        from rich.table import Table

        table = Table("route", "seconds (default)", "resolutions (default)", "price", box=None, pad_edge=False)
        for row in rows:
            chosen = [f"{row['rules'][name]} ({row['defaults'][name]})" for name in ("duration_s", "resolution")]
            table.add_row(row["route"], *chosen, _cheapest(row))
        console.print(table)

    return Answer({"version": data.version, "routes": rows}, show)


def _one(data: "Catalogue", name: str, settings: "Settings") -> Answer:
    if data.route(name) is None:
        from providers.admission import nearest_route

        raise Refused("route_unknown", nearest_route(name, data.route_names()))
    row = _document(name, data, settings)

    def show(console: "Console") -> None:
        console.print(row["route"])
        for title, text in _lines(row):
            console.print(f"  {title:<16} {text}", soft_wrap=True)

    return Answer(row, show)


def _lines(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    sources, first_page = dict(row["rule_sources"]), row["sources"][0].partition(":")[0]
    for field, rule in row["rules"].items():
        default = str(row["defaults"].get(field, "")).lower()
        source = sources.pop(_SOURCE_OF.get(field, field), first_page)
        yield field, f"{rule}{f'; {default} when not given' if default else ''} [{source}]"
    media_source = sources.pop("media", first_page)
    for kind, limits in row["media"].items():
        yield f"{kind} file", f"{_media_text(limits)} [{media_source}]"
    for field, source in sources.items():
        yield "rule", f"{field} [{source}]"
    for line in row["prices"]:
        yield "price", _price_text(line)
    yield "price source", _price_source(row)
    for price in row["clip_prices"]:
        yield "one clip", _clip_price_text(price)
    yield "failed jobs", row["failed_job_cost"]
    yield "callbacks", "yes" if row["callbacks"] else "none: it is only polled"
    yield "status reads", _cadence_text(row["cadence"])
    life_s = row["result_lifetime_s"]
    yield "a result lives", f"{life_s:g} s" if life_s else "not documented: it is fetched at once"
    for source in row["sources"]:
        yield "source", source
    for gap in row["undocumented"]:
        yield "undocumented", gap


def _document(name: str, data: "Catalogue", settings: "Settings") -> dict[str, Any]:
    found = data.route(name)
    if found is None:
        raise KeyError(name)
    _, vendor, route = found
    first_read = {} if route.first_read_s is None else {"first_read_s": route.first_read_s}
    return {
        "route": name,
        "rules": rules_of(route),
        "defaults": _defaults(route),
        "media": route.media.model_dump(mode="json", exclude_none=True),
        "prices": _prices(route),
        "clip_prices": clip_prices(name, data, settings),
        "price_source": route.price.source,
        "credit": {"usd": str(vendor.credit.usd) if vendor.credit.usd else None, "source": vendor.credit.source},
        "rule_sources": route.sources,
        **_facts_of(vendor.vendor),
        "cadence": vendor.cadence.model_dump() | first_read,
        "version": data.version,
    }


def _defaults(route: "Route") -> dict[str, Any]:
    """What a request gets that leaves the choice to the route."""
    found = {
        "duration_s": route.duration_s.default,
        "resolution": route.resolutions.default,
        "aspect_ratio": route.aspect_ratios.default if route.aspect_ratios else None,
        "sound": route.sound_default,
    }
    return {name: value for name, value in found.items() if value is not None}


def clip_prices(name: str, data: "Catalogue", settings: "Settings") -> list[dict[str, Any]]:
    """What one clip of the default duration costs in USD, for each resolution and sound; None where nobody knows."""
    from providers.pricing import load_prices, price_of

    found = data.route(name)
    if found is None:
        raise KeyError(name)
    vendor_name, vendor, route = found
    configured = load_prices(settings.prices)
    prices: list[dict[str, Any]] = []
    for resolution in route.resolutions.choices:
        for sound in (None,) if route.sound_default is None else (False, True):
            choice = {"resolution": resolution, "sound": sound, "duration_s": route.duration_s.default}
            try:
                price = price_of(
                    name,
                    route.price,
                    resolution=resolution,
                    sound=sound,
                    duration_s=route.duration_s.default,
                    input_seconds=route.input_seconds_most,
                    usd_per_credit=vendor.usd_per_credit(configured.credits, vendor_name),
                    configured=configured,
                    version=data.version,
                )
            except Refused as refusal:
                if refusal.code != "price_missing":
                    raise
                prices.append({**choice, "amount_micros": None, "unit": refusal.detail})
            else:
                prices.append({**choice, "amount_micros": price.amount_micros, "unit": price.unit})
    return prices


def _prices(route: "Route") -> list[dict[str, Any]]:
    """The table's lines as they stand in it; none when no document names a price."""
    if route.price.unit == "undocumented":
        return []
    lines: list[dict[str, Any]] = [line.model_dump(mode="json", exclude_none=True) for line in route.price.table]
    return [{**line, "unit": route.price.unit} for line in lines]


def _facts_of(vendor: "VendorFacts") -> dict[str, Any]:
    return {
        "failed_job_cost": vendor.failed_job_cost,
        "callbacks": vendor.callbacks,
        "cancelable": vendor.cancelable,
        "result_lifetime_s": vendor.result_lifetime_s,
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
            text = f"exactly {count.least}" if count.least == count.most else f"{count.least} to {count.most}"
            yield name, f"{text}{_kinds(route) if name == 'references' else ''}"
    named = {"aspect_ratio", "negative_prompt", "image", "videos", "references"}
    values = _values()
    for name in sorted(route.fields - named):
        yield name, values.get(name, "true or false")
    if route.multi_shot_needs_prompt_extend:
        yield "shot_type multi", "needs prompt_extend"


def _values() -> dict[str, str]:
    """What may stand in a field that has no rule of its own in the catalogue; the others are yes or no."""
    from providers.admission import SHOT_TYPES
    from providers.catalogue import SEED_MOST

    return {"seed": f"0 to {SEED_MOST}", "shot_type": ", ".join(SHOT_TYPES), "audio_url": "one address"}


def _kinds(route: "Route") -> str:
    kinds = {"images": route.reference_kinds.image, "videos": route.reference_kinds.video}
    return f" ({', '.join(f'{name} up to {most}' for name, most in kinds.items() if most)})"


def _media_text(limits: dict[str, Any]) -> str:
    text = f"{', '.join(limits['formats'])}; up to {limits['most_bytes'] / 1_000_000:g} MB"
    if "least_px" in limits:
        alpha = "" if limits["alpha"] else "; no transparency"
        return f"{text}; {limits['least_px']} to {limits['most_px']} pixels a side{alpha}"
    return f"{text}; {limits['least_s']:g} to {limits['most_s']:g} s"


def _cadence_text(cadence: dict[str, float]) -> str:
    first, interval, most = (cadence[name] for name in ("first_read_s", "interval_s", "max_interval_s"))
    return f"the first after {first:g} s, then every {interval:g} s, growing to {most:g} s"


def _clip_price_text(price: dict[str, Any]) -> str:
    from onetake.core.money import format_usd

    sound = {True: ", sound", False: ", no sound", None: ""}[price["sound"]]
    amount = "not known" if price["amount_micros"] is None else format_usd(price["amount_micros"])
    return f"{price['duration_s']} s, {price['resolution']}{sound}: {amount} ({price['unit']})"


def _cheapest(row: dict[str, Any]) -> str:
    from decimal import Decimal

    lines = sorted(row["prices"], key=lambda line: Decimal(line.get("usd") or line["credits"]))
    if not lines:
        return "not documented: configure it in ONETAKE_PRICES"
    return _price_text(lines[0]) if len(lines) == 1 else f"from {_price_text(lines[0])}"


def _price_text(line: dict[str, Any]) -> str:
    amount = f"${line['usd']}" if "usd" in line else f"{line['credits']} credits"
    per = f" for {line['duration_s']} s" if "duration_s" in line else " a second"
    sound = {True: ", sound", False: ", no sound", None: ""}[line.get("sound")]
    return f"{amount}{per} ({line['resolution']}{sound})"


def _price_source(row: dict[str, Any]) -> str:
    if not row["prices"]:
        return f'{row["price_source"]}: set [usd_per_second."{row["route"]}"] in the file ONETAKE_PRICES names'
    if row["prices"][0]["unit"] == "usd_per_second":
        return row["price_source"]
    usd = row["credit"]["usd"]
    rate = f"1 credit is ${usd}" if usd else "set [credits] in the file ONETAKE_PRICES names"
    return f"{row['price_source']}; {rate} ({row['credit']['source']})"
