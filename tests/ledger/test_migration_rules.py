"""Each migration beyond the baseline can run beside workers of the version before it."""

from pathlib import Path

import pytest

from onetake.ledger import migrate
from tests.ledger.migration_rules import (
    ALONE,
    CONCURRENTLY,
    CONTRACT,
    LIMIT,
    LOCKS,
    NOT_NULL,
    NOT_VALID,
    PAGES,
    REWRITES,
    SET_NOT_NULL,
    USING_INDEX,
    faults_in,
)

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"
BEYOND = [path for path in sorted(VERSIONS.glob("*.sql")) if not path.name.startswith("0001")]


def test_each_migration_beyond_the_baseline_keeps_the_rules() -> None:
    assert {path.name: found for path in BEYOND if (found := faults_in(path.name[:4], path.read_text()))} == {}


def test_each_migration_has_a_text_that_can_be_read() -> None:
    assert [path.stem for path in sorted(VERSIONS.glob("0*.py"))] == [
        path.stem for path in sorted(VERSIONS.glob("*.sql"))
    ]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("create index a on onetake.hold (epoch);", CONCURRENTLY),
        ("create unique index if not exists a on onetake.hold (epoch);", CONCURRENTLY),
        ("DROP INDEX onetake.hold_open;", CONCURRENTLY),
        ("reindex table onetake.hold;", CONCURRENTLY),
        ("create table onetake.n (a int); create index concurrently a on onetake.hold (epoch);", ALONE),
        ("alter table onetake.hold add constraint c check (amount_micros < 9);", NOT_VALID),
        ("alter table onetake.hold add foreign key (a) references onetake.b;", NOT_VALID),
        ("alter table onetake.hold add column a int check (a > 0);", NOT_VALID),
        (
            "alter table h add constraint c check (a > 0) not valid; alter table h validate constraint c",
            NOT_VALID,
        ),
        ("alter table onetake.hold add constraint u unique (epoch);", USING_INDEX),
        ("alter table onetake.hold add column a int not null;", NOT_NULL),
        ("alter table onetake.hold add a text not null, add b int default 1;", NOT_NULL),
        ("alter table onetake.hold add column a uuid default gen_random_uuid();", REWRITES),
        ("alter table onetake.hold alter column amount_micros type numeric;", REWRITES),
        ("alter table onetake.hold alter unit set not null;", SET_NOT_NULL),
        ("alter table onetake.hold drop column unit;", CONTRACT),
        ("alter table onetake.hold rename column unit to units;", CONTRACT),
        ("drop function onetake.expire(text, jsonb);", CONTRACT),
        ("-- contract of 0009\ndrop table onetake.hold;", CONTRACT),
        ("update onetake.hold set epoch = '';", PAGES),
        ("lock table onetake.hold;", LOCKS),
        ("set lock_timeout = 0;", LIMIT),
    ],
)
def test_a_migration_that_would_stop_the_others_is_found(text: str, broken: str) -> None:
    found = faults_in("0007", text)
    assert [each.startswith(broken) for each in found] == [True], found


@pytest.mark.parametrize(
    "text",
    [
        "create table onetake.n (a int primary key, b text not null); create index n_b on onetake.n (b);",
        "create index concurrently if not exists a on onetake.hold (b);\n-- create index\ndrop index concurrently b;",
        "alter table onetake.hold add column a int, add column b text not null default '; drop table x';",
        "alter table onetake.hold add column a timestamptz default now();",
        "alter table onetake.hold add constraint c check (amount_micros < 9) not valid;",
        "alter table onetake.hold validate constraint c;",
        "alter table onetake.hold add constraint u unique using index hold_u;",
        "create or replace function onetake.f() returns void language sql as $$ update x set y = 1; drop table z; $$;",
        "-- contract of 0006\nalter table onetake.hold drop column unit;",
        "insert into onetake.vendor_state (vendor) values ('x');",
        "alter type onetake.phase add value 'waiting' before 'reserving';",
    ],
)
def test_a_migration_that_others_can_work_beside_is_let_through(text: str) -> None:
    assert faults_in("0007", text) == []
