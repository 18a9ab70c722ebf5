"""I13, I14, I16: what was said in confidence stays so, and nobody is called who is not meant to be."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from tests.chaos.evidence import Evidence

LEAST_FORM: Final = 8


def forms_of(secret: str) -> list[bytes]:
    """The forms in which a text may hide: as it is, in base64 at each offset, URL-encoded, JSON-escaped."""
    plain = secret.encode()
    shifted = [base64.b64encode(b"x" * n + plain)[4:-4] for n in range(3)]
    telling = [form for form in shifted if len(form) >= LEAST_FORM]  # a few letters of base64 are everywhere
    return [plain, quote(secret).encode(), json.dumps(secret)[1:-1].encode(), *telling]


def i13(evidence: Evidence) -> list[str]:
    """No key, password, token or signed link in histories, logs, rows, answers or command lines."""
    return [
        f"{name}: {secret}"
        for name, text in _sinks(evidence)
        for secret, value in evidence.secrets.items()
        if any(form in text for form in forms_of(value))
    ]


def i14(evidence: Evidence) -> list[str]:
    """No prompt in logs or undecoded histories."""
    sinks = [*evidence.logs.items(), *_histories(evidence)]
    return [name for name, text in sinks if evidence.prompt and any(form in text for form in forms_of(evidence.prompt))]


def i16(evidence: Evidence) -> list[str]:
    """Every address that our processes dialled is a permitted one."""
    return [f"dialled {place}" for place in sorted(evidence.connects - evidence.allowed)]


def _sinks(evidence: Evidence) -> Iterable[tuple[str, bytes]]:
    yield from _named("log", evidence.logs)
    yield from _named("table", evidence.rows)
    yield from _histories(evidence)
    yield from ((f"answer to {answer.sent}", answer.body) for answer in evidence.seen.answers)
    yield "a command line", "\n".join(evidence.seen.commands).encode()


def _named(kind: str, texts: Mapping[str, bytes]) -> Iterable[tuple[str, bytes]]:
    return ((f"{kind} {name}", text) for name, text in texts.items())


def _histories(evidence: Evidence) -> Iterable[tuple[str, bytes]]:
    return ((f"history of {run.workflow_id}", run.raw) for run in evidence.runs)
