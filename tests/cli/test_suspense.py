"""The verbs of suspense on a database alone: what a person is shown, and what is decided from a file."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from onetake.ledger import Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.recoveries import Recoveries
from tests.cli.processes import Finished, bare_environment, run
from tests.ledger.test_spend import correction

Cli = Callable[..., Awaitable[Finished]]
Suspend = Callable[..., Awaitable[str]]


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    async def call(*words: str) -> Finished:
        env = bare_environment(ONETAKE_DATABASE_URL=database_url)
        return await asyncio.to_thread(run, *words, env=env, cwd=tmp_path)

    return call


async def test_the_list_has_the_oldest_first_with_ages_and_totals(
    cli: Cli, suspend: Suspend, database: Database
) -> None:
    young, old = await suspend("young"), await suspend("old")
    await database.row(
        "update onetake.hold set resolved_at = resolved_at - interval '9 days' where generation_id = $1", old
    )
    document = (await cli("suspense", "list", "--json")).document
    assert [(each["id"], each["task_id"]) for each in document["suspense"]] == [(old, "old"), (young, "young")]
    assert document["suspense"][0]["age_s"] >= 9 * 86_400
    (total,) = document["vendors"]
    assert (total["vendor"], total["count"], total["amount_micros"]) == ("apixo", 2, 2_000_000)
    assert total["oldest_age_s"] >= 9 * 86_400
    assert "apixo: 2, $2.00; the oldest 9 d 0 h" in (await cli("suspense", "list")).stdout
    assert (await cli("suspense", "list", "--vendor", "gmi", "--json")).document == {"suspense": [], "vendors": []}
    for words in (("--vendor", "nobody"), ("--vendor", ""), ("--tenant", "")):
        assert (await cli("suspense", "list", *words, "--json")).error_code == "usage"


async def test_what_the_vendor_charged_is_posted_for_one(cli: Cli, suspend: Suspend) -> None:
    generation_id = await suspend("one")
    words = ("suspense", "resolve", generation_id, "posted", "--why", "the invoice", "--json")
    decided = await cli(*words, "--amount", "0.25")
    assert (decided.code, decided.document["cost"]["settled_micros"]) == (0, 250_000)
    assert (await cli(*words, "--amount", "0.25")).code == 0
    for more in (("--amount", "0.3"), ()):
        other = await cli(*words, *more)
        assert (other.code, other.error_code) == (2, "usage")
        assert "decided before: posted $0.25" in other.stderr


async def test_an_amount_far_above_what_was_held_needs_a_yes(cli: Cli, suspend: Suspend) -> None:
    words = ("suspense", "resolve", await suspend("one"), "posted", "--why", "the invoice", "--json", "--amount")
    refused = await cli(*words, "3.01")
    assert (refused.code, refused.error_code) == (2, "usage")
    assert "3 times the $1.00" in refused.stderr
    decided = await cli(*words, "3.01", "--yes")
    assert (decided.code, decided.document["cost"]["settled_micros"]) == (0, 3_010_000)


async def test_what_a_late_clip_corrected_is_not_what_was_decided_before(
    cli: Cli, suspend: Suspend, database: Database
) -> None:
    generation_id = await suspend("task_1")
    words = ("suspense", "resolve", generation_id, "released", "--why", "no such job")
    assert (await cli(*words)).code == 0
    await Recoveries(database).correct(correction(generation_id))
    again = await cli(*words)
    assert again.code == 2
    assert "decided before: posted $1.00, by recovery" in again.stderr


async def test_a_statement_is_shown_agreed_to_and_decides_once(
    cli: Cli, suspend: Suspend, ledger: PostgresLedger, tmp_path: Path
) -> None:
    charged, free, unnamed = [await suspend(each) for each in ("charged", "free", "unnamed")]
    (tmp_path / "november.csv").write_text("job;cost\ncharged;0.40\nfree;0\nstranger;1\n", encoding="utf-8")
    words = ("suspense", "resolve", "--vendor", "apixo", "--since", "1d", "--json", "--from-statement")
    words = (*words, str(tmp_path / "november.csv"), "--task-id-column", "job", "--amount-column", "cost")
    shown = await cli(*words, "--dry-run")
    assert [(each["generation_id"], each["to"]) for each in shown.document["decisions"]] == [
        (charged, "posted"),
        (free, "released"),
    ]
    assert [each["id"] for each in shown.document["suspense"]] == [unnamed]
    assert f"{charged}  charged  held $1.00  charged $0.40  posted" in shown.stderr
    assert "1 to post, $0.40 charged; 1 to release; $2.00 held in all" in shown.stderr
    unasked = await cli(*words)
    assert (unasked.code, unasked.error_code) == (2, "usage")
    assert [each.kind for each in await ledger.entries(charged)] == ["hold", "suspense"]
    done = (await cli(*words, "--yes")).document
    assert done["totals"] == {"posted": 1, "released": 1, "held_micros": 2_000_000, "charged_micros": 400_000}
    assert (done["lines"], done["unmatched"], [each["id"] for each in done["suspense"]]) == (3, 1, [unnamed])
    detail = (await ledger.entries(charged))[-1].detail or {}
    assert (detail["why"], str(detail["who"]).split()[0]) == ("november.csv, line 2", "operator")
    again = (await cli(*words)).document
    assert (again["decisions"], [each["differs"] for each in again["decided_before"]]) == ([], [False, False])


async def test_a_bad_statement_is_one_error_and_changes_nothing(
    cli: Cli, suspend: Suspend, ledger: PostgresLedger, tmp_path: Path
) -> None:
    generation_id = await suspend("a")
    (tmp_path / "bad.csv").write_text("task_id,amount\na,1\nb,-1\n", encoding="utf-8")
    finished = await cli("suspense", "resolve", "--vendor", "apixo", "--from-statement", "bad.csv", "--yes", "--json")
    assert (finished.code, finished.error_code) == (2, "statement_invalid")
    assert [each.kind for each in await ledger.entries(generation_id)] == ["hold", "suspense"]


REFUSED = [
    (["--from-statement", "x.csv"], "goes with --vendor"),
    (["gen_1", "posted", "--from-statement", "x.csv", "--vendor", "apixo"], "without ID"),
    (["gen_1", "posted", "--why", "x", "--dry-run"], "go with --from-statement"),
    (["gen_1", "--vendor", "apixo", "--failed-jobs"], "--failed-jobs goes with"),
    (["gen_1", "--why", "x"], "give ID and HOW"),
    (["gen_1", "posted"], "what shows it"),
    (["gen_1", "released", "--why", "x", "--amount", "1"], "goes with posted"),
    (["gen_1", "posted", "--why", "x", "--amount", "-1"], "not below zero"),
    (["gen_1", "posted", "--why", "x", "--amount", "9223372036854.775807"], "at most $1000000000.00"),
    (["--from-statement", "x.csv", "--vendor", "nobody"], "--vendor is one of"),
    (["--from-statement", "x.csv", "--vendor", "apixo", "--since", ""], "--since '' is neither"),
    (["--from-statement", "x.csv", "--vendor", "apixo", "--unit", "eur"], "--unit is one of"),
    (["--from-statement", "x.csv", "--vendor", "apixo", "--delimiter", "::"], "one character"),
    (
        ["--from-statement", "x.csv", "--vendor", "apixo", "--charged-state", "a", "--not-charged-state", "A"],
        "cannot mean both",
    ),
]


async def test_options_that_do_not_go_together_are_refused(cli: Cli) -> None:
    for words, said in REFUSED:
        finished = await cli("suspense", "resolve", *words, "--json")
        assert (words, finished.code, finished.error_code) == (words, 2, "usage")
        assert said in finished.document["error"]["message"]


async def test_a_cost_in_review_is_shown_with_both_figures_and_decided_by_an_amount(
    cli: Cli, suspend: Suspend, database: Database
) -> None:
    ids = [await suspend(each) for each in ("unknown", "given", "held")]
    await database.rows("select onetake.review(h, 9000000) from onetake.hold h where generation_id = any($1)", ids[1:])
    rows = {each["id"]: each for each in (await cli("suspense", "list", "--json")).document["suspense"]}
    figures = [(rows[each]["amount_micros"], rows[each]["reported_micros"], rows[each]["why"]) for each in ids]
    assert figures == [(1_000_000, None, None), *[(1_000_000, 9_000_000, "vendor_cost_in_review")] * 2]
    shown = (await cli("suspense", "list")).stdout
    assert shown.count("$9.00") == shown.count("vendor_cost_in_review") == 2
    words = ("posted", "--why", "the invoice")
    given = await cli("suspense", "resolve", ids[1], *words, "--amount", "8.5")
    assert given.stdout.strip() == f"{ids[1]}: posted, settled $8.50; the vendor reports $9.00"
    held = await cli("suspense", "resolve", ids[2], *words)
    said = "settled $1.00: what was held, as no --amount was given; the vendor reports $9.00"
    assert held.stdout.strip() == f"{ids[2]}: posted, {said}"


async def test_a_contract_is_shown_agreed_to_and_decides_failed_jobs_once(
    database_url: str, suspend: Suspend, submissions: PostgresSubmissions, ledger: PostgresLedger, tmp_path: Path
) -> None:
    failed, unknown = await suspend("failed"), await suspend("unknown")
    await submissions.note_end(failed, 1, failed=True, shows_charge=False)
    entry = '[[failed_job_cost]]\nvendor = "apixo"\nvalid_from = 2020-01-01\ncost = "free"\nsource = "contract 12"\n'
    (tmp_path / "prices.toml").write_text(entry, encoding="utf-8")
    env = bare_environment(ONETAKE_DATABASE_URL=database_url, ONETAKE_PRICES=str(tmp_path / "prices.toml"))

    async def call(*words: str) -> Finished:
        given = ("suspense", "resolve", "--vendor", "apixo", "--failed-jobs", "--json", *words)
        return await asyncio.to_thread(run, *given, env=env, cwd=tmp_path)

    shown = await call("--dry-run")
    assert f"{failed}  failed  held $1.00  charged $0.00  released" in shown.stderr
    assert f"{unknown}  unknown  left alone: how its job ended is not known; in suspense for 0 h" in shown.stderr
    assert [each["generation_id"] for each in shown.document["decisions"]] == [failed]
    assert ("lines" in shown.document, [each["id"] for each in shown.document["suspense"]]) == (False, [unknown])
    unasked = await call()
    assert (unasked.code, unasked.error_code) == (2, "usage")
    assert [each.kind for each in await ledger.entries(failed)] == ["hold", "suspense"]
    assert (await call("--yes")).document["totals"]["released"] == 1
    decided = (await ledger.entries(failed))[-1].detail or {}
    assert (decided["to"], decided["why"]) == ("released", "contract 12: a failed job is free from 2020-01-01")
    again = (await call()).document
    assert (again["decisions"], [each["generation_id"] for each in again["left_alone"]]) == ([], [unknown])
