"""The recorded exchanges of `recordings/VENDOR`: what a document shows, and the bytes we make of it."""

import json
from pathlib import Path
from typing import Any

import httpx

RECORDINGS = Path(__file__).with_name("recordings")
# How the source begins that every recording names first.
SOURCES = {
    "aivideoapi": "aivideoapi.ai docs, ",
    "apixo": "APIXO docs, Wan 2.6 Video, ",
    "gmi": "GMI Cloud",
    "gptimage2": "gptimage2: ",
    "wan26ai": "wan26ai.app docs, ",
}


def recorded(vendor: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDINGS / vendor / f"{name}.json").read_text(encoding="utf-8"))
    assert loaded["comment"].startswith(SOURCES[vendor])
    return loaded


def names(vendor: str, prefix: str = "") -> list[str]:
    return sorted(path.stem for path in (RECORDINGS / vendor).glob(f"{prefix}*.json"))


def response(recording: dict[str, Any]) -> httpx.Response:
    answer = recording["response"]
    return httpx.Response(answer["status"], headers=answer["headers"], content=answer["body"].encode())
