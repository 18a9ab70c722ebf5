"""Reads clips and sounds to their last packet, in a process (`reader_child.py`) that foreign bytes may crash.

It must not parse foreign bytes here, decode pictures, or hand the child anything but a path and where Python's modules
are. One child serves all callers in turn; it is replaced when it dies, hangs, or has read enough.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

from onetake.core.clips import ClipFacts
from onetake.core.errors import Failed, TryLater

_CHILD: Final = Path(__file__).with_name("reader_child.py")
_ATTEMPTS: Final = 2
VERDICTS: Final = frozenset({"asset_not_video", "asset_truncated"})

Form = Literal["clip", "mp3", "wav"]


class ChildDiedError(Exception):
    """The child ended while it read a clip."""


class ClipProcess:
    """`InputReader` over one long-lived child. One per process and event loop; safe to use from many tasks."""

    def __init__(self, *, limit_s: float = 12.0, reads_per_child: int = 500) -> None:
        """A clip that takes longer than `limit_s` is given up; a child is replaced after `reads_per_child` clips."""
        self._limit_s = limit_s
        self._reads_per_child = reads_per_child
        self._turn = asyncio.Lock()
        self._child: Process | None = None
        self._reads = 0

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.pid if self._child else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start the child now, so that the first clip does not wait for it."""
        async with self._turn:
            await self._living_child()

    async def aclose(self) -> None:
        async with self._turn:
            await self._discard()

    async def read(self, path: Path, *, patience: int = 1) -> ClipFacts:
        """The facts of a whole clip; `patience` multiplies the time that it may take. Changes nothing.

        Raises Failed (`asset_not_video`, `asset_truncated`) for what the bytes are. A time-out, and the death of the
        child, may be this machine's own fault: TryLater (`asset_unverified`).
        """
        return ClipFacts(**await self._facts(path, "clip", patience))

    async def read_sound(self, path: Path, form: Literal["mp3", "wav"]) -> float:
        """The seconds of a whole sound. Raises as `read`; changes nothing."""
        return (await self._facts(path, form, 1))["duration_s"]

    async def _facts(self, path: Path, form: Form, patience: int) -> dict[str, Any]:
        async with self._turn:
            answer = await self._ask(_question(path, form, patience), self._limit_s * patience)
        if "facts" in answer:
            return answer["facts"]
        code, detail = answer["code"], f"Reading it showed: {answer['detail']}."
        raise Failed(code, detail) if code in VERDICTS else TryLater("asset_unverified", detail)

    async def _ask(self, question: bytes, limit_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(limit_s):
                for _ in range(_ATTEMPTS):
                    # A death may have been the last file's fault: a second child is asked at once.
                    with suppress(ChildDiedError):
                        return await self._exchange(question)
        except TimeoutError:
            raise TryLater("asset_unverified", f"Reading it took longer than {limit_s:g} s.") from None
        except OSError as error:
            raise TryLater("asset_unverified", f"The reader cannot be started ({error.strerror}).") from None
        raise TryLater("asset_unverified", "The reader died.")

    async def _exchange(self, question: bytes) -> dict[str, Any]:
        """One question, one answer. A child that was interrupted in between is never asked again."""
        child = await self._living_child()
        answered = False
        try:
            answer = await _converse(child, question)
            answered = True
        finally:
            self._reads += 1
            if not answered or self._reads >= self._reads_per_child:
                await self._discard()
        return answer

    async def _living_child(self) -> Process:
        if self._child is None or self._child.returncode is not None:
            self._reads = 0
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # or the modules beside the child's file would hide the standard library's
                str(_CHILD),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd="/",
                env={"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
                start_new_session=True,  # a Ctrl-C at the terminal is the worker's to handle
            )
        return self._child

    async def _discard(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(_reaped(child))


def _question(path: Path, form: Form, patience: int) -> bytes:
    return json.dumps({"path": str(path.absolute()), "form": form, "patience": patience}).encode() + b"\n"


async def _converse(child: Process, question: bytes) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(question)
        await child.stdin.drain()
        answer = await child.stdout.readline()
    except (BrokenPipeError, ConnectionResetError):
        raise ChildDiedError from None
    try:
        return json.loads(answer if answer.endswith(b"\n") else b"")
    except ValueError:
        raise ChildDiedError from None


async def _reaped(child: Process) -> None:
    await child.communicate()
