"""The recorded exchanges of `tests/vendors/recordings/VENDOR`: what the document shows, and the bytes we make of it."""

import json
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
# How the source begins that every recording names first.
SOURCES = {
    "aivideoapi": "aivideoapi.ai docs, ",
    "apixo": "APIXO docs, Wan 2.6 Video, ",
    "gmi": "GMI Cloud",
    "gptimage2": "gptimage2: ",
    "wan26ai": "wan26ai.app docs, ",
}


def recorded(name: str, vendor: str = "apixo") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((HERE / vendor / f"{name}.json").read_text(encoding="utf-8"))
    assert loaded["comment"].startswith(SOURCES[vendor])
    return loaded


def names(prefix: str, vendor: str = "apixo") -> list[str]:
    return sorted(path.stem for path in (HERE / vendor).glob(f"{prefix}*.json"))


def response(recording: dict[str, Any]) -> httpx.Response:
    answer = recording["response"]
    return httpx.Response(answer["status"], headers=answer["headers"], content=answer["body"].encode())
