"""Verbs for policies: what may be asked for, by whom and of which routes."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from onetake.cli import environment
from onetake.cli.accounts import warning_of
from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import group_of_verbs, listed, one_of, refuse_empty, register
from onetake.core.names import FORCES, PolicyScope

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.core.contracts import Policy
    from onetake.ledger.database import Database
    from onetake.ledger.policies import PolicyChange

LARGEST: Final = 2**31 - 1  # that a column of these points takes
POINT_OPTIONS: Final = {
    "allowed": "allow",
    "most_seconds": "most-seconds",
    "highest_resolution": "highest-resolution",
    "most_micros": "most-usd",
    "most_open": "most-open",
    "most_starts_per_minute": "most-starts",
    "watermark": "watermark",
    "sound": "sound",
    "prompt_extend": "prompt-extend",
}

_Pattern = Annotated[
    str, typer.Argument(help="Routes, with * for any text; a vendor's name means all of its.", metavar="ROUTES")
]
_Tenant = Annotated[str | None, typer.Option(help="Only for this tenant; without it for everyone.", metavar="T")]
_User = Annotated[str | None, typer.Option(help="Only for this user of the tenant.", metavar="U")]
_Feature = Annotated[str | None, typer.Option(help="Only for this feature of the tenant.", metavar="F")]
_Why = Annotated[str, typer.Option(help="Why it is changed; written down with your name.", metavar="TEXT")]
_Force = Annotated[str | None, typer.Option(help="forced or forbidden.", metavar="HOW")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    policy = group_of_verbs(app, "policy", "What may be asked for, by whom and of which routes.")
    register(
        policy,
        set_,
        'onetake policy set "*/wan-2.6/reference-to-video*" --most-seconds 5 --why "the budget of November"',
        'onetake policy set gmi --tenant acme --forbid --why "no contract yet"',
        'onetake policy set "*" --tenant acme --feature intro --most-open 3 --highest-resolution 720p --why "trial"',
        'onetake policy set "*" --tenant acme --clear most-open --why "the trial is over"',
    )
    register(policy, show, "onetake policy show", "onetake policy show --history --json")
    register(
        policy,
        remove,
        'onetake policy remove gmi --tenant acme --why "signed"',
        'onetake policy remove "*" --tenant acme --feature intro --why "the trial is over" --json',
    )


def set_(  # noqa: PLR0917 - one parameter an option
    routes: _Pattern,
    why: _Why,
    tenant: _Tenant = None,
    user: _User = None,
    feature: _Feature = None,
    allow: Annotated[
        bool | None, typer.Option("--allow/--forbid", help="Whether these routes may be used at all.")
    ] = None,
    most_seconds: Annotated[int | None, typer.Option(min=1, max=LARGEST, help="The longest clip.", metavar="S")] = None,
    highest_resolution: Annotated[str | None, typer.Option(help="Such as 720p.", metavar="R")] = None,
    most_usd: Annotated[str | None, typer.Option(help="The most that one generation may cost.", metavar="USD")] = None,
    most_open: Annotated[
        int | None, typer.Option(min=0, max=LARGEST, help="Generations at one time.", metavar="N")
    ] = None,
    most_starts: Annotated[
        int | None, typer.Option(min=0, max=LARGEST, help="Generations a minute.", metavar="N")
    ] = None,
    watermark: _Force = None,
    sound: _Force = None,
    prompt_extend: _Force = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help=f"Say nothing more on {listed(tuple(POINT_OPTIONS.values()))}.", metavar="POINT"),
    ] = None,
) -> Answer:
    """Limit what may be asked for. Only the points that are named change; the narrowest policy on a point counts.

    It counts for what is accepted from now on.
    """
    forces = {"watermark": watermark, "sound": sound, "prompt_extend": prompt_extend}
    points: dict[str, Any] = {
        "allowed": allow,
        "most_seconds": most_seconds,
        "highest_resolution": _resolution(highest_resolution),
        "most_micros": None if most_usd is None else _micros(most_usd),
        "most_open": most_open,
        "most_starts_per_minute": most_starts,
        **{name: one_of(f"--{POINT_OPTIONS[name]}", each, FORCES) for name, each in forces.items() if each is not None},
    }
    given = {name: value for name, value in points.items() if value is not None}
    cleared = {_point(word): None for word in clear or ()}
    if both := given.keys() & cleared.keys():
        raise typer.BadParameter(f"{', '.join(sorted(both))} cannot be both set and cleared.")
    if not given and not cleared:
        raise typer.BadParameter(f"say on which point: {listed(tuple(POINT_OPTIONS.values()))}.")
    return _change(routes, tenant, user, feature, given | cleared, why)


def remove(routes: _Pattern, why: _Why, tenant: _Tenant = None, user: _User = None, feature: _Feature = None) -> Answer:
    """Remove a policy. What it said and who removed it stay written down."""
    return _change(routes, tenant, user, feature, dict.fromkeys(POINT_OPTIONS), why)


def show(
    history: Annotated[bool, typer.Option("--history", help="Who changed what, when and why; newest first.")] = False,
) -> Answer:
    """Show every policy, the widest first."""

    async def work(database: "Database") -> "tuple[Sequence[Policy], Sequence[PolicyChange]]":
        from onetake.ledger.policies import Policies

        policies = Policies(database)
        return await policies.all(), await policies.changes() if history else ()

    policies, changes = with_database(work)
    if history:
        document = {"changes": [each.model_dump(mode="json") for each in changes]}
        return Answer(document, lambda console: _show_changes(console, changes))
    document = {"policies": [each.model_dump(mode="json", exclude_none=True) for each in policies]}
    return Answer(document, lambda console: _show_policies(console, policies))


def _change(
    routes: str, tenant: str | None, user: str | None, feature: str | None, points: dict[str, Any], why: str
) -> Answer:
    from providers.catalogue import load_catalogue
    from providers.policies import checked_pattern

    if not why.strip():
        raise typer.BadParameter("--why says why.")
    pattern, (scope, key) = checked_pattern(routes, load_catalogue()), scope_of(tenant, user, feature)

    async def work(database: "Database") -> "tuple[Policy | None, str | None]":
        from onetake.ledger.budgets import Budgets
        from onetake.ledger.policies import Policies

        named = (scope, key, pattern, points)
        policy = await Policies(database).set_policy(*named, who=environment.operator(), why=why.strip())
        warning = None if scope == "everyone" else await warning_of(Budgets(database), scope, key)
        return policy, warning

    policy, warning = with_database(work)
    if warning:
        say(warning)
    document: dict[str, Any] = {
        "scope": scope,
        "key": key,
        "pattern": pattern,
        "removed": policy is None,
        "warning": warning,
    }
    document["policy"] = policy.model_dump(mode="json", exclude_none=True) if policy else None
    text = f"{_whom(scope, key)}, {pattern}: {_said(policy) if policy else 'no policy'}"
    return Answer(document, lambda console: console.print(text, soft_wrap=True))


def scope_of(tenant: str | None, user: str | None, feature: str | None) -> tuple[PolicyScope, str]:
    """Whom these options name."""
    require_tenant(tenant, user, feature)
    if user is not None and feature is not None:
        raise typer.BadParameter("give --user or --feature: a policy is for one of them.")
    if user is not None:
        return "user", f"{tenant}/{user}"
    if feature is not None:
        return "feature", f"{tenant}/{feature}"
    return ("everyone", "") if tenant is None else ("tenant", tenant)


def require_tenant(tenant: str | None, user: str | None, feature: str | None) -> None:
    """Refuse an empty name, and a user or a feature of no tenant."""
    for option, given in (("--tenant", tenant), ("--user", user), ("--feature", feature)):
        refuse_empty(option, given)
    if tenant is None and (user, feature) != (None, None):
        raise typer.BadParameter("users and features belong to a tenant: give --tenant too.")


def _point(word: str) -> str:
    chosen = one_of("--clear", word, tuple(POINT_OPTIONS.values()))
    return next(name for name, option in POINT_OPTIONS.items() if option == chosen)


def _resolution(given: str | None) -> str | None:
    if given is None:
        return None
    from providers.catalogue import load_catalogue

    known = {each for _, _, route in load_catalogue().by_name.values() for each in route.resolutions.choices}
    return one_of("--highest-resolution", given, sorted(known))


def _micros(usd: str) -> int:
    from onetake.core.money import parse_usd

    try:
        micros = parse_usd(usd.removeprefix("$"))
    except ValueError as error:
        raise typer.BadParameter(f"--most-usd {error}.") from None
    if micros < 0:
        raise typer.BadParameter("--most-usd is not below zero.")
    return micros


def _whom(scope: str, key: str) -> str:
    return f"{scope} {key}".strip()


def _said(policy: "Policy") -> str:
    said = policy.model_dump(include=set(POINT_OPTIONS), exclude_none=True)
    return ", ".join(point_text(name, value) for name, value in said.items())


_POINT_TEXTS: Final = {
    "most_seconds": "at most {} s",
    "highest_resolution": "at most {}",
    "most_open": "at most {} open",
    "most_starts_per_minute": "at most {} starts a minute",
}


def point_text(name: str, value: Any) -> str:
    """One point in words."""
    from onetake.core.money import format_usd

    if name == "allowed":
        return "allowed" if value else "not allowed"
    if name == "most_micros":
        return f"at most {format_usd(value)} a generation"
    return _POINT_TEXTS.get(name, f"{name} {{}}").format(value)


def _show_policies(console: "Console", policies: "Sequence[Policy]") -> None:
    from rich.table import Table

    if not policies:
        say("There are no policies: only the vendors' own limits count. `onetake policy set` makes one.")
        return
    table = Table("for", "routes", "says", box=None, pad_edge=False)
    for each in policies:
        table.add_row(_whom(each.scope, each.key), each.pattern, _said(each))
    console.print(table)


def _show_changes(console: "Console", changes: "Sequence[PolicyChange]") -> None:
    from rich.table import Table

    table = Table("at (UTC)", "who", "for", "routes", "before", "after", "why", box=None, pad_edge=False)
    for each in changes:
        said = [", ".join(point_text(*point) for point in (said or {}).items()) for said in (each.before, each.after)]
        when, whom = f"{each.at:%Y-%m-%d %H:%M:%S}", _whom(each.scope, each.key)
        table.add_row(when, each.who, whom, each.pattern, *(text or "-" for text in said), each.why)
    console.print(table)
