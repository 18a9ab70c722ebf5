"""`onetake suspense resolve` of many: shows what a vendor's statement or contract decides, asks, and carries it out."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetake.cli import environment
from onetake.cli.agreeing import agree
from onetake.cli.answer import Answer, Problem, Stopped, problem_of, say
from onetake.cli.database import with_database
from onetake.core.errors import OnetakeError
from onetake.core.money import format_usd

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.database import Database
    from onetake.ledger.recoveries import SuspendedRow
    from onetake.operations.statements import Before, Decided, Form, Proposal, Statement, Statements


@dataclass(frozen=True)
class Terms:
    """Which vendor's amounts, and how to go about it."""

    vendor: str
    since: datetime | None
    dry_run: bool
    yes: bool


@dataclass
class Outcome:
    """What was decided, and what turned out to be decided before."""

    done: "list[Decided]"
    before: "list[Before]"


def resolve_from(path: Path, form: "Form", terms: Terms) -> Answer:
    """Decide what the file names. Raises Refused(`statement_invalid`) before anything is looked up."""
    from onetake.operations.statements import Statements, read_statement

    settings = environment.settings()
    statement = read_statement(path, form)

    async def work(database: "Database") -> Answer:
        proposal = await Statements(database).propose(statement, terms.vendor, terms.since)
        outcome = await _carry_out(database, proposal, terms)
        return _answer(statement, terms, proposal, outcome, await _remaining(database, proposal, terms))

    return with_database(work, settings)


def resolve_failed_jobs(terms: Terms) -> Answer:
    """Decide what the vendor's contract says of failed jobs. Raises Refused(`settings_invalid`) without one."""
    from onetake.operations.failed_jobs import propose_by_contract
    from providers.catalogue import load_catalogue
    from providers.tariff import Tariff

    settings = environment.settings()
    contracts = Tariff(load_catalogue(), settings.prices).failed_job_cost

    async def work(database: "Database") -> Answer:
        proposal = await propose_by_contract(database, contracts, terms.vendor)
        outcome = await _carry_out(database, proposal, terms)
        return _answer(None, terms, proposal, outcome, await _remaining(database, proposal, terms))

    return with_database(work, settings)


async def _carry_out(database: "Database", proposal: "Proposal", terms: Terms) -> Outcome:
    from onetake.operations.statements import Statements

    _say_proposal(proposal)
    outcome = Outcome([], list(proposal.before))
    if proposal.decisions and not terms.dry_run:
        await _agree(yes=terms.yes)
        await _decide(Statements(database), proposal, terms.vendor, outcome)
    return outcome


async def _remaining(database: "Database", proposal: "Proposal", terms: Terms) -> "list[SuspendedRow]":
    """What is in suspense afterwards, or would be."""
    from onetake.ledger.recoveries import Recoveries

    gone = {each.generation_id for each in proposal.decisions} if terms.dry_run else set[str]()
    return [row for row in await Recoveries(database).suspended(terms.vendor) if row.id not in gone]


def document_of(row: "SuspendedRow") -> dict[str, Any]:
    """An amount in suspense, for programs."""
    return {
        "id": row.id,
        "tenant": row.tenant,
        "vendor": row.vendor,
        "amount_micros": row.amount_micros,
        "reported_micros": row.reported_micros,
        "why": row.why,
        "since": row.resolved_at.isoformat(),
        "age_s": int(row.age_s),
        "task_id": row.task_id,
    }


async def _agree(*, yes: bool) -> None:
    refused = Problem("usage", "Nothing was decided.", "Repeat it when the decisions above are right.")
    await agree(yes=yes, look="Look at the decisions above, then repeat it with --yes.", refused=refused)


async def _decide(statements: "Statements", proposal: "Proposal", vendor: str, outcome: Outcome) -> None:
    from onetake.operations.statements import Before

    try:
        async for each in statements.decide(proposal.decisions, vendor, environment.operator()):
            if isinstance(each, Before):
                say(_line_of_before(each))
                outcome.before.append(each)
            else:
                outcome.done.append(each)
    except OnetakeError as error:
        say(f"At least {len(outcome.done)} were decided; the same command goes on from there.")
        raise Stopped(problem_of(error)) from None


def _say_proposal(proposal: "Proposal") -> None:
    for each in proposal.before:
        say(_line_of_before(each))
    for each in proposal.left:
        line = "" if each.line is None else f"line {each.line}: "
        say(f"{each.generation_id}  {each.task_id}  left alone: {line}{each.why}")
    for each in proposal.decisions:
        held, charged = format_usd(each.held_micros), format_usd(each.charged_micros)
        above = "  above the hold" if each.charged_micros > each.held_micros else ""
        say(f"{each.generation_id}  {each.task_id}  held {held}  charged {charged}  {each.to}{above}")
    totals = _totals(proposal.decisions)
    say(
        f"{totals['posted']} to post, {format_usd(totals['charged_micros'])} charged; {totals['released']} to release; "
        f"{format_usd(totals['held_micros'])} held in all"
    )


def _line_of_before(each: "Before") -> str:
    how = "decided before, and not so" if each.differs else "decided before"
    stands = f"{each.to} {format_usd(each.settled_micros)}"
    return f"{each.generation_id}  {each.task_id}  {how}: {stands} by {each.who} ({each.why})"


def _totals(decisions: "Sequence[Decided]") -> dict[str, int]:
    return {
        "posted": sum(each.to == "posted" for each in decisions),
        "released": sum(each.to == "released" for each in decisions),
        "held_micros": sum(each.held_micros for each in decisions),
        "charged_micros": sum(each.charged_micros for each in decisions),
    }


def _answer(
    statement: "Statement | None",
    terms: Terms,
    proposal: "Proposal",
    outcome: Outcome,
    remaining: "Sequence[SuspendedRow]",
) -> Answer:
    decisions = proposal.decisions if terms.dry_run else outcome.done
    document = {
        "dry_run": terms.dry_run,
        "vendor": terms.vendor,
        **(_of_statement(statement, proposal) if statement else {}),
        "decisions": [asdict(each) for each in decisions],
        "totals": _totals(decisions),
        "decided_before": [asdict(each) for each in outcome.before],
        "left_alone": [asdict(each) for each in proposal.left],
        "suspense": [document_of(row) for row in remaining],
    }
    return Answer(document, lambda console: _show(console, document, remaining))


def _of_statement(statement: "Statement", proposal: "Proposal") -> dict[str, Any]:
    return {
        "statement": statement.name,
        "lines": statement.count,
        "unmatched": proposal.unmatched,
        "not_in_suspense": proposal.settled,
        "before_since": proposal.too_old,
    }


def _show(console: "Console", document: dict[str, Any], remaining: "Sequence[SuspendedRow]") -> None:
    done = "would be decided" if document["dry_run"] else "decided"
    lines = f" Of {document['lines']} lines {document['unmatched']} matched nothing." if "lines" in document else ""
    console.print(
        f"{len(document['decisions'])} {done}, {len(document['decided_before'])} decided before, "
        f"{len(document['left_alone'])} left alone.{lines}"
    )
    left = "would be left" if document["dry_run"] else "left"
    total = format_usd(sum(row.amount_micros for row in remaining))
    console.print(f"{len(remaining)} {left} in suspense at {document['vendor']}: {total}")
    for row in remaining:
        console.print(f"{row.id}  {row.task_id or '-'}  {format_usd(row.amount_micros)}  {row.age}", soft_wrap=True)
