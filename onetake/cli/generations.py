"""Verbs for generations: generate, get, watch, list, cancel, download."""

# ruff: noqa: PLC0415 - `--help` stays fast

import dataclasses
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, say
from onetake.cli.options import OfTenant, listed, one_of, register, vendor_of
from onetake.cli.request_options import takes_request
from onetake.core.errors import CATALOGUE
from onetake.core.names import STATUSES, TERMINAL

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.cli.waiting import Interruption
    from onetake.client import Onetake, Quote, Started
    from onetake.core.contracts import GenerationRecord, GenerationRequest, GenerationResult
    from onetake.core.settings import Settings
    from providers.catalogue import Catalogue

T = TypeVar("T")

Id = Annotated[str, typer.Argument(help="The generation's id, gen_...", metavar="ID", show_default=False)]
Timeout = Annotated[
    float | None, typer.Option(min=0, help="Seconds to wait; the generation goes on afterwards (exit 6).", metavar="S")
]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(
        app,
        takes_request(generate),
        'onetake generate apixo/wan-2.6/text-to-video "a harbour at dawn" --duration 5 --resolution 720p',
        'onetake generate apixo/wan-2.6/text-to-video "a harbour at dawn" --dry-run --json',
        'onetake generate apixo/wan-2.6/text-to-video "a harbour at dawn" --quote quo_0199...',
        "onetake generate apixo/wan-2.6/image-to-video - --image https://example.com/first.png < prompt.txt",
    )
    register(app, get, "onetake get gen_0199...", "onetake get gen_0199... --json")
    register(app, watch, "onetake watch gen_0199...", "onetake watch gen_0199... --timeout 60 --json")
    register(app, list_, "onetake list", "onetake list --status failed --limit 5 --json")
    register(app, cancel, "onetake cancel gen_0199...", "onetake cancel gen_0199... --json")
    register(app, download, "onetake download gen_0199...", "onetake download gen_0199... -o clip.mp4")


def generate(
    fields: dict[str, Any],
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    timeout: Timeout = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and quote its price; send nothing.")] = False,
) -> Answer:
    """Make one clip and wait for it.

    The price is checked and reserved on every budget that applies before anything is sent. Ctrl-C ends the wait, not
    the generation.
    """
    if fields["prompt"] == "-":
        fields["prompt"] = _piped()
    settings = environment.settings()
    from onetake.client import request_of
    from providers.admission import RouteAdmission

    request = request_of(fields)
    admission = RouteAdmission(settings, sends=False)
    # Rules only: policies enter the price too. What a key has started is answered whatever the rules are today.
    if dry_run or request.idempotency_key is None:
        admission.check(request)
    if dry_run:
        return _dry_run(admission.catalogue, request, _ask(lambda onetake: onetake.quote(request)))
    return _run_generation(settings, request, detach=detach, timeout_s=timeout)


def _piped() -> str:
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError:
        raise typer.BadParameter("stdin is not UTF-8 text.") from None


def _dry_run(data: "Catalogue", request: "GenerationRequest", quote: "Quote") -> Answer:
    from onetake.cli.routes import rules_of
    from onetake.core.money import format_usd

    plan, found = quote.plan, data.route(request.route)
    rules = rules_of(found[2]) if found else {}
    document = {
        "dry_run": True,
        "quote_id": quote.id,
        "expires_at": quote.expires_at.isoformat(),
        "request": request.model_dump(mode="json", exclude_defaults=True),
        "price": plan.price.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json"),
        "rules_checked": rules,
    }

    def show(console: "Console") -> None:
        console.print(f"{plan.route}: {plan.duration_s} s, {plan.resolution}", soft_wrap=True)
        price = plan.price
        console.print(
            f"  price      {format_usd(price.amount_micros)} ({price.unit}, table {price.table_version})",
            soft_wrap=True,
        )
        console.print(f"  deadline   {plan.deadline_s:g} s")
        for name, rule in rules.items():
            console.print(f"  checked    {name}: {rule}", soft_wrap=True)
        for policy in plan.policies:
            console.print(f"  policy     {policy}", soft_wrap=True)
        until = f"{quote.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        console.print(f"  quote      {quote.id} holds this price until {until}: start with --quote {quote.id}")
        console.print("Nothing was sent and nothing was reserved.")

    return Answer(document, show)


def _run_generation(
    settings: "Settings", request: "GenerationRequest", *, detach: bool, timeout_s: float | None
) -> Answer:
    from onetake.cli.waiting import run
    from onetake.client import Onetake
    from onetake.core.money import format_usd

    async def work(interruption: "Interruption") -> "tuple[GenerationRecord, Started]":
        async with Onetake.connect(settings) as onetake:
            with interruption.held_back():
                started = await onetake.start(request)
                interruption.generation_id = started.id
            verb = "was started before with this key" if started.replayed else "started"
            say(f"{started.id} {verb}; price {format_usd(started.price_micros)}")
            if detach:
                return await onetake.get(started.id), started
            return await follow_generation(onetake, started.id, timeout_s), started

    record, started = run(work)
    if started.replayed and record.status in ("failed", "canceled"):
        code = f" ({record.error.code})" if record.error else ""
        say(f"It had ended as {record.status}{code}: this key starts nothing new; use another key to try again.")
    answer = answer_of(record, waited=not detach)
    return dataclasses.replace(answer, document={**answer.document, "replayed": started.replayed})


def get(generation_id: Id, tenant: OfTenant = None) -> Answer:
    """Show one generation. Where it stands, what it cost, and links to its clip."""
    return answer_of(_ask(lambda onetake: onetake.get(generation_id, tenant=tenant)), waited=False)


def watch(generation_id: Id, timeout: Timeout = None) -> Answer:
    """Wait for a generation to end. Shows its progress; the exit code is the generation's."""
    settings = environment.settings()
    from onetake.cli.waiting import run
    from onetake.client import Onetake

    async def work(interruption: "Interruption") -> "GenerationRecord":
        interruption.generation_id = generation_id
        async with Onetake.connect(settings) as onetake:
            return await follow_generation(onetake, generation_id, timeout)

    return answer_of(run(work), waited=True)


def list_(
    tenant: OfTenant = None,
    status: Annotated[str | None, typer.Option(help=f"{listed(STATUSES)}.", metavar="S")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only this vendor's.", metavar="V")] = None,
    error_code: Annotated[str | None, typer.Option(help="Only those that ended with this code.", metavar="C")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.", metavar="N")] = 20,
    after: Annotated[str | None, typer.Option(help="The page after this id.", metavar="ID")] = None,
) -> Answer:
    """List generations, the newest first."""
    chosen = None if status is None else one_of("--status", status, STATUSES)
    vendor = vendor_of(vendor)

    async def ask(onetake: "Onetake") -> "tuple[GenerationRecord, ...]":
        return await onetake.list(
            tenant=tenant, status=chosen, vendor=vendor, error_code=error_code, after=after, limit=limit
        )

    records = _ask(ask)
    following = records[-1].id if len(records) == limit else None
    document = {"generations": [record.model_dump(mode="json") for record in records], "after": following}
    return Answer(document, lambda console: _show_list(console, records))


def cancel(generation_id: Id, tenant: OfTenant = None) -> Answer:
    """Ask a generation to end. Free before it was submitted; afterwards the ledger says what it cost."""
    record = _ask(lambda onetake: onetake.cancel(generation_id, tenant=tenant))
    if record.status not in TERMINAL:
        say(
            "Cancellation is requested. Before the submission it is free; afterwards the vendor, who offers no way to"
            " cancel, is paid and the clip is kept. `onetake watch` shows how it ends."
        )
    return answer_of(record, waited=False)


def download(
    generation_id: Id,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file, or a folder for ID.mp4.", metavar="PATH")
    ] = Path(),
    tenant: OfTenant = None,
) -> Answer:
    """Fetch the clip and prove its sha256."""

    async def fetch(onetake: "Onetake") -> dict[str, Any]:
        record = await onetake.get(generation_id, tenant=tenant)
        path = await onetake.download(generation_id, output, tenant=tenant)
        asset = record.assets[0]
        return {"id": record.id, "path": str(path), "sha256": asset.sha256, "size_bytes": asset.size_bytes}

    document = _ask(fetch)
    return Answer(
        document, lambda console: console.print(f"{document['path']}  {document['size_bytes']} bytes", soft_wrap=True)
    )


def _ask(question: Callable[["Onetake"], Awaitable[T]]) -> T:
    settings = environment.settings()
    from onetake.cli.waiting import run
    from onetake.client import Onetake

    async def work(_: "Interruption") -> T:
        async with Onetake.connect(settings) as onetake:
            return await question(onetake)

    return run(work)


async def follow_generation(onetake: "Onetake", generation_id: str, timeout_s: float | None) -> "GenerationRecord":
    """Wait for a generation with a progress line."""
    from onetake.client.progress import ProgressLine, follow

    line = ProgressLine()
    try:
        return await follow(onetake.watch(generation_id, timeout_s), line)
    finally:
        line.close()


def answer_of(record: "GenerationRecord", *, waited: bool) -> Answer:
    """A generation as the answer; only a verb that waited takes its exit code from how the generation ended."""
    return Answer(
        record.model_dump(mode="json"),
        lambda console: _show(console, record),
        exit_code_of(record) if waited else 0,
    )


def exit_code_of(result: "GenerationResult") -> int:
    """0 for a clip, otherwise what the catalogue says of the error."""
    if result.status == "completed":
        return 0
    entry = CATALOGUE.get(result.error.code) if result.error else None
    return entry.exit_code if entry else 1


def _show(console: "Console", record: "GenerationRecord") -> None:
    console.print(f"{record.id}  {_where(record)}", soft_wrap=True)
    for name, value in _facts(record):
        console.print(f"  {name:<10} {value}", soft_wrap=True)


def _facts(record: "GenerationRecord") -> Iterator[tuple[str, str]]:
    yield "route", record.route
    for asset in record.assets:
        sound = "sound" if asset.has_audio else "no sound"
        yield "clip", f"{asset.duration_s:g} s, {asset.width}x{asset.height}, {asset.fps:g} fps, {asset.codec}, {sound}"
        yield "link", asset.url or asset.key
        yield "sha256", asset.sha256
    for notice in record.warnings:
        yield "warning", f"{notice.code}: {notice.message}"
    if record.parent_id:
        yield "again", f"it renders {record.parent_id} again"
    if record.correction:
        was = record.correction.from_code or record.correction.from_status
        yield "corrected", f"{record.correction.at:%Y-%m-%d %H:%M:%S} UTC by {record.correction.who} (was {was})"
    if record.error:
        yield "error", f"{record.error.code}: {record.error.message}"
        yield "do this", record.error.hint
    yield "cost", _cost_of(record)
    if record.vendor_task_id:
        yield "vendor id", record.vendor_task_id
    yield "run", record.ui_url or record.workflow_id


def _cost_of(record: "GenerationRecord") -> str:
    from onetake.core.money import format_usd

    cost = record.cost
    parts = [f"reserved {format_usd(cost.reserved_micros)}", f"settled {format_usd(cost.settled_micros)}"]
    if cost.suspense_micros:
        parts.append(f"in suspense {format_usd(cost.suspense_micros)}")
    return f"{', '.join(parts)} ({cost.basis})"


def _where(record: "GenerationRecord") -> str:
    return f"{record.status}, {record.phase}" if record.status not in TERMINAL else record.status


def _show_list(console: "Console", records: Sequence["GenerationRecord"]) -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not records:
        say("No generations match.")
        return
    table = Table("id", "status", "route", "tenant", "cost", "accepted at (UTC)", box=None, pad_edge=False)
    for record in records:
        error = f" ({record.error.code})" if record.error else ""
        spent = record.cost.settled_micros + record.cost.suspense_micros
        when = record.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(record.id, f"{_where(record)}{error}", record.route, record.tenant, format_usd(spent), when)
    console.print(table)
