"""What was said in confidence stays in confidence: raw histories, logs and failures are searched for canaries."""

import base64
from pathlib import Path
from urllib.parse import quote

from onetake.client import Onetake
from tests.system.harness import ROUTE, Stack, ended, unique


def forms_of(secret: str) -> list[bytes]:
    """The forms in which a secret may hide: as it is, in base64 at each offset, URL-encoded, JSON-escaped."""
    plain = secret.encode()
    shifted = [base64.b64encode(b"x" * n + plain)[4:-4] for n in range(3)]
    return [plain, quote(secret).encode(), secret.encode("unicode_escape"), *shifted]


def leaks(haystack: bytes, secrets: dict[str, str]) -> list[str]:
    return [name for name, secret in secrets.items() if any(form in haystack for form in forms_of(secret))]


def test_the_search_finds_what_it_looks_for() -> None:
    haystack = b'{"data": "' + base64.b64encode(b'{"prompt":"a secret garden"}') + b'"}'
    assert leaks(haystack, {"prompt": "a secret garden"}) == ["prompt"]
    assert leaks(b"nothing here", {"prompt": "a secret garden"}) == []


async def test_no_prompt_key_or_link_is_in_raw_histories_or_logs(stack: Stack, onetake: Onetake) -> None:
    canary = "canary-prompt-of-the-sunken-lighthouse"
    secrets = {
        "prompt": canary,
        "vendor key": stack.environment["ONETAKE_APIXO_API_KEY"],
        "codec key": stack.environment["ONETAKE_CODEC_KEY"],
        "S3 secret": stack.environment["ONETAKE_S3_SECRET_KEY"],
        "vendor link": "/files/task_",
        "signed link": "X-Amz-Signature",
        "callback token": "/callbacks/apixo/",
    }
    markers = ("[[sim:delay=0.3]]", "[[sim:reject=400]]", "[[sim:fail=SensitiveContent]]", "[[sim:asset-html]]")
    raw = b""
    async with stack.client(time_scale="0.0005") as hasty:  # a page instead of a clip is fetched again for minutes
        runs = [
            await hasty.start(route=ROUTE, prompt=unique(f"{canary} {marker}"), duration_s=2, deadline_s=60)
            for marker in markers
        ]
    for started in runs:
        await ended(onetake, started.id)
        events = await stack.closed_history(started.workflow_id)
        raw += b"".join(event.SerializeToString() for event in events)
        description = await (await stack.temporal()).get_workflow_handle(started.workflow_id).describe()
        raw += description.raw_description.SerializeToString()
    assert leaks(raw, secrets) == []
    logs = Path(stack.running.devstack.home / "logs")
    ours = [path for path in logs.glob("*.log") if path.stem not in {"postgres", "temporal", "s3"}]
    assert len(ours) >= 4
    assert leaks(b"".join(path.read_bytes() for path in ours), secrets | {"link": "X-Amz-Signature"}) == []
