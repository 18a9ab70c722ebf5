"""The examinations of `onetake doctor`, in the order in which it tells them: each part with the settings it comes from.

Nothing is sent to a vendor. Addresses are shown, secrets never. The sessions of the database cannot write. In the
bucket a few bytes are written under `check/`, as storing a clip would write them, and removed at once: whether it takes
them cannot be known otherwise. Nothing else is changed.
"""

import asyncio
import importlib
from typing import Final

from onetake.cli.doctor import bucket, engine, gateway, ledger, machine, vendors, versions
from onetake.cli.doctor.findings import Finding
from onetake.cli.doctor.patience import Look, bounded
from onetake.cli.doctor.setup import Setup
from onetake.core.settings import Settings

_TEMPORAL: Final = ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")
_DATABASE: Final = ("ONETAKE_DATABASE_URL",)
_VERSIONS: Final = ("TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID")

BEFORE_VENDORS: Final[tuple[tuple[str, tuple[str, ...], Look], ...]] = (
    ("packages", (), machine.packages),
    ("process", ("ONETAKE_CRASH", "ONETAKE_TIME_SCALE", "ONETAKE_METRICS_BIND"), machine.process),
    ("codec", ("ONETAKE_CODEC_KEY", "ONETAKE_CODEC_OLD_KEYS"), engine.codec),
    ("temporal", _TEMPORAL, engine.temporal),
    ("workers", ("ONETAKE_TASK_QUEUE",), engine.workers),
    ("versions", _VERSIONS, versions.versions),
    ("database", _DATABASE, ledger.tables),
    ("connections", ("ONETAKE_DATABASE_POOL", *_DATABASE), ledger.connections),
    ("durability", _DATABASE, ledger.durability),
    ("schedule", ("ONETAKE_TASK_QUEUE", "ONETAKE_RECONCILE_EVERY_S"), engine.schedule),
    ("passes", ("ONETAKE_RECONCILE_EVERY_S",), ledger.passes),
    ("runs", (), engine.runs),
    ("money", (), ledger.money),
    ("prices", ("ONETAKE_PRICES", "ONETAKE_DRIFT_TOLERANCE_PERCENT"), ledger.prices),
    ("backups", _DATABASE, ledger.backups),
    ("bucket", ("ONETAKE_S3_ENDPOINT", "ONETAKE_S3_ACCESS_KEY", "ONETAKE_S3_SECRET_KEY"), bucket.bucket),
    ("links", ("ONETAKE_S3_PUBLIC_ENDPOINT",), bucket.links),
    ("spool", ("ONETAKE_SPOOL_DIR", "ONETAKE_SPOOL_RESERVE_BYTES"), machine.spool),
    ("pauses", (), vendors.pauses),
)
AFTER_VENDORS: Final[tuple[tuple[str, tuple[str, ...], Look], ...]] = (
    ("callbacks", ("ONETAKE_CALLBACK_BASE_URL",), gateway.callbacks),
    ("announced", ("ONETAKE_CALLBACK_BASE_URL",), gateway.announced),
)


async def examine(settings: Settings) -> list[Finding]:
    """Ask every part side by side; findings come in a fixed order, at least one for each part."""
    # Before the clocks run: on a busy machine the imports alone can take as long as a part may.
    importlib.import_module("onetake.worker")  # with it everything that is examined
    from providers.catalogue import load_catalogue  # noqa: PLC0415 - `--help` stays fast

    names = load_catalogue().vendors
    each = [(name, _names_of(name), vendors.vendor(name)) for name in names]
    async with Setup(settings) as setup:
        asked = (bounded(*examination, setup) for examination in (*BEFORE_VENDORS, *each, *AFTER_VENDORS))
        return [finding for findings in await asyncio.gather(*asked) for finding in findings]


def _names_of(vendor: str) -> tuple[str, ...]:
    return (f"ONETAKE_{vendor.upper()}_BASE_URL", f"ONETAKE_{vendor.upper()}_API_KEY", "ONETAKE_PRICES")
