"""`onetake generate` on a database alone: what it checks and prices, and what a repeated key stands for."""

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from onetake.core.contracts import GenerationRequest, SettleInput
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.money import format_usd
from onetake.core.settings import Settings
from onetake.ledger import Database, PostgresGenerations, PostgresLedger
from providers.admission import RouteAdmission
from tests.cli.processes import COMMAND, bare_environment, run

ROUTE: Final = "apixo/wan-2.6/text-to-video"
KEY: Final = {"ONETAKE_APIXO_API_KEY": "canary-key"}


async def test_a_dry_run_shows_price_plan_and_rules_and_quotes_them(database_url: str, tmp_path: Path) -> None:
    words = ["generate", ROUTE, "a harbour", "--duration", "4", "--dry-run"]
    env = bare_environment(ONETAKE_DATABASE_URL=database_url, **KEY)
    finished = await asyncio.to_thread(run, *words, "--json", env=env, cwd=tmp_path)
    document = finished.document
    assert finished.code == 0
    assert 400_000 == document["price"]["amount_micros"] == document["plan"]["price"]["amount_micros"]
    assert document["rules_checked"]["duration_s"] == "2 to 15"
    assert document["quote_id"].startswith("quo_")
    assert datetime.fromisoformat(document["expires_at"]) - datetime.now(UTC) <= timedelta(minutes=15)
    again = await asyncio.to_thread(run, *words, "--quote", document["quote_id"], "--json", env=env, cwd=tmp_path)
    assert (again.error_code, again.document["error"]["violations"][0]["pointer"]) == ("request_invalid", "/quote_id")
    shown = await asyncio.to_thread(run, *words, env=env, cwd=tmp_path)
    assert "holds this price until" in shown.stdout


async def test_a_price_above_the_most_that_was_named_is_refused(database_url: str, tmp_path: Path) -> None:
    words = ("generate", ROUTE, "x", "--duration", "5", "--max-cost", "0.49")
    env = bare_environment(ONETAKE_DATABASE_URL=database_url)
    for more in ((), ("--dry-run",)):
        finished = await asyncio.to_thread(run, *words, *more, "--json", env=env, cwd=tmp_path)
        assert (finished.error_code, finished.code) == ("max_cost_exceeded", 3)


async def test_a_repeated_key_is_answered_whatever_routes_cost_and_take_now(
    database_url: str, database: Database, ledger: PostgresLedger, tmp_path: Path
) -> None:
    fields = {"route": ROUTE, "prompt": "a fox", "max_cost_usd": Decimal("0.6"), "idempotency_key": "k1"}
    request = GenerationRequest.model_validate(fields)
    plan = RouteAdmission(Settings(), sends=False).plan(request, base_queue="onetake")
    workflow_id = workflow_id_of(request.tenant, new_generation_id())
    first = await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=plan)
    ended = {"tenant": request.tenant, "status": "canceled", "resolution": "none"}
    await ledger.settle(SettleInput.model_validate({"generation_id": first.id, "attempt": 1, **ended}))
    (tmp_path / "dear.toml").write_text(f'[usd_per_second."{ROUTE}"]\n720p = "9"\n1080p = "9"\n')
    env = bare_environment(ONETAKE_DATABASE_URL=database_url, ONETAKE_PRICES=str(tmp_path / "dear.toml"))
    words = ("generate", ROUTE, "a fox", "--max-cost", "0.6", "--detach", "--json")
    again = await asyncio.to_thread(run, *words, "--idempotency-key", "k1", env=env, cwd=tmp_path)
    assert (again.code, again.document["id"], again.document["replayed"]) == (0, first.id, True)
    assert f"price {format_usd(plan.price.amount_micros)}" in again.stderr
    other = await asyncio.to_thread(run, *words, "--idempotency-key", "k2", env=env, cwd=tmp_path)
    assert other.error_code == "max_cost_exceeded"


async def test_a_prompt_can_come_from_stdin(database_url: str, tmp_path: Path) -> None:
    words = ["generate", ROUTE, "-", "--dry-run", "--json"]
    env = bare_environment(ONETAKE_DATABASE_URL=database_url, **KEY)
    finished = await asyncio.to_thread(run, *words, env=env, cwd=tmp_path, stdin="from a pipe\n")
    assert finished.document["request"]["prompt"] == "from a pipe"


def test_a_prompt_from_stdin_that_is_no_text_is_one_error(tmp_path: Path) -> None:
    words = [*COMMAND, "generate", ROUTE, "-", "--json"]
    env = bare_environment(PYTHONUTF8="1", PYTHONIOENCODING="utf-8:strict")
    done = subprocess.run(words, env=env, cwd=tmp_path, input=b"a \xff", capture_output=True, check=False)
    assert (done.returncode, b"not UTF-8 text" in done.stdout) == (2, True)


async def test_labels_are_kept_with_the_request(database_url: str, tmp_path: Path) -> None:
    words = ["generate", ROUTE, "x", "--dry-run", "--json", "--label", "a=b=c", "--label"]
    env = bare_environment(ONETAKE_DATABASE_URL=database_url, **KEY)
    kept, wrong = [await asyncio.to_thread(run, *words, each, env=env, cwd=tmp_path) for each in ("d=e", "d=")]
    assert kept.document["request"]["labels"] == {"a": "b=c", "d": "e"}
    assert wrong.document["error"]["violations"][0]["pointer"] == "/labels/d"
