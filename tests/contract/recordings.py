"""The recorded exchanges of `tests/contract/apixo`: what the document shows, and the bytes we make of it."""

import json
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parent / "apixo"


def recorded(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert loaded["comment"].startswith("APIXO docs, Wan 2.6 Video, ")
    return loaded


def names(prefix: str) -> list[str]:
    return sorted(path.stem for path in FOLDER.glob(f"{prefix}*.json"))


def response(recording: dict[str, Any]) -> httpx.Response:
    answer = recording["response"]
    return httpx.Response(answer["status"], headers=answer["headers"], content=answer["body"].encode())
