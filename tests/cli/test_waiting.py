"""Ctrl-C against a command's work, with the signal itself."""

import asyncio
import os
import signal

import pytest

from onetake.cli.answer import Stopped
from onetake.cli.waiting import Interruption, run
from onetake.errors import TryLater


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_start_is_finished_first_so_that_its_id_is_known() -> None:
    finished: list[str] = []

    async def work(interruption: Interruption) -> None:
        with interruption.held_back():
            press()
            await asyncio.sleep(0.05)
            interruption.generation_id = "gen_1"
            finished.append("start")
        await asyncio.sleep(60)

    with pytest.raises(Stopped) as caught:
        run(work)
    assert finished == ["start"]
    assert (caught.value.problem.code, caught.value.problem.exit_code) == ("interrupted", 130)
    assert caught.value.problem.generation_id == "gen_1"


def test_a_second_press_does_not_wait_for_the_start() -> None:
    async def work(interruption: Interruption) -> None:
        with interruption.held_back():
            press()
            press()
            await asyncio.sleep(60)

    with pytest.raises(Stopped) as caught:
        run(work)
    assert caught.value.problem.generation_id is None


def test_an_error_carries_the_id_of_what_goes_on() -> None:
    async def work(interruption: Interruption) -> None:
        interruption.generation_id = "gen_1"
        raise TryLater("wait_timed_out")

    with pytest.raises(Stopped) as caught:
        run(work)
    assert caught.value.problem.hint == "`onetake watch gen_1` waits for it again."
