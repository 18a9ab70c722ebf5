"""A large clip on its way from the vendor to the bucket, proven, against `curl | curl`, which proves nothing.

The real media worker does it in real generations: their histories say how long `persist` took. The simulator delivers
a clip that was made here, a valid one whose every packet counts.
"""

# PyAV leaves the parameters of its packets untyped:
# pyright: reportUnknownMemberType=false

import asyncio
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from minio import Minio
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from bench import processes
from bench.report import Goal, Row
from bench.stack import RESOLUTION, ROUTE, Bench, BenchError
from onetake.core.contracts import GenerationRequest
from onetake.core.names import PERSIST
from onetake.dev.simulator.rendering import FPS, PIXELS, VARIANTS, Clip
from onetake.media.outbound import Outbound
from providers.admission import RouteAdmission
from providers.driver import Clients, configured_drivers

ROUNDS: Final = 7
AT_ONCE: Final = 4
CLIP_S: Final = 3  # no other measurement asks for this length
CLIP_MB: Final = 50
MOST_RSS_MB: Final = 64
_PICTURES: Final = 12  # made once, and repeated: noise is slow to encode
_MB: Final = 1_000_000


async def measure(bench: Bench) -> list[Row]:
    """Interleave one generation and one pipe of curls; then several generations at once."""
    if shutil.which("curl") is None:
        return [Row(f"persist of {CLIP_MB} MB", "curl is not installed")]
    size = await asyncio.to_thread(_make_clips, bench.home / "simulator" / "clips")
    await asyncio.to_thread(bench.running.devstack.restart, "media")
    memory = _Memory(bench.running.devstack.pid_of("media"))
    persist_s, curl_s, link = [await _persist(bench)], list[float](), await _link(bench)
    for number in range(ROUNDS):
        curl_s.append(await _curl(link, _target(bench, number), size))
        persist_s.append(await _persist(bench))
    alone = memory.grown_mb
    await asyncio.gather(*(_persist(bench) for _ in range(AT_ONCE)))
    return [_speed(size, persist_s[1:], curl_s), *memory.rows(alone)]


def _speed(size: int, persist_s: Sequence[float], curl_s: Sequence[float]) -> Row:
    ours, theirs = median(persist_s), median(curl_s)
    facts = {"bytes": size, "persist_s": _rounded(persist_s), "curl_s": _rounded(curl_s)}
    return Row(
        f"persist of {size / _MB:.0f} MB, verified",
        f"{1000 * ours:.0f} ms, {size / _MB / ours:.0f} MB/s",
        f"curl | curl {1000 * theirs:.0f} ms, {size / _MB / theirs:.0f} MB/s",
        ours / theirs,
        Goal("≤", 1.4),
        facts,
    )


# -- The two ways ------------------------------------------------------------------------------------------------------


async def _persist(bench: Bench) -> float:
    """Seconds that the activity `persist` of a new generation took, by its history."""
    started = await bench.generate("a large clip [[sim:delay=0.2]]", duration_s=CLIP_S)
    return _seconds_of(PERSIST, await bench.history(started.workflow_id))


def _seconds_of(activity_type: str, events: Sequence[HistoryEvent]) -> float:
    """Of its last activity of this type: one that was woken too early stored nothing."""
    by_id = {event.event_id: event for event in events}
    for event in reversed(events):
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            done = event.activity_task_completed_event_attributes
            scheduled = by_id[done.scheduled_event_id].activity_task_scheduled_event_attributes
            if scheduled.activity_type.name == activity_type:
                return (
                    event.event_time.ToNanoseconds() - by_id[done.started_event_id].event_time.ToNanoseconds()
                ) / 1e9
    raise BenchError(f"the history holds no finished {activity_type}")


async def _curl(link: str, target: str, size: int) -> float:
    """Seconds of `curl LINK | curl -T - TARGET`. The store wants to know the length beforehand."""
    get = f"curl --fail --silent --show-error {shlex.quote(link)}"
    length = f"--header 'Content-Length: {size}' --header 'Transfer-Encoding:' --header 'Expect:'"
    put = f"curl --fail --silent --show-error --upload-file - {length} {shlex.quote(target)}"
    started = time.perf_counter()
    shell = await asyncio.create_subprocess_shell(f"{get} | {put}", stderr=asyncio.subprocess.PIPE)
    _, said = await shell.communicate()
    if shell.returncode:
        raise BenchError(f"curl failed: {said.decode(errors='replace').strip()}")
    return time.perf_counter() - started


async def _link(bench: Bench) -> str:
    """The vendor's own link to a clip of this kind: the newest generation's, read with the real driver."""
    (newest,) = await bench.onetake.list(limit=1)
    admission, outbound = RouteAdmission(bench.settings), Outbound(bench.settings.trusted_hosts)
    plan = admission.plan(GenerationRequest(route=ROUTE, prompt="link", resolution=RESOLUTION), base_queue="bench")
    async with Clients.opened() as clients:
        catalogue = admission.catalogue
        drivers = configured_drivers(bench.settings, catalogue, clients=lambda: clients, outbound=outbound)
        status = await drivers[plan.vendor].read_status(plan, newest.vendor_task_id or "")
    await outbound.aclose()
    return status.links[0]


def _target(bench: Bench, number: int) -> str:
    """A signed address to put an object to."""
    settings = bench.settings
    client = Minio(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        secure=settings.s3_secure,
    )
    return client.get_presigned_url(
        method="PUT", bucket_name=settings.s3_bucket, object_name=f"bench/{number}.mp4", expires=timedelta(hours=1)
    )


# -- Memory ------------------------------------------------------------------------------------------------------------


class _Memory:
    """How far the media worker grows over what it held before its first clip; its clip-reading child apart."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._measured = processes.can_be_measured()
        if self._measured:
            self._idle = processes.rss_bytes(pid)
            processes.forget_peak(pid)

    @property
    def grown_mb(self) -> float:
        return (processes.peak_rss_bytes(self._pid) - self._idle) / _MB if self._measured else 0.0

    def rows(self, alone_mb: float) -> list[Row]:
        """`alone_mb` is how far it had grown while it handled one clip at a time."""
        if not self._measured:
            return [Row("  memory of the media worker", "this system does not tell (no /proc)")]
        child = max((processes.peak_rss_bytes(pid) for pid in processes.children_of(self._pid)), default=0)
        idle = f"idle {self._idle / _MB:.0f} MB"
        return [
            Row("  MB of the media worker over idle", f"{alone_mb:.0f} MB", idle, alone_mb, Goal("≤", MOST_RSS_MB)),
            Row(f"  the same, {AT_ONCE} clips at once", f"{self.grown_mb:.0f} MB", idle),
            Row("  its child that reads clips", f"{child / _MB:.0f} MB in all"),
        ]


# -- The clip ----------------------------------------------------------------------------------------------------------


def _make_clips(folder: Path) -> int:
    """Put one clip where the simulator keeps its renderings, under the name of every variant; returns its size."""
    width, height = PIXELS[RESOLUTION, "16:9"]
    paths = [folder / Clip(CLIP_S, width, height, sound=True, variant=number).name for number in range(VARIANTS)]
    _encode(paths[0], width, height)
    for path in paths[1:]:
        path.hardlink_to(paths[0])
    return paths[0].stat().st_size


def _encode(path: Path, width: int, height: int) -> None:
    """Pictures of noise, each whole in itself, so that the file has the wanted size and every packet is needed."""
    tick = Fraction(1, FPS)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "qp": "20", "g": "1", "bf": "0"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        encode = cast("Any", video.encode)
        pictures = [*(_noise(width, height, at) for at in range(_PICTURES)), None]
        encoded = [bytes(packet) for picture in pictures for packet in encode(picture)]
        for at in range(CLIP_S * FPS):
            packet = Packet(encoded[at % _PICTURES])
            packet.stream, packet.time_base, packet.duration = video, tick, 1
            packet.pts = packet.dts = at
            packet.is_keyframe = True
            out.mux(packet)


def _noise(width: int, height: int, at: int) -> VideoFrame:
    """Half of each plane noise and half black: 0.7 MB as encoded here."""
    picture = VideoFrame(width, height, "yuv420p")
    for plane in picture.planes:
        noisy = plane.buffer_size * 51 // 100
        plane.update(os.urandom(noisy) + bytes(plane.buffer_size - noisy))
    picture.pts, picture.time_base = at, Fraction(1, FPS)
    return picture


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
