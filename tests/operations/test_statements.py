"""A vendor's statement decides the amounts in suspense that it names: once, and only what it says clearly."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from onetake.core.errors import Refused
from onetake.ledger import Database, PostgresLedger
from onetake.ledger.invariants import violations
from onetake.ledger.recoveries import Recoveries
from onetake.operations.reconciler import Reconciler
from onetake.operations.statements import Before, Decided, Form, Line, Proposal, Statements, read_statement
from tests.ledger.test_spend import correction

Suspend = Callable[..., Awaitable[str]]

STATES = Form(charged_states=frozenset({"done", "paid"}), not_charged_states=frozenset({"refunded"}))
SOME = {"a": Line(2, Decimal("0.5")), "b": Line(3)}


class EndedRecoveries:
    """A Temporal where every recovery has ended."""

    def get_workflow_handle(self, workflow_id: str) -> "EndedRecoveries":
        del workflow_id
        return self

    async def describe(self, **_: object) -> SimpleNamespace:
        return SimpleNamespace(status=WorkflowExecutionStatus.COMPLETED)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "november.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


async def proposed(database: Database, path: Path, form: Form | None = None) -> Proposal:
    return await Statements(database).propose(read_statement(path, form or Form()), "apixo")


async def carried_out(database: Database, proposal: Proposal) -> list[Decided | Before]:
    return [each async for each in Statements(database).decide(proposal.decisions, "apixo", "operator ann")]


@pytest.mark.parametrize(
    ("content", "form", "lines"),
    [
        pytest.param("task_id,amount\na,0.50\nb,0\n", Form(), SOME, id="plain"),
        pytest.param("\ufefftask_id,amount\r\na,$0.50\r\nb,0.00\r\n", Form(), SOME, id="byte-order mark, CRLF, dollar"),
        pytest.param("Task_ID;Amount;note\na;0.5;x\nb;-0;y\n", Form(), SOME, id="semicolons, another case"),
        pytest.param("task_id\tamount\na\t.5\nb\t0\n", Form(), SOME, id="tabs"),
        pytest.param('"task_id","note","amount"\n"a","x, ""y""","0.5"\n"b","","0"\n', Form(), SOME, id="quoted"),
        pytest.param("task_id#amount\na#0.5\nb#0\n", Form(delimiter="#"), SOME, id="a named separator"),
        pytest.param(
            "job,cost\na,0.5\nb,0\n", Form(task_id_column="job", amount_column="cost"), SOME, id="named columns"
        ),
        pytest.param("task_id,amount,currency\na,0.5,USD\nb,0,usd\n", Form(), SOME, id="dollars"),
        pytest.param("task_id,amount,state\na,0.5,Done\nb,0.5,refunded\n", STATES, SOME, id="states"),
        pytest.param(
            "task_id,amount,state\na,0.5,x\nb,0,y\n", Form(state_column=""), SOME, id="a column of states not looked at"
        ),
        pytest.param("\n\ntask_id,amount\na,0.5\n", Form(), {"a": Line(4, Decimal("0.5"))}, id="blank lines first"),
        pytest.param("task_id,amount\n\n ,1\na,0.5\n", Form(), {"a": Line(4, Decimal("0.5"))}, id="no task id"),
        pytest.param("task_id,amount\n", Form(), {}, id="a header alone"),
        pytest.param(
            "task_id,amount\na,0.5\na,0.50\n", Form(), {"a": Line(2, Decimal("0.5"), times=2)}, id="said twice"
        ),
        pytest.param(
            "task_id,amount\na,0.5\na,0\na,0.5\n",
            Form(),
            {"a": Line(2, doubt="lines 2 and 3 contradict", times=3)},
            id="contradicting",
        ),
        pytest.param("task_id,amount\na,\n", Form(), {"a": Line(2, doubt="it has no amount")}, id="no amount"),
        pytest.param(
            "task_id,amount,state\na,0,paid\n",
            STATES,
            {"a": Line(2, doubt="its state says charged, its amount does not")},
            id="charged nothing",
        ),
        pytest.param(
            "task_id,amount,state\na,1,pending\n",
            STATES,
            {"a": Line(2, doubt="no option says what the state 'pending' means")},
            id="another state",
        ),
    ],
)
def test_a_statement_is_read_as_it_is_written(tmp_path: Path, content: str, form: Form, lines: dict[str, Line]) -> None:
    assert read_statement(written(tmp_path, content), form).lines == lines


@pytest.mark.parametrize(
    ("content", "form", "said"),
    [
        ("", Form(), "november.csv is empty"),
        ("\ufeff\n \n", Form(), "november.csv is empty"),
        ("job,cost\na,1\n", Form(), "no column 'task_id'. Its columns: job, cost."),
        ("task_id,amount,amount\na,1,2\n", Form(), "2 columns 'amount'"),
        ("task_id,amount\na,1\n", Form(state_column="how"), "no column 'how'"),
        ("task_id,amount,state\na,1,paid\n", Form(), "--charged-state"),
        ("task_id,amount\na,1\n", STATES, "no column of them"),
        ("task_id,amount\na,1\nb,-0.5\n", Form(), "line 3: its amount '-0.5' is negative"),
        ("task_id;amount\na;0,50\n", Form(), "line 2: '0,50' is not an amount"),
        ("task_id,amount\na,NaN\n", Form(), "'NaN' is not an amount"),
        ("task_id,amount\na,1e400\n", Form(), "'1e400' is not an amount"),
        ("task_id,amount\na,99999999999\n", Form(), "is not an amount"),
        ("task_id,amount,currency\na,1,EUR\n", Form(), "line 2: its currency is 'EUR', not USD"),
        ("task_id,amount\na,1,2\n", Form(), "line 2: it has 3 fields, and the header has 2"),
        ('task_id,amount\n"a,1\n', Form(), "not a CSV file"),
        ("task_id,amount\na\0,1\n", Form(), "NUL"),
        (b"task_id,amount\n\xff\xfe,1\n", Form(), "not UTF-8"),
    ],
)
def test_a_bad_statement_is_one_clear_error(tmp_path: Path, content: str | bytes, form: Form, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read_statement(written(tmp_path, content), form)
    assert refused.value.code == "statement_invalid"
    assert said in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"none\.csv cannot be read"):
        read_statement(tmp_path / "none.csv", Form())


async def test_what_it_names_is_decided_once_with_file_and_line(
    tmp_path: Path, database: Database, suspend: Suspend, ledger: PostgresLedger
) -> None:
    ids = {task_id: await suspend(task_id) for task_id in ("less", "more", "none", "doubt")}
    await suspend("settled", "post")
    path = written(
        tmp_path, "task_id,amount\nless,0.4\nmore,1.5\nnone,0\ndoubt,1\ndoubt,0\nstranger,9\nstranger,9\nsettled,1\n"
    )
    first = await proposed(database, path)
    assert (first.unmatched, first.settled, first.before) == (2, 1, ())
    assert [(each.task_id, each.why) for each in first.left] == [("doubt", "lines 5 and 6 contradict")]
    assert await carried_out(database, first) == list(first.decisions)
    settled = {
        task_id: (entries[-1].kind, entries[-1].amount_micros, entries[-1].detail)
        for task_id, generation_id in ids.items()
        if (entries := await ledger.entries(generation_id))
    }
    by = {"who": "operator ann"}
    assert settled == {
        "less": ("suspense_resolved", 400_000, by | {"to": "posted", "why": "november.csv, line 2"}),
        "more": ("suspense_resolved", 1_500_000, by | {"to": "posted", "why": "november.csv, line 3"}),
        "none": ("suspense_resolved", 0, by | {"to": "released", "why": "november.csv, line 4"}),
        "doubt": ("suspense", 1_000_000, None),
    }
    again = await proposed(database, path)
    assert again.decisions == ()
    assert [(each.task_id, each.differs) for each in again.before] == [
        ("less", False),
        ("more", False),
        ("none", False),
    ]
    assert await violations(database) == []


async def test_an_interrupted_run_goes_on_and_another_decision_stands(
    tmp_path: Path, database: Database, suspend: Suspend, ledger: PostgresLedger
) -> None:
    for task_id in ("a", "b", "c"):
        await suspend(task_id)
    first = await proposed(database, written(tmp_path, "task_id,amount\na,0.5\nb,0.5\nc,0.5\n"))
    await carried_out(database, replace(first, decisions=first.decisions[:1]))
    await ledger.resolve_suspense(first.decisions[1].generation_id, 1, to="released", who="bob", why="a mail")
    repeated, meanwhile, done = await carried_out(database, first)
    assert (repeated, done) == (first.decisions[0], first.decisions[2])
    assert isinstance(meanwhile, Before)
    assert (meanwhile.to, meanwhile.who, meanwhile.why, meanwhile.differs) == ("released", "bob", "a mail", True)
    again = await proposed(database, tmp_path / "november.csv")
    assert [(each.task_id, each.differs) for each in again.before] == [("a", False), ("b", True), ("c", False)]


async def test_what_a_late_clip_corrected_is_shown_as_its_correction(
    tmp_path: Path, database: Database, suspend: Suspend
) -> None:
    generation_id = await suspend("a")
    path = written(tmp_path, "task_id,amount\na,0\n")
    await carried_out(database, await proposed(database, path))
    await Recoveries(database).correct(correction(generation_id, vendor_task_id="a"))
    (before,) = (await proposed(database, path)).before
    assert (before.to, before.settled_micros, before.differs) == ("posted", 1_000_000, True)
    assert (before.who, before.why) == ("recovery", "found it")


async def test_credits_are_worth_what_each_plan_records(tmp_path: Path, database: Database, suspend: Suspend) -> None:
    priced = await suspend("priced")
    await suspend("unpriced")
    plan = '{"price": {"usd_per_credit": "0.0033333333"}}'
    await database.row("update onetake.generation set plan = $2::jsonb where id = $1", priced, plan)
    path = written(tmp_path, "task_id,amount,currency\npriced,100,credits\nunpriced,100,credits\n")
    proposal = await proposed(database, path, Form(unit="credits"))
    assert [(each.task_id, each.charged_micros) for each in proposal.decisions] == [("priced", 333_334)]
    assert [(each.task_id, each.why) for each in proposal.left] == [
        ("unpriced", "its plan records no price of a credit")
    ]
    await carried_out(database, proposal)
    again = await proposed(database, path, Form(unit="credits"))
    assert [(each.task_id, each.differs) for each in again.before] == [("priced", False)]


async def test_it_decides_nothing_of_another_vendor_or_time(
    tmp_path: Path, database: Database, suspend: Suspend
) -> None:
    await suspend("a")
    statement = read_statement(written(tmp_path, "task_id,amount\na,1\n"), Form())
    statements = Statements(database)
    assert (await statements.propose(statement, "gmi")).unmatched == 1
    later = await statements.propose(statement, "apixo", datetime.now(UTC) + timedelta(hours=1))
    assert (later.decisions, later.too_old) == ((), 1)
    assert len((await statements.propose(statement, "apixo")).decisions) == 1


async def test_a_hundred_thousand_lines_take_seconds(tmp_path: Path, database: Database, suspend: Suspend) -> None:
    for number in (7, 99_990):
        await suspend(f"task-{number}")
    lines = "".join(f"task-{number},0.25\n" for number in range(100_000))
    path = written(tmp_path, f"task_id,amount\n{lines}")
    async with asyncio.timeout(240):  # what takes a step for each pair of lines takes hours
        proposal = await proposed(database, path)
    assert [each.line for each in proposal.decisions] == [9, 99_992]
    assert proposal.unmatched == 99_998


async def test_what_is_old_is_one_finding_a_vendor_and_what_is_young_one_each(
    database: Database, suspend: Suspend
) -> None:
    ids = [await suspend(f"task-{number}") for number in range(3)]
    await database.row(
        "update onetake.hold set resolved_at = resolved_at - interval '9 days' where generation_id = any($1)", ids[:2]
    )
    reconciler = Reconciler(cast("Client", EndedRecoveries()), database)
    for _ in range(2):
        young, old = (await reconciler.run_once()).findings
        assert (young.generation_id, young.aged, young.action) == (ids[2], None, "none")
        assert (old.generation_id, old.subject, old.action) == (None, "apixo", "none")
        assert old.aged is not None
        assert (old.aged.count, old.aged.amount_micros) == (2, 2_000_000)
        assert "the oldest in suspense for 9 d 0 h; onetake suspense list --vendor apixo" in old.found
