"""How the bucket stands, and the address that stands in the links to its clips."""

# ruff: noqa: PLC0415 - each examination imports what it examines

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from onetake.cli.doctor.findings import Finding, absent, broken, fine
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import CATALOGUE, TryLater
from onetake.core.settings import Settings, require

if TYPE_CHECKING:
    import httpx

MOST_SKEW_S: Final = 300.0
ANSWER_S: Final = 15.0


async def bucket(setup: Setup) -> Finding | list[Finding]:
    """Whether it takes a clip as workers store one, and whether its clock is ours."""
    from onetake.media.storage import BucketStore

    settings = setup.settings
    require(settings, "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")
    if skewed := await _of_clock(settings):
        return skewed
    store = BucketStore.from_settings(settings)
    try:
        await store.check()
    except TryLater as error:
        code, fix = _of_refusal(error.detail, settings)
        if not code:
            raise
        named = code in {"bucket_missing", "bucket_not_writable"}  # what a setting names is wrong: no time mends it
        kind = "settings_invalid" if named else error.code
        return broken(code, f"{settings.s3_bucket} at {settings.s3_endpoint}: {error.detail}", fix, kind)
    finally:
        store.close()
    found = f"{settings.s3_bucket} at {settings.s3_endpoint} writes each key once, lists and removes"
    if not store.verifies:
        fix = "Nothing to do: workers read each clip back after it is stored, which takes its bytes and its time again."
        told = f"{found}; it does not verify what it is sent, or refuses what these keys send"
        return absent("bucket_unverifying", told, fix)
    return fine(f"{found}; it verifies what it is sent")


def _of_refusal(detail: str, settings: Settings) -> tuple[str, str]:
    """The code and what mends it; "" for what may pass by itself."""
    from onetake.media.s3 import DENIED

    if "The bucket does not exist." in detail:
        return "bucket_missing", f"Make the bucket {settings.s3_bucket}, or correct ONETAKE_S3_BUCKET."
    if DENIED in detail or "The credentials were refused." in detail:
        fix = "Give ONETAKE_S3_ACCESS_KEY the rights that docs/reference/settings.md lists, or correct it."
        return "bucket_not_writable", fix
    if "cannot be reached" in detail or "slow down" in detail:
        return "", ""
    return "bucket_unfit", CATALOGUE["storage_unavailable"].hint


async def _of_clock(settings: Settings) -> list[Finding]:
    """A link that is signed by another clock is dead, or lives longer than it says."""
    from onetake.media.s3 import origin_of

    host, tls = origin_of(settings.s3_endpoint, secure=settings.s3_secure)
    said = await _asked(f"{'https' if tls else 'http'}://{host}/", verifies=False)
    if not isinstance(said, str) and (skew_s := _skew_s(said)) is not None and abs(skew_s) > MOST_SKEW_S:
        ahead = "ahead of" if skew_s > 0 else "behind"
        found = f"the clock of {settings.s3_endpoint} is {abs(skew_s) / 60:.0f} min {ahead} this machine's"
        fix = "Set the clock of the one that is wrong (NTP): signed links and requests die of it."
        return [broken("bucket_clock", found, fix, "storage_unavailable")]
    return []


def _skew_s(said: "httpx.Response") -> float | None:
    """How far the answering clock is ahead; None when it does not say what time it is."""
    try:
        return (parsedate_to_datetime(said.headers["date"]) - datetime.now(UTC)).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


async def links(setup: Setup) -> Finding:
    """Whether whoever gets a link to a clip reaches what it names."""
    from onetake.media.s3 import origin_of

    settings = setup.settings
    if not settings.s3_public_endpoint:
        return fine("links name ONETAKE_S3_ENDPOINT itself")
    host, tls = origin_of(settings.s3_public_endpoint, secure=settings.s3_secure)
    said = await _asked(f"{'https' if tls else 'http'}://{host}/")
    if not isinstance(said, str):
        return fine(f"{host} answers as its links need it")
    if "CERTIFICATE_VERIFY_FAILED" in said:
        fix = "Give what answers there a certificate for this name, or correct ONETAKE_S3_PUBLIC_ENDPOINT."
        found = f"{host} shows a certificate that is not for it, or that nobody vouches for"
        return broken("public_endpoint_certificate", found, fix, "settings_invalid")
    fix = "Correct ONETAKE_S3_PUBLIC_ENDPOINT, or let this machine reach it: links to clips lead there."
    return broken("public_endpoint_unreachable", f"nothing answers at {host}", fix, "storage_unavailable")


async def _asked(url: str, *, verifies: bool = True) -> "httpx.Response | str":
    """Any answer, or what kept it from coming."""
    import httpx

    from onetake.media.authorities import tls_context

    verify = tls_context() if verifies else False
    try:
        async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=ANSWER_S) as client:
            return await client.get(url)
    except httpx.HTTPError as error:
        return f"{type(error).__name__} {error}"
