"""A vendor's own statement, read from a CSV file, decides the amounts in suspense that it names.

A file is read to its end before anything is looked up, so a bad line changes nothing. A line is matched to a hold by
the vendor's id of the job. What contradicts itself, or says nothing clear, is left alone and named.
"""

import csv
import re
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from onetake.core.errors import Refused
from onetake.core.money import micros_up
from onetake.core.names import Decision
from onetake.ledger.database import Database
from onetake.ledger.holds import PostgresLedger
from onetake.ledger.recoveries import NamedRow, Recoveries

T = TypeVar("T")

LOOKED_UP_AT_ONCE: Final = 2_000
DECIDED_AT_ONCE: Final = 100
TASK_ID_COLUMN, AMOUNT_COLUMN, STATE_COLUMN, CURRENCY_COLUMN = "task_id", "amount", "state", "currency"

_DELIMITERS: Final = ",;\t|"
_AMOUNT: Final = re.compile(r"(-?)\$?([0-9]{1,10}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})", re.ASCII)


@dataclass(frozen=True)
class Form:
    """How a statement is written. A state or currency column of None is the one of the default name, if there is one;
    an empty name means that the column is not looked at."""

    task_id_column: str = TASK_ID_COLUMN
    amount_column: str = AMOUNT_COLUMN
    state_column: str | None = None
    currency_column: str | None = None
    delimiter: str | None = None
    unit: Literal["usd", "credits"] = "usd"
    charged_states: frozenset[str] = frozenset()
    not_charged_states: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Line:
    """What the statement says of one job. `amount` is what was charged in the statement's unit, 0 for nothing; `doubt`
    says why it cannot be used. `times` counts the lines that say it."""

    number: int
    amount: Decimal = Decimal(0)
    doubt: str = ""
    times: int = 1


@dataclass(frozen=True)
class Statement:
    """A statement as read: its base name, what it says by task id, how many lines it has and how many name no task."""

    name: str
    unit: Literal["usd", "credits"]
    lines: dict[str, Line]
    count: int
    nameless: int


@dataclass(frozen=True)
class Decided:
    """An amount that was in suspense, and what a line of a statement, or a contract, makes of it. `why` is what the
    ledger is told."""

    generation_id: str
    attempt: int
    task_id: str
    line: int | None
    held_micros: int
    charged_micros: int
    to: Decision
    why: str


@dataclass(frozen=True)
class Before:
    """What was decided before about an amount that the statement names; `differs`: not as the statement has it."""

    generation_id: str
    task_id: str
    line: int | None
    to: str
    settled_micros: int
    who: str | None
    why: str | None
    differs: bool


@dataclass(frozen=True)
class Left:
    """An amount in suspense that the statement or contract is about, and does not decide."""

    generation_id: str
    task_id: str
    line: int | None
    why: str


@dataclass(frozen=True)
class Proposal:
    """What a statement would do. The numbers count lines: `unmatched` name no job of ours, `settled` one whose amount
    was never in suspense, `too_old` one that was accepted before the time asked for."""

    decisions: tuple[Decided, ...] = ()
    before: tuple[Before, ...] = ()
    left: tuple[Left, ...] = ()
    unmatched: int = 0
    settled: int = 0
    too_old: int = 0


# -- Reading -----------------------------------------------------------------------------------------------------------


def read_statement(path: Path, form: Form) -> Statement:
    """Read a CSV file in UTF-8, line by line. Raises Refused(`statement_invalid`), which names the line."""
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        text = _without_nul(file)
        head = _head_of(text)
        if not head:
            raise _invalid(f"{path.name} is empty.")
        delimiter = form.delimiter or _delimiter_of(head[-1])
        records = _numbered(csv.reader(chain(head, text), delimiter=delimiter, strict=True))
        header = next(record for _, record in records if record)
        return _Reading(path.name, form, header).read(records)


class _Reader(Protocol):
    """What `csv.reader` returns."""

    @property
    def line_num(self) -> int: ...
    def __iter__(self) -> Iterator[list[str]]: ...


class _Reading:
    """One file being read, whose columns are known."""

    def __init__(self, name: str, form: Form, header: Sequence[str]) -> None:
        self._name, self._form = name, form
        self._header = [each.strip() for each in header]
        self._task_id, self._amount = self._column(form.task_id_column), self._column(form.amount_column)
        self._state = self._optional(form.state_column, STATE_COLUMN)
        given_currency = "" if form.unit == "credits" else form.currency_column
        self._currency = self._optional(given_currency, CURRENCY_COLUMN)
        self._refuse_unknown_states()

    def read(self, records: Iterable[tuple[int, Sequence[str]]]) -> Statement:
        lines, count, nameless = dict[str, Line](), 0, 0
        for number, record in records:
            if not any(each.strip() for each in record):
                continue
            count += 1
            if len(record) != len(self._header):
                raise self._wrong(number, f"it has {len(record)} fields, and the header has {len(self._header)}")
            task_id = record[self._task_id].strip()
            if not task_id:
                nameless += 1
                continue
            line = self._line(number, record)
            lines[task_id] = _merged(lines[task_id], line) if task_id in lines else line
        return Statement(self._name, self._form.unit, lines, count, nameless)

    def _line(self, number: int, record: Sequence[str]) -> Line:
        if self._currency is not None and record[self._currency].strip().upper() != "USD":
            raise self._wrong(number, f"its currency is {record[self._currency].strip()[:16]!r}, not USD")
        amount = self._read_amount(number, record[self._amount].strip())
        if self._state is None:
            return Line(number, doubt="it has no amount") if amount is None else Line(number, amount)
        state = record[self._state].strip()
        if state.casefold() in self._form.not_charged_states:
            return Line(number)
        if state.casefold() not in self._form.charged_states:
            return Line(number, doubt=f"no option says what the state {state[:32]!r} means")
        return Line(number, amount) if amount else Line(number, doubt="its state says charged, its amount does not")

    def _read_amount(self, number: int, text: str) -> Decimal | None:
        if not text:
            return None
        found = _AMOUNT.fullmatch(text)
        if found is None:
            raise self._wrong(number, f"{text[:32]!r} is not an amount such as 0.50")
        amount = Decimal(found[2])
        if found[1] and amount:
            raise self._wrong(number, f"its amount {text[:32]!r} is negative")
        return amount

    def _column(self, name: str) -> int:
        wanted = name.strip().casefold()
        found = [index for index, each in enumerate(self._header) if each.casefold() == wanted]
        if len(found) == 1:
            return found[0]
        problem = f"{len(found)} columns {name!r}" if found else f"no column {name!r}"
        raise _invalid(f"{self._name} has {problem}. Its columns: {', '.join(self._header)}.")

    def _optional(self, name: str | None, default: str) -> int | None:
        """The column that was named, or the one of the default name if there is one."""
        if name is None and default not in (each.casefold() for each in self._header):
            return None
        return None if name == "" else self._column(name or default)

    def _refuse_unknown_states(self) -> None:
        says = bool(self._form.charged_states or self._form.not_charged_states)
        if self._state is not None and not says:
            raise _invalid(
                f"{self._name} has a column {self._header[self._state]!r}: say what its words mean with "
                "--charged-state and --not-charged-state, or give --state-column '' to go by the amounts alone."
            )
        if self._state is None and says:
            columns = ", ".join(self._header)
            raise _invalid(f"States have a meaning, and {self._name} no column of them. Its columns: {columns}.")

    def _wrong(self, number: int, problem: str) -> Refused:
        return _invalid(f"{self._name}, line {number}: {problem}.")


def _invalid(detail: str) -> Refused:
    return Refused("statement_invalid", detail)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except csv.Error as error:
        raise _invalid(f"{path.name} is not a CSV file: {error}.") from None
    except UnicodeDecodeError:
        raise _invalid(f"{path.name} is not UTF-8 text.") from None
    except OSError as error:
        raise _invalid(f"{path.name} cannot be read: {error.strerror}.") from None


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise _invalid("It holds a NUL character: it is not a CSV file.")
        yield line


def _head_of(lines: Iterator[str]) -> list[str]:
    """The lines to the first that is not blank; none when all are."""
    head = list[str]()
    for line in lines:
        head.append(line if line.strip() else "\n")
        if line.strip():
            return head
    return []


def _delimiter_of(header: str) -> str:
    """The separator that splits the header into the most columns."""
    return max(_DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each))))


def _numbered(reader: _Reader) -> Iterator[tuple[int, Sequence[str]]]:
    """Each record with the line of the file on which it ends."""
    for record in reader:
        yield reader.line_num, record


def _merged(first: Line, second: Line) -> Line:
    """Two lines of one job: the same said twice is said once; otherwise neither counts."""
    times = first.times + second.times
    if (first.amount, first.doubt) == (second.amount, second.doubt):
        return replace(first, times=times)
    doubt = first.doubt if first.times > 1 and first.doubt else f"lines {first.number} and {second.number} contradict"
    return Line(first.number, doubt=doubt, times=times)


# -- Deciding ----------------------------------------------------------------------------------------------------------


class Statements:
    """What statements say of the amounts in suspense. Repeatable: each amount is decided once."""

    def __init__(self, database: Database) -> None:
        self._records = Recoveries(database)
        self._ledger = PostgresLedger(database)

    async def propose(self, statement: Statement, vendor: str, since: datetime | None = None) -> Proposal:
        """What the statement would do; it changes nothing. Raises TryLater(`ledger_unavailable`)."""
        found = list[tuple[NamedRow, Line]]()
        for task_ids in _batches(statement.lines, LOOKED_UP_AT_ONCE):
            rows = await self._records.named_rows(vendor, task_ids)
            found += [(row, statement.lines[row.task_id]) for row in rows]
        found.sort(key=lambda each: each[1].number)
        return _proposed(statement, found, since)

    async def decide(self, decisions: Sequence[Decided], vendor: str, who: str) -> AsyncIterator[Decided | Before]:
        """Carry decisions out, in order. What somebody else decided meanwhile stands and comes as `Before`.

        Raises TryLater(`ledger_unavailable`); what came until then is decided.
        """
        for some in _batches(decisions, DECIDED_AT_ONCE):
            for each in some:
                await self._ledger.resolve_suspense(
                    each.generation_id,
                    each.attempt,
                    to=each.to,
                    who=who,
                    why=each.why,
                    actual_micros=each.charged_micros if each.to == "posted" else None,
                )
            rows = {row.task_id: row for row in await self._records.named_rows(vendor, [each.task_id for each in some])}
            for each in some:
                row = rows[each.task_id]
                yield each if (row.who, row.why) == (who, each.why) else _before(row, each)


def _batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def _proposed(statement: Statement, found: Sequence[tuple[NamedRow, Line]], since: datetime | None) -> Proposal:
    decisions, before, left = list[Decided](), list[Before](), list[Left]()
    settled, too_old = 0, 0
    for row, line in found:
        if row.hold != "suspended" and not row.was_decided:
            settled += line.times
        elif since is not None and row.created_at < since:
            too_old += line.times
        else:
            match _verdict(statement, row, line):
                case Left() as verdict if row.hold == "suspended":
                    left.append(verdict)
                case Left() as verdict:
                    before.append(_before(row, None, line.number))
                case verdict if row.hold == "suspended":
                    decisions.append(verdict)
                case verdict:
                    before.append(_before(row, verdict))
    matched = sum(line.times for _, line in found)
    return Proposal(
        tuple(decisions), tuple(before), tuple(left), statement.count - matched, settled=settled, too_old=too_old
    )


def _verdict(statement: Statement, row: NamedRow, line: Line) -> Decided | Left:
    if line.doubt:
        return Left(row.id, row.task_id, line.number, line.doubt)
    rate = Decimal(1) if statement.unit == "usd" else row.usd_per_credit
    if rate is None and line.amount:
        return Left(row.id, row.task_id, line.number, "its plan records no price of a credit")
    return Decided(
        generation_id=row.id,
        attempt=row.attempt,
        task_id=row.task_id,
        line=line.number,
        held_micros=row.amount_micros,
        charged_micros=micros_up(line.amount * (rate or 0)),
        to="posted" if line.amount else "released",
        why=f"{statement.name}, line {line.number}",
    )


def _before(row: NamedRow, wanted: Decided | None, line: int | None = None) -> Before:
    """What stands, beside what was wanted: None when the statement says nothing clear."""
    same = wanted is None or (row.hold, row.settled_micros) == (wanted.to, wanted.charged_micros)
    return Before(
        generation_id=row.id,
        task_id=row.task_id,
        line=wanted.line if wanted else line,
        to=row.hold,
        settled_micros=row.settled_micros,
        who=row.who,
        why=row.why,
        differs=not same,
    )
