"""The verb that lists the catalogue's routes, with their rules, prices and sources."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.database import with_database
from onetake.cli.options import register
from onetake.cli.policies import point_text, require_tenant
from onetake.core.errors import Refused

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.core.contracts import Policy
    from onetake.core.settings import Settings
    from onetake.ledger.database import Database
    from providers.admission import RouteAdmission
    from providers.catalogue import Catalogue, Count, Route, VendorFacts
    from providers.pricing import PriceTable
    from providers.tariff import Choice, Tariff

_SOUNDS = {True: ", sound", False: ", no sound", None: ""}
# Rules whose source stands under another name.
_SOURCE_OF = {"shot_type multi": "multi_shot_needs_prompt_extend"}


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(
        app,
        routes,
        "onetake routes",
        "onetake routes apixo/wan-2.6/text-to-video",
        "onetake routes --prices",
        "onetake routes --tenant acme --json",
    )


def routes(
    route: Annotated[
        str | None, typer.Argument(help="One route, with its rules and where they come from.", metavar="ROUTE")
    ] = None,
    prices: Annotated[
        bool, typer.Option("--prices", help="Prices with version, first day, source and coming changes.")
    ] = False,
    tenant: Annotated[str | None, typer.Option(help="With the policies in force for this tenant.", metavar="T")] = None,
    user: Annotated[str | None, typer.Option(help="And for this user of the tenant.", metavar="U")] = None,
    feature: Annotated[str | None, typer.Option(help="And for this feature of the tenant.", metavar="F")] = None,
) -> Answer:
    """List the routes with their prices. Named, one of them with its rules and their sources."""
    from providers.catalogue import load_catalogue

    require_tenant(tenant, user, feature)
    data, settings = load_catalogue(), environment.settings()
    if route is not None:
        _require(data, route)
    if prices:
        return _all_prices(data, settings, data.route_names() if route is None else (route,))
    policies = () if tenant is None else _policies(settings, tenant, user, feature)
    return _all(data, settings, policies) if route is None else _one(data, route, settings, policies)


def _policies(settings: "Settings", tenant: str, user: str | None, feature: str | None) -> "Sequence[Policy]":
    async def work(database: "Database") -> "Sequence[Policy]":
        from onetake.ledger.terms import PostgresTerms

        return (await PostgresTerms(database).of_caller(tenant, user, feature)).policies

    return with_database(work, settings)


def _limits(policies: "Sequence[Policy]", route: str) -> list[dict[str, Any]]:
    """What policies say of the route, each point with the policy that says so."""
    from providers.policies import Decided

    points = Decided.of(policies, route).points.items()
    return [{"point": point, "value": value, "policy": policy.name} for point, (value, policy) in points]


def _require(data: "Catalogue", name: str) -> None:
    if data.route(name) is None:
        from providers.admission import nearest_route

        raise Refused("route_unknown", nearest_route(name, data.route_names()))


def _all(data: "Catalogue", settings: "Settings", policies: "Sequence[Policy]") -> Answer:
    rows = [_document(name, data, settings, policies) for name in data.route_names()]

    def show(console: "Console") -> None:
        from rich.table import Table

        table = Table("route", "seconds (default)", "resolutions (default)", "price", box=None, pad_edge=False)
        for row in rows:
            chosen = [f"{row['rules'][name]} ({row['defaults'][name]})" for name in ("duration_s", "resolution")]
            table.add_row(row["route"], *chosen, _cheapest(row))
        console.print(table)
        for row in rows:
            for limit in row["limits"]:
                console.print(f"{row['route']}: {_limit_text(limit)}", soft_wrap=True)

    return Answer({"version": data.version, "routes": rows}, show)


def _limit_text(limit: dict[str, Any]) -> str:
    return f"{point_text(limit['point'], limit['value'])}, by {limit['policy']}"


def _one(data: "Catalogue", name: str, settings: "Settings", policies: "Sequence[Policy]") -> Answer:
    row = _document(name, data, settings, policies)

    def show(console: "Console") -> None:
        console.print(row["route"])
        for title, text in _lines(row):
            console.print(f"  {title:<16} {text}", soft_wrap=True)
        for limit in row["limits"]:
            console.print(f"  {'policy':<16} {_limit_text(limit)}", soft_wrap=True)

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
    yield "status reads", f"{_cadence_text(row['cadence'])}; a deadline_s is at least {row['least_deadline_s']}"
    life_s = row["result_lifetime_s"]
    yield "a result lives", f"{life_s:g} s" if life_s else "not documented: it is fetched at once"
    yield from (("source", source) for source in row["sources"])
    for gap in row["undocumented"]:
        yield "undocumented", gap


def _document(name: str, data: "Catalogue", settings: "Settings", policies: "Sequence[Policy]") -> dict[str, Any]:
    vendor_name, vendor, route = data.by_name[name]
    table, admission = _table_of(route), _admission(data, settings)
    credit = admission.tariff.credit(vendor_name, vendor, _today())
    credit_source = (credit.source or "ONETAKE_PRICES") if credit else vendor.credit.source
    first_read = {} if route.first_read_s is None else {"first_read_s": route.first_read_s}
    return {
        "route": name,
        "rules": rules_of(route),
        "defaults": _defaults(name, data, settings),
        "media": route.media.model_dump(mode="json", exclude_none=True),
        "prices": _prices(route),
        "clip_prices": clip_prices(name, data, settings),
        "price_source": table.source if table else "no price is documented for today",
        "credit": {"usd": credit and str(credit.usd), "source": credit_source},
        "rule_sources": route.sources,
        **_facts_of(vendor.vendor),
        "cadence": vendor.cadence.model_dump() | first_read,
        "least_deadline_s": admission.least_deadline_s(vendor, route),
        "version": data.version,
        "limits": _limits(policies, name),
    }


def _defaults(name: str, data: "Catalogue", settings: "Settings") -> dict[str, Any]:
    """What a request gets that names nothing of these, by the default profile in force."""
    choice, route = _choice(name, data, settings), data.by_name[name][2]
    found = {
        "duration_s": choice.duration_s,
        "resolution": choice.resolution,
        "aspect_ratio": route.aspect_ratios.default if route.aspect_ratios else None,
        "sound": choice.sound,
        **route.defaults.named,
    }
    return {name: value for name, value in found.items() if value is not None}


def _choice(name: str, data: "Catalogue", settings: "Settings") -> "Choice":
    from onetake.core.contracts import GenerationRequest

    return _admission(data, settings).choice(GenerationRequest(route=name, prompt="a prompt does not enter the choice"))


def _admission(data: "Catalogue", settings: "Settings") -> "RouteAdmission":
    from providers.admission import RouteAdmission

    return RouteAdmission(settings, data, sends=False)


def clip_prices(name: str, data: "Catalogue", settings: "Settings") -> list[dict[str, Any]]:
    """What one clip of the default duration costs in USD, for each resolution and sound; None where nobody knows."""
    from providers.tariff import Tariff

    tariff, today = Tariff(data, settings.prices), _today()
    return [_clip_price(name, choice, tariff, today) for choice in _choices(name, data, settings)]


def _choices(name: str, data: "Catalogue", settings: "Settings") -> "list[Choice]":
    from providers.tariff import Choice

    route, duration_s = data.by_name[name][2], _choice(name, data, settings).duration_s
    sounds = (False, True) if any(table.prices_sound for table in route.price) else (route.sound_default,)
    return [Choice(each, sound, duration_s) for each in route.resolutions.choices for sound in sounds]


def _clip_price(name: str, choice: "Choice", tariff: "Tariff", day: date) -> dict[str, Any]:
    chosen = {"resolution": choice.resolution, "sound": choice.sound, "duration_s": choice.duration_s}
    try:
        found = tariff.price(name, choice, day)
    except Refused as refusal:
        if refusal.code != "price_missing":
            raise
        return {**chosen, "amount_micros": None, "unit": refusal.detail}
    return {
        **chosen,
        "amount_micros": found.price.amount_micros,
        "unit": found.price.unit,
        "version": found.price.table_version,
        "valid_from": found.valid_from and found.valid_from.isoformat(),
        "source": found.source,
    }


def _all_prices(data: "Catalogue", settings: "Settings", names: Sequence[str]) -> Answer:
    from providers.tariff import Tariff

    tariff, today = Tariff(data, settings.prices), _today()
    rows = [_with_changes(name, choice, tariff, today) for name in names for choice in _choices(name, data, settings)]

    def show(console: "Console") -> None:
        from rich.table import Table

        titles = ("route", "one clip", "price", "valid from", "version", "source")
        table = Table(*titles, box=None, pad_edge=False)
        for row in rows:
            table.add_row(row["route"], *_price_cells(row))
            for change in row["changes"]:
                table.add_row("", "  from then on", *_price_cells(change)[1:])
        console.print(table)

    return Answer({"version": tariff.version, "on": today.isoformat(), "prices": rows}, show)


def _with_changes(name: str, choice: "Choice", tariff: "Tariff", today: date) -> dict[str, Any]:
    """A price of today, and every price that is announced for a later day."""
    now = _clip_price(name, choice, tariff, today)
    later = [_clip_price(name, choice, tariff, day) for day in tariff.days(name) if day > today]
    changes = [
        each
        for before, each in pairwise((now, *later))
        if each["amount_micros"] is not None and each["version"] != before.get("version")
    ]
    return {"route": name, **now, "changes": changes}


def _price_cells(price: dict[str, Any]) -> tuple[str, ...]:
    from onetake.core.money import format_usd

    clip = f"{price['duration_s']} s, {price['resolution']}{_SOUNDS[price['sound']]}"
    if price["amount_micros"] is None:
        return clip, "not known", "", "", price["unit"]
    amount = f"{format_usd(price['amount_micros'])} ({price['unit']})"
    return clip, amount, price["valid_from"] or "ever", price["version"], price["source"]


def _today() -> date:
    return datetime.now(UTC).date()


def _table_of(route: "Route") -> "PriceTable | None":
    """The documented table that counts today."""
    from providers.pricing import in_force

    return in_force(route.price, _today())


def _prices(route: "Route") -> list[dict[str, Any]]:
    """The table's lines as they stand in it; none when no document names a price."""
    table = _table_of(route)
    if table is None or table.unit == "undocumented":
        return []
    lines: list[dict[str, Any]] = [line.model_dump(mode="json", exclude_none=True) for line in table.table]
    return [{**line, "unit": table.unit} for line in lines]


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
    named, values = {"aspect_ratio", "negative_prompt", "image", "videos", "references"}, _values()
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

    amount = "not known" if price["amount_micros"] is None else format_usd(price["amount_micros"])
    return f"{price['duration_s']} s, {price['resolution']}{_SOUNDS[price['sound']]}: {amount} ({price['unit']})"


def _cheapest(row: dict[str, Any]) -> str:
    from decimal import Decimal

    lines = sorted(row["prices"], key=lambda line: Decimal(line.get("usd") or line["credits"]))
    if not lines:
        return "not documented: configure it in ONETAKE_PRICES" if _lacks_price(row) else "configured in ONETAKE_PRICES"
    return _price_text(lines[0]) if len(lines) == 1 else f"from {_price_text(lines[0])}"


def _price_text(line: dict[str, Any]) -> str:
    amount = f"${line['usd']}" if "usd" in line else f"{line['credits']} credits"
    per = f" for {line['duration_s']} s" if "duration_s" in line else " a second"
    return f"{amount}{per} ({line['resolution']}{_SOUNDS[line.get('sound')]})"


def _lacks_price(row: dict[str, Any]) -> bool:
    return any(price["amount_micros"] is None for price in row["clip_prices"])


def _price_source(row: dict[str, Any]) -> str:
    source, usd, lacks = row["price_source"], row["credit"]["usd"], _lacks_price(row)
    if lacks and not row["prices"]:
        return f'{source}: set [usd_per_second."{row["route"]}"] in the file ONETAKE_PRICES names'
    if not row["prices"] or row["prices"][0]["unit"] == "usd_per_second" or not (usd or lacks):
        return source
    rate = f"1 credit is ${usd}" if usd else "set [credits] in the file ONETAKE_PRICES names"
    return f"{source}; {rate} ({row['credit']['source']})"
