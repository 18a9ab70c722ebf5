"""`onetake policy` and `onetake routes --tenant` on a database alone."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.cli.processes import Finished, bare_environment, run

Cli = Callable[..., Awaitable[Finished]]
NO_TEXT: Final = os.fsdecode(b"\xff")
ROUTE: Final = "apixo/wan-2.6/text-to-video"


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    async def call(*words: str, **more: str) -> Finished:
        env = bare_environment(ONETAKE_DATABASE_URL=database_url, **more)
        return await asyncio.to_thread(run, *words, env=env, cwd=tmp_path)

    return call


async def test_a_policy_is_set_shown_in_force_changed_and_removed(cli: Cli) -> None:
    made = await cli("policy", "set", "apixo", "--tenant", "acme", "--most-seconds", "5", "--why", "plan S", "--json")
    assert made.document["policy"]["pattern"] == "apixo/*"
    assert "No generation has the tenant 'acme'" in made.stderr
    await cli("policy", "set", "*", "--most-seconds", "9", "--most-usd", "2.50", "--why", "all")
    routes = (await cli("routes", "--tenant", "acme", "--json")).document["routes"]
    (shown,) = [each for each in routes if each["route"] == ROUTE]
    limits = {each["point"]: (each["value"], each["policy"]) for each in shown["limits"]}
    assert limits == {
        "most_seconds": (5, "the policy of tenant acme for apixo/*"),
        "most_micros": (2_500_000, "the policy of everyone for *"),
    }
    assert "at most 5 s, by the policy of tenant acme" in (await cli("routes", ROUTE, "--tenant", "acme")).stdout
    changed = ("--clear", "most-seconds", "--sound", "forbidden", "--why", "b")
    await cli("policy", "set", "apixo", "--tenant", "acme", *changed)
    assert "sound forbidden" in (await cli("policy", "show")).stdout
    assert (await cli("policy", "remove", "apixo", "--tenant", "acme", "--why", "gone", "--json")).document["removed"]
    history = (await cli("policy", "show", "--history", "--json")).document["changes"]
    assert [each["why"] for each in history] == ["gone", "b", "all", "plan S"]
    assert all(each["who"].startswith("operator") for each in history)


async def test_the_most_that_a_generation_may_cost_is_held_against_the_price_under_policies(cli: Cli) -> None:
    await cli("policy", "set", "*", "--most-seconds", "2", "--highest-resolution", "720p", "--why", "x")
    words = ("generate", ROUTE, "a fox", "--dry-run", "--json")
    price = (await cli(*words, ONETAKE_DEFAULTS="vendor")).document["price"]["amount_micros"]
    assert price == 200_000
    limited = await cli(*words, "--max-cost", "0.2", ONETAKE_DEFAULTS="vendor")
    assert (limited.code, limited.document["price"]["amount_micros"]) == (0, price)


WRONG = [
    (("apixa", "--forbid", "--why", "x"), "No route matches"),
    (("apixo", "--user", "ann", "--forbid", "--why", "x"), "--tenant too"),
    (("*", "--tenant", "", "--forbid", "--why", "x"), "--tenant is empty"),
    (("*", "--tenant", "t", "--user", " ", "--forbid", "--why", "x"), "--user is empty"),
    (("*", "--tenant", "t", "--feature", "", "--forbid", "--why", "x"), "--feature is empty"),
    (("apixo", "--tenant", "t", "--user", "a", "--feature", "b", "--forbid", "--why", "x"), "one of them"),
    (("*", "--most-seconds", "3000000000", "--why", "x"), "--most-seconds"),
    (("*", "--most-open", "3000000000", "--why", "x"), "--most-open"),
    (("*", "--most-starts", "3000000000", "--why", "x"), "--most-starts"),
    (("*", "--tenant", NO_TEXT, "--forbid", "--why", "x"), "tenant is not UTF-8 text"),
    (("apixo", "--why", "x"), "say on which point"),
    (("apixo", "--forbid", "--why", " "), "--why says why"),
    (("apixo", "--highest-resolution", "8k", "--why", "x"), "one of 1080p"),
    (("apixo", "--most-usd", "much", "--why", "x"), "is not an amount"),
    (("apixo", "--sound", "loud", "--why", "x"), "one of forced, forbidden"),
    (("apixo", "--clear", "most-second", "--why", "x"), "Did you mean 'most-seconds'"),
    (("apixo", "--clear", "sound", "--why", "x"), "There is no policy of everyone"),
]


async def test_a_wrong_policy_is_one_clear_error_and_changes_nothing(cli: Cli) -> None:
    for words, told in WRONG:
        refused = await cli("policy", "set", *words)
        assert (words, refused.code) == (words, 2)
        assert told in refused.stderr
    assert (await cli("policy", "show", "--history", "--json")).document == {"changes": []}


async def test_an_empty_name_takes_no_policy_away_from_everyone(cli: Cli) -> None:
    await cli("policy", "set", "*", "--most-open", "5", "--why", "all")
    for name in ("--tenant", "--user", "--feature"):
        assert (await cli("policy", "remove", "*", name, "", "--why", "x")).code == 2
    assert "most 5 open" in (await cli("policy", "show")).stdout
    assert (await cli("routes", "--tenant", "acme", "--user", "")).code == 2
