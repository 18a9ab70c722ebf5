"""What a migration beyond the baseline may do while workers of the version before it go on: expand first, contract
later, and never wait long for a lock, or hold one for long."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_PIECE: Final = re.compile(r"\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|\"[^\"]*\"|;", re.DOTALL)
_CONTRACT: Final = re.compile(r"\A\s*-- contract of (\d{4})\b")
_NAME: Final = r"(?:if (?:not )?exists )?(?:only )?(?P<name>[\w.\"]+)"
_TABLE: Final = re.compile(rf"create (?:unlogged )?table {_NAME}")
_ALTER: Final = re.compile(rf"alter table {_NAME}")
_INDEX: Final = re.compile(r"create (?:unique )?index\b.*? on (?:only )?(?P<name>[\w.\"]+)")
_DEFAULT: Final = re.compile(r"\bdefault (?!now\(\))[\w.]*\(|\bdefault \([^)]*\w\(")

CONCURRENTLY: Final = "an index of a table that is in use is made and dropped concurrently"
ALONE: Final = "what runs concurrently runs outside a transaction: in a migration of its own"
NOT_VALID: Final = "a constraint is added not valid, and validated by a later migration"
USING_INDEX: Final = "a key is added using an index that was made concurrently before"
NOT_NULL: Final = "a new column may be null or has a default: workers of the version before do not write it"
REWRITES: Final = "a default that is called for each row, or another type, rewrites the table under its lock"
SET_NOT_NULL: Final = "not null reads the whole table under its lock: add a check not valid instead"
CONTRACT: Final = "what is dropped or renamed is in use by the version before: begin with `-- contract of NNNN`"
PAGES: Final = "rows that are there are changed in pages, by a program, and not under a migration's locks"
LOCKS: Final = "it keeps everybody out"
LIMIT: Final = "the limits of locks are those of `onetake migrate`"


@dataclass(frozen=True)
class _Migration:
    revision: str
    text: str
    statements: tuple[str, ...]
    new_tables: frozenset[str]

    def is_new(self, statement: str, pattern: re.Pattern[str]) -> bool:
        """Whether the statement is about a table that this migration makes."""
        match = pattern.match(statement)
        return match is not None and match["name"] in self.new_tables

    @property
    def is_contract(self) -> bool:
        """Whether it says which migration it completes; that one is older."""
        match = _CONTRACT.match(self.text)
        return match is not None and match[1] < self.revision


def faults_in(revision: str, text: str) -> list[str]:
    """The rules that a migration breaks, each with the beginning of its statement; empty when it may run."""
    statements = tuple(_statements(text))
    tables = frozenset(match["name"] for each in statements if (match := _TABLE.match(each)))
    migration = _Migration(revision, text, statements, tables)
    return [f"{rule}: {each[:60]}" for each in statements for rule, breaks in _RULES.items() if breaks(each, migration)]


def _statements(text: str) -> Iterator[str]:
    """One by one, in small letters and with single spaces, without comments and bodies of functions."""
    rest, current = _COMMENT.sub(" ", text), ""
    at = 0
    for piece in _PIECE.finditer(rest):
        current += rest[at : piece.start()]
        at = piece.end()
        if piece[0] != ";":
            current += "''" if piece[0][0] != '"' else piece[0]
            continue
        if words := " ".join(current.lower().split()):
            yield words
        current = ""
    if words := " ".join((current + rest[at:]).lower().split()):
        yield words


def _is_plain_index(each: str, migration: _Migration) -> bool:
    if re.match(r"(create (unique )?index|drop index|reindex) concurrently", each):
        return False
    made = re.match(r"create (unique )?index", each) is not None and not migration.is_new(each, _INDEX)
    return made or each.startswith(("drop index", "reindex"))


def _is_not_alone(each: str, migration: _Migration) -> bool:
    return " concurrently " in each and not all(" concurrently " in other for other in migration.statements)


def _is_valid_at_once(each: str, migration: _Migration) -> bool:
    if not each.startswith("alter table") or migration.is_new(each, _ALTER):
        return False
    added = re.search(r"\badd (constraint \S+ )?(check|foreign key)\b|\badd column .*\b(check|references)\b", each)
    both = "validate constraint" in each and any("not valid" in other for other in migration.statements)
    return both or (added is not None and "not valid" not in each)


def _adds_key(each: str, migration: _Migration) -> bool:
    added = re.search(r"\badd (constraint \S+ )?(unique|primary key|exclude)\b", each)
    return added is not None and "using index" not in each and not migration.is_new(each, _ALTER)


def _adds_duty(each: str, migration: _Migration) -> bool:
    columns = re.findall(r"\badd (?:column )?(?:if not exists )?(?!constraint)\w+ [^,]*", each)
    old = each.startswith("alter table") and not migration.is_new(each, _ALTER)
    return old and any(" not null" in column and " default " not in column for column in columns)


def _rewrites(each: str, migration: _Migration) -> bool:
    if not each.startswith("alter table") or migration.is_new(each, _ALTER):
        return False
    other_type = re.search(r"\balter (column )?\w+ (set data )?type\b", each)
    return other_type is not None or ("add" in each and _DEFAULT.search(each) is not None)


def _contracts(each: str, migration: _Migration) -> bool:
    ends = re.match(r"drop (table|function|view|type|trigger|schema)|alter .* (rename|drop (column|constraint))", each)
    return ends is not None and not migration.is_contract


_RULES: Final[dict[str, Callable[[str, _Migration], bool]]] = {
    CONCURRENTLY: _is_plain_index,
    ALONE: _is_not_alone,
    NOT_VALID: _is_valid_at_once,
    USING_INDEX: _adds_key,
    NOT_NULL: _adds_duty,
    REWRITES: _rewrites,
    SET_NOT_NULL: lambda each, _: re.search(r"\balter (column )?\w+ set not null", each) is not None,
    CONTRACT: _contracts,
    PAGES: lambda each, _: re.match(r"(update|delete from|with .* (update|delete)) ", each) is not None,
    LOCKS: lambda each, _: re.match(r"lock |vacuum full|cluster|truncate", each) is not None,
    LIMIT: lambda each, _: re.match(r"set (local |session )?(lock|statement)_timeout", each) is not None,
}
