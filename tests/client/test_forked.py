"""A blocking client in a process that forks: the copy says so at once, and the first process's goes on."""

import os
import signal
from collections.abc import Callable

import pytest

from onetake.client import BlockingOnetake
from onetake.core.errors import Refused
from onetake.core.settings import Settings

OWN, REFUSED, ELSE = 0, 7, 9
LIMIT_S = 120


def in_a_fork(act: Callable[[], object]) -> int:
    """The exit code of a forked copy of this process that does this and nothing else."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(LIMIT_S)  # what waits for ever is killed by it
    code = ELSE
    try:
        act()
        code = OWN
    except Refused as refused:
        code = REFUSED if refused.code == "client_forked" else ELSE
    finally:
        os._exit(code)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings.model_validate({"database_url": database_url})


def test_a_forked_copy_is_told_at_once_and_the_first_goes_on(settings: Settings) -> None:
    with BlockingOnetake.connect(settings) as onetake:
        assert onetake.list() == ()
        assert in_a_fork(onetake.list) == REFUSED
        assert in_a_fork(lambda: list(onetake.watch("gen_1"))) == REFUSED
        assert onetake.list() == ()


def test_a_copy_that_leaves_the_client_disturbs_nobody(settings: Settings) -> None:
    context = BlockingOnetake.connect(settings)
    onetake = context.__enter__()
    assert in_a_fork(lambda: context.__exit__(None, None, None)) == OWN
    assert onetake.list() == ()
    context.__exit__(None, None, None)


def test_a_client_that_the_copy_opens_itself_works(settings: Settings) -> None:
    def own() -> None:
        with BlockingOnetake.connect(settings) as onetake:
            assert onetake.list() == ()

    with BlockingOnetake.connect(settings) as onetake:
        assert in_a_fork(own) == OWN
        assert onetake.list() == ()
