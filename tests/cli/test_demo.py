"""`onetake demo` as a newcomer meets it: exit 0, the files it promises, and nothing left behind."""

import hashlib
import json
import time
from pathlib import Path

from PIL import Image

from tests.cli.processes import LIMIT_S, bare_environment, run_fresh


def test_the_demo_ends_as_it_must_and_leaves_no_process(tmp_path: Path) -> None:
    # A vendor's real address must not matter: the demo never spends money.
    env = bare_environment(ONETAKE_APIXO_BASE_URL="https://vendor.invalid", ONETAKE_APIXO_API_KEY="a real key")
    finished = run_fresh("demo", "--home", "home", "--json", env=env, cwd=tmp_path)
    assert finished.code == 0, finished.stderr
    told = json.loads((tmp_path / "home/demo/result.json").read_text())
    assert told == finished.document
    assert [(document["story"], document["status"]) for document in told] == [
        ("finished", "completed"),
        ("refused", "failed"),
        ("rejected", "failed"),
        *[("all five vendors", "completed")] * 5,
    ]
    assert [document["error"] and document["error"]["code"] for document in told] == [
        None,
        "budget_exceeded",
        "vendor_rejected",
        *[None] * 5,
    ]
    assert len({document["route"] for document in told[3:]}) == 5
    with Image.open(tmp_path / "home/demo/contact-sheet.jpg") as sheet:
        assert (sheet.format, sheet.width > 1000) == ("JPEG", True)
    clip = (tmp_path / "home/demo/finished.mp4").read_bytes()
    assert told[0]["assets"][0]["sha256"] == hashlib.sha256(clip).hexdigest()
    deadline = time.monotonic() + LIMIT_S
    while (left := processes_of(tmp_path)) and time.monotonic() < deadline:  # what was killed takes a moment to go
        time.sleep(0.05)
    assert left == []


def processes_of(home: Path) -> list[str]:
    """The processes whose environment or arguments name this home."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(home / "home").encode() in named:
            found.append(folder.name)
    return found
