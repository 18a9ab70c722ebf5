"""Ctrl-C against a command's work, with the signal itself; in processes, because the work is abandoned on purpose."""

import json
import subprocess
import sys
from typing import Any

from tests.cli.processes import LIMIT_S

HEAD = """
import asyncio, json, os, signal, sys
from onetake.cli.answer import Stopped
from onetake.cli.waiting import run
from onetake.core.errors import TryLater

def press():
    os.kill(os.getpid(), signal.SIGINT)
"""
TAIL = """
try:
    run(work)
except Stopped as stopped:
    names = ("code", "exit_code", "hint", "generation_id")
    print(json.dumps({name: getattr(stopped.problem, name) for name in names}), flush=True)
os._exit(0)
"""


def problem_of(work: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + work + TAIL], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    return json.loads(done.stdout)


def test_a_start_is_finished_first_so_that_its_id_is_known() -> None:
    problem = problem_of("""
async def work(interruption):
    with interruption.held_back():
        press()
        await asyncio.sleep(0.05)
        interruption.generation_id = "gen_1"
    await asyncio.sleep(3600)
""")
    assert (problem["code"], problem["exit_code"], problem["generation_id"]) == ("interrupted", 130, "gen_1")


def test_a_second_press_does_not_wait_for_the_start() -> None:
    problem = problem_of("""
async def work(interruption):
    with interruption.held_back():
        press()
        await asyncio.sleep(0.05)
        press()
        await asyncio.sleep(3600)
""")
    assert (problem["code"], problem["generation_id"]) == ("interrupted", None)
    assert "onetake list" in problem["hint"]


def test_an_interruption_names_a_generation_only_where_there_is_one() -> None:
    problem = problem_of("""
async def work(interruption):
    press()
    await asyncio.sleep(3600)
""")
    assert problem["code"] == "interrupted"
    assert "onetake" not in problem["hint"], "a deploy is no generation"


def test_an_error_carries_the_id_of_what_goes_on() -> None:
    problem = problem_of("""
async def work(interruption):
    interruption.generation_id = "gen_1"
    raise TryLater("wait_timed_out")
""")
    assert problem["hint"] == "`onetake watch gen_1` waits for it again."
