"""The verb `replay`: renders or fetches again what failed, or holds today's code against a recorded history."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onetake.cli import environment
from onetake.cli.agreeing import agree
from onetake.cli.answer import Answer, Problem, Stopped, problem_of, say
from onetake.cli.options import OfTenant, moment, one_of, register, vendor_of
from onetake.core.errors import CATALOGUE, OnetakeError, Refused
from onetake.core.names import REPLAY_VERBS

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.cli.waiting import Interruption
    from onetake.client import Onetake
    from onetake.core.contracts import GenerationRecord, Recovered
    from onetake.core.names import ReplayVerb
    from onetake.engine.histories import Verdict
    from onetake.operations.replaying import Replayed, ReplayQuote, Replays

PAGE = 100


@dataclass(frozen=True)
class Terms:
    """How to replay."""

    verb: "ReplayVerb"
    accept_cost: bool
    dry_run: bool
    yes: bool
    pace: float
    detach: bool


@dataclass(frozen=True)
class Selection:
    """Which generations: by id, or by what they have in common."""

    ids: Sequence[str]
    tenant: str | None
    since: datetime | None
    error_code: str | None
    vendor: str | None

    def refuse_vague(self) -> None:
        """Ids or filters, and at least one of them. Raises a usage error."""
        filters = (self.since, self.error_code, self.vendor)
        if bool(self.ids) == any(filters):
            raise typer.BadParameter("give either ids, or at least one of --since, --error-code and --vendor.")
        vendor_of(self.vendor)
        if self.error_code is not None and self.error_code not in CATALOGUE:
            raise typer.BadParameter(f"--error-code {self.error_code!r} is no code; docs/reference/errors.md has all.")


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(
        app,
        replay,
        "onetake replay reattach gen_0199...",
        "onetake replay repersist --since 1d --error-code asset_unavailable",
        "onetake replay regenerate --since 2h --error-code vendor_failed --vendor apixo --dry-run",
        "onetake replay --history gen_0199...",
        "onetake replay --history tests/replay/histories --open-runs",
    )


def replay(  # noqa: PLR0917 - one parameter an option
    verb: Annotated[
        str | None, typer.Argument(help=", ".join(REPLAY_VERBS), metavar="VERB", show_default=False)
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Generations, gen_...; or none, with filters.", metavar="ID...")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="All accepted since: 90m, 2h, 3d, or 2026-11-21T08:00.", metavar="WHEN")
    ] = None,
    error_code: Annotated[str | None, typer.Option(help="All that ended with this code.", metavar="C")] = None,
    vendor: Annotated[str | None, typer.Option(help="All of this vendor.", metavar="V")] = None,
    tenant: OfTenant = None,
    accept_cost: Annotated[
        bool, typer.Option("--accept-cost", help="Render again also where the first render may still be paid.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do and cost; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money is spent.")] = False,
    pace: Annotated[float, typer.Option(min=0.01, max=100, help="Replays started a second.", metavar="N")] = 2.0,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return at once.")] = False,
    history: Annotated[
        list[str] | None,
        typer.Option(
            help="Hold today's code against a recorded history: an id, an exported file, or a folder of them; repeat.",
            metavar="ID",
        ),
    ] = None,
    open_runs: Annotated[
        bool, typer.Option("--open-runs", help="Hold today's code against the runs that are open now.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, help="Open runs of each workflow at most, spread over all; 0 takes all.", metavar="N")
    ] = 500,
    allow_none: Annotated[
        bool, typer.Option("--allow-none", help="With --open-runs: none may be open, as before a first deploy.")
    ] = False,
    workflow_id: Annotated[
        str | None, typer.Option(help="The workflow id of an exported file that does not name it.", metavar="W")
    ] = None,
) -> Answer:
    """Replay what failed, and say first what it will cost.

    `reattach` goes on waiting for a job that the vendor already has. `repersist` fetches its clip again from a live
    link. Both cost nothing new. `regenerate` renders again, with a new hold, once, however often it is asked.
    """
    if history or open_runs:
        gate = _replay_histories(history or [], workflow_id, open_runs=open_runs, sample=sample)
        refuse_a_gate_without_runs(gate.found, allow_none=allow_none)
        return _gate_answer(gate)
    if verb is None:
        raise typer.BadParameter(f"say which: {', '.join(REPLAY_VERBS)}; or --history, or --open-runs.")
    chosen_verb = one_of("VERB", verb, REPLAY_VERBS)
    chosen = Selection(ids or [], tenant, None if since is None else moment(since), error_code, vendor)
    chosen.refuse_vague()
    terms = Terms(chosen_verb, accept_cost=accept_cost, dry_run=dry_run, yes=yes, pace=pace, detach=detach)
    return _replay(chosen, terms)


# -- Replays -----------------------------------------------------------------------------------------------------------


def _replay(chosen: Selection, terms: Terms) -> Answer:
    settings = environment.settings()
    from onetake.cli.waiting import run
    from onetake.client import Onetake

    async def work(interruption: "Interruption") -> Answer:
        async with Onetake.connect(settings) as onetake:
            replays = onetake.replays()
            quotes = [
                await replays.quote(terms.verb, each, tenant=chosen.tenant, accept_cost=terms.accept_cost)
                async for each in _chosen(onetake, chosen, terms.verb)
            ]
            if chosen.ids and len(quotes) == 1 and quotes[0].refusal is not None:
                raise Stopped(problem_of(quotes[0].refusal, quotes[0].id))
            _say_quotes(quotes)
            wanted = [quote for quote in quotes if quote.refusal is None]
            if terms.dry_run or not wanted:
                return _quoted(quotes, dry_run=terms.dry_run)
            await _agree(wanted, yes=terms.yes)
            done = await _start_all(replays, wanted, chosen.tenant, terms)
            if len(done) == 1 and chosen.ids and not terms.detach:
                return await _waited(onetake, replays, done[0], interruption)
            return _replayed(done, quotes)

    return run(work)


async def _chosen(onetake: "Onetake", chosen: Selection, verb: "ReplayVerb") -> AsyncIterator[str]:
    """The ids given, or all that match, oldest page last. Only what failed or was canceled can be replayed.

    A filter never chooses what costs anew twice: renders that are replays themselves, and what was canceled unless the
    error code says so, are rendered again by id only. So a list that was cut off can be run again.
    """
    costs = verb == "regenerate"
    for each in dict.fromkeys(chosen.ids):
        yield each
    statuses: tuple[Literal["failed", "canceled"], ...] = () if chosen.ids else ("failed", "canceled")
    for status in statuses:
        after = None
        while True:
            page = await onetake.list(
                tenant=chosen.tenant,
                status=status,
                vendor=chosen.vendor,
                error_code=chosen.error_code,
                since=chosen.since,
                after=after,
                limit=PAGE,
            )
            for record in page:
                canceled = record.status == "canceled" and chosen.error_code != "canceled"
                if not (costs and (record.parent_id is not None or canceled)):
                    yield record.id
            if len(page) < PAGE:
                break
            after = page[-1].id


def _say_quotes(quotes: "Sequence[ReplayQuote]") -> None:
    from onetake.core.money import format_usd

    for quote in quotes:
        if quote.refusal is not None:
            say(f"{quote.id}  skipped: {quote.refusal.code}: {quote.refusal}")
        else:
            say(f"{quote.id}  {format_usd(quote.cost_micros)}  {quote.note}")
    wanted = [quote for quote in quotes if quote.refusal is None]
    total = format_usd(sum(quote.cost_micros for quote in wanted))
    say(f"{len(wanted)} of {len(quotes)} to replay; new money in all: {total}")


async def _agree(wanted: "Sequence[ReplayQuote]", *, yes: bool) -> None:
    """Ask a person before money is spent; a program says --yes."""
    refused = Problem("usage", "Nothing was started.", "Repeat it when it may be paid for.")
    free = not sum(quote.cost_micros for quote in wanted)
    await agree(yes=yes or free, look="Look at the price above, then repeat it with --yes.", refused=refused)


async def _start_all(
    replays: "Replays", wanted: "Sequence[ReplayQuote]", tenant: str | None, terms: Terms
) -> "list[Replayed]":
    """Start one after the other. What cannot be started now is said, and the same command takes it up again."""
    import asyncio

    done: list[Replayed] = []
    who = environment.operator()
    for number, quote in enumerate(wanted):
        if number:
            await asyncio.sleep(1 / terms.pace)
        try:
            done.append(
                await replays.replay(terms.verb, quote.id, who=who, tenant=tenant, accept_cost=terms.accept_cost)
            )
        except Refused as refusal:
            say(f"{quote.id}  skipped: {refusal.code}: {refusal}")
        except OnetakeError as error:
            say(f"{len(done)} were started before {quote.id}; the same command goes on from there.")
            raise Stopped(problem_of(error, quote.id)) from None
    return done


async def _waited(onetake: "Onetake", replays: "Replays", replayed: "Replayed", interruption: "Interruption") -> Answer:
    from onetake.cli.generations import answer_of, follow_generation

    if replayed.new_id is not None:
        interruption.generation_id = replayed.new_id
        say(f"{replayed.new_id} renders {replayed.id} again")
        return answer_of(await follow_generation(onetake, replayed.new_id, None), waited=True)
    say(f"{replayed.workflow_id} looks for its job; Ctrl-C leaves it running")
    interruption.generation_id = replayed.id
    recovered = await replays.recovered(replayed.id)
    return answer_of_recovery(recovered, await onetake.get(replayed.id))


def answer_of_recovery(recovered: "Recovered", record: "GenerationRecord") -> Answer:
    """How a recovery ended, with the generation as it stands after it. Raises Stopped where another one was first."""
    from onetake.cli.generations import answer_of

    if recovered.changed or recovered.error is None:
        return answer_of(record, waited=True)
    error = recovered.error
    if error.code == "nothing_to_replay":  # another recovery ended it first: the answer of whoever comes after both
        raise Stopped(problem_of(Refused(error.code, error.detail), record.id))
    say(f"{error.code}: {error.message}\n  {error.hint}")
    return Answer(
        {
            **record.model_dump(mode="json"),
            "recovery": recovered.model_dump(mode="json", exclude={"result", "version"}),
        },
        answer_of(record, waited=True).show,
        CATALOGUE[error.code].exit_code if error.code in CATALOGUE else 1,
    )


def _quoted(quotes: "Sequence[ReplayQuote]", *, dry_run: bool) -> Answer:
    document = {"dry_run": dry_run, "quotes": [_document(quote) for quote in quotes], "replayed": []}
    return Answer(document, lambda console: console.print("Nothing was started."))


def _replayed(done: "Sequence[Replayed]", quotes: "Sequence[ReplayQuote]") -> Answer:
    rows = [
        {
            "id": each.id,
            "workflow_id": each.workflow_id,
            "new_id": each.new_id,
            "cost_micros": each.cost_micros,
            "repeated": each.repeated,
        }
        for each in done
    ]
    document = {"dry_run": False, "quotes": [_document(quote) for quote in quotes], "replayed": rows}

    def show(console: "Console") -> None:
        for each in done:
            console.print(f"{each.id}  {each.new_id or each.workflow_id}", soft_wrap=True)
        console.print(f"{len(done)} started. `onetake get ID` shows how each ends.")

    return Answer(document, show)


def _document(quote: "ReplayQuote") -> dict[str, Any]:
    refusal = quote.refusal and {"code": quote.refusal.code, "message": str(quote.refusal)}
    return {"id": quote.id, "cost_micros": quote.cost_micros, "note": quote.note, "refusal": refusal}


# -- Histories ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gate:
    """What is held against today's code, and what came of it. `found` open runs were there, None when not asked."""

    verdicts: "Sequence[Verdict]"
    found: int | None
    replayed: int
    sample: int


def refuse_a_gate_without_runs(found: int | None, *, allow_none: bool) -> None:
    """A deployment that runs has open runs, the reconciler's at least: where none is found, the wrong place was asked.

    Raises Refused(`settings_invalid`)."""
    if found == 0 and not allow_none:
        place = "No run is open on this task queue in this namespace, so that nothing was held against today's code"
        hint = "check TEMPORAL_NAMESPACE and ONETAKE_TASK_QUEUE, or say --allow-none before a first deploy"
        raise Refused("settings_invalid", f"{place}: {hint}.")


def _replay_histories(sources: Sequence[str], workflow_id: str | None, *, open_runs: bool, sample: int) -> _Gate:
    settings = environment.settings()
    import asyncio

    from onetake.cli.waiting import run
    from onetake.engine.histories import OpenRuns, replay_files, replay_open_runs, replay_run, silence_engine

    silence_engine()

    async def work(_: "Interruption") -> _Gate:
        verdicts = list["Verdict"]()
        for source in sources:
            if await asyncio.to_thread(Path(source).exists):
                verdicts += await replay_files(settings, Path(source), workflow_id)
            else:
                verdicts.append(await replay_run(settings, source))
        opened = await replay_open_runs(settings, sample, say) if open_runs else OpenRuns(0, ())
        found = opened.found if open_runs else None
        return _Gate([*verdicts, *opened.verdicts], found, len(opened.verdicts), sample)

    return run(work)


def _gate_answer(gate: _Gate) -> Answer:
    differ = [each for each in gate.verdicts if each.difference is not None]
    document = {
        "replays": not differ,
        "replayed": len(gate.verdicts),
        "differ": [asdict(each) for each in differ],
        "open_runs": (
            None if gate.found is None else {"found": gate.found, "replayed": gate.replayed, "sample": gate.sample}
        ),
        "histories": [asdict(each) for each in gate.verdicts],
    }
    exit_code = CATALOGUE["history_differs"].exit_code if differ else 0
    return Answer(document, lambda console: _show_gate(console, gate, differ), exit_code)


def _show_gate(console: "Console", gate: _Gate, differ: "Sequence[Verdict]") -> None:
    for each in differ:
        place = f" at event {each.event}" if each.event else ""
        console.print(f"{each.workflow_id} (run {each.run_id}){place}: {each.difference}", soft_wrap=True)
    if gate.found is not None:
        sampled = f", of each workflow {gate.sample} at most" if gate.replayed < gate.found else ""
        console.print(f"{gate.replayed} of {gate.found} open runs were replayed{sampled}.", soft_wrap=True)
    if differ:
        console.print(
            f"{len(differ)} of {len(gate.verdicts)} differ. {CATALOGUE['history_differs'].hint}", soft_wrap=True
        )
    else:
        events = sum(each.events for each in gate.verdicts)
        console.print(f"Today's code repeats {len(gate.verdicts)} histories of {events} events.", soft_wrap=True)
