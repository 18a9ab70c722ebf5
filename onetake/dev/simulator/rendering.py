"""Real MP4 clips: H.264 and, unless silent, AAC, of the right length and pixels, never on the event loop.

A clip is rendered once for each (seconds, pixels, sound, variant) and kept on disk. What makes the bytes of one job
differ from those of every other is a `free` box behind the clip: part of the file by ISO/IEC 14496-12, ignored by
every player, and free of cost.
"""

# PyAV leaves the parameters of its packets untyped:
# pyright: reportUnknownMemberType=false

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import av
import av.error
import av.filter
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

log = logging.getLogger(__name__)

VARIANTS = 6
FPS = 24
_SAMPLE_RATE = 48_000

# Wan 2.6's own sizes, by tier and aspect ratio.
PIXELS: dict[tuple[str, str], tuple[int, int]] = {
    ("720p", "16:9"): (1280, 720),
    ("720p", "9:16"): (720, 1280),
    ("720p", "1:1"): (960, 960),
    ("720p", "4:3"): (1088, 832),
    ("720p", "3:4"): (832, 1088),
    ("1080p", "16:9"): (1920, 1080),
    ("1080p", "9:16"): (1080, 1920),
    ("1080p", "1:1"): (1440, 1440),
    ("1080p", "4:3"): (1632, 1248),
    ("1080p", "3:4"): (1248, 1632),
}

_Frame = TypeVar("_Frame", VideoFrame, AudioFrame)


@dataclass(frozen=True)
class Clip:
    """What is to be seen and heard; `variant` turns the hue and the tone."""

    duration_s: int
    width: int
    height: int
    sound: bool
    variant: int = 0

    @property
    def name(self) -> str:
        sound = "sound" if self.sound else "silent"
        return f"{self.duration_s}s-{self.width}x{self.height}-{sound}-{self.variant}.mp4"


class RenderingStoppedError(Exception):
    """The simulator is shutting down; the clip was not written."""


class Clips:
    """Clips in a folder, rendered on demand by one thread, each at most once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rendering")
        self._stop = threading.Event()
        self._rendering: dict[Clip, asyncio.Future[None]] = {}
        self._rendered: set[Clip] = set()

    def start(self, clip: Clip) -> None:
        """Begin to render unless the clip exists or is being rendered; return at once."""
        if clip in self._rendered or clip in self._rendering:
            return
        if self._path(clip).exists():
            self._rendered.add(clip)
            return
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._render, clip)
        self._rendering[clip] = future
        future.add_done_callback(lambda done: self._ended(clip, done))

    async def path(self, clip: Clip) -> Path:
        """Return the finished file, rendering it first when necessary."""
        self.start(clip)
        if clip in self._rendering:
            # Shielded: a client that goes away must not cancel a rendering that others wait for.
            await asyncio.shield(self._rendering[clip])
        return self._path(clip)

    async def prerender(self, duration_s: int, resolution: str, sound: bool, aspect_ratio: str = "16:9") -> int:
        """Render every variant of one kind of clip; return how many there are. Idempotent."""
        width, height = PIXELS[resolution, aspect_ratio]
        clip = Clip(duration_s, width, height, sound)
        for variant in range(VARIANTS):
            await self.path(replace(clip, variant=variant))
        return VARIANTS

    def close(self) -> None:
        """Stop rendering within one frame and wait for the thread."""
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _path(self, clip: Clip) -> Path:
        return self._folder / clip.name

    def _render(self, clip: Clip) -> None:
        path = self._path(clip)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            render(clip, part, self._stop)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _ended(self, clip: Clip, done: "asyncio.Future[None]") -> None:
        self._rendering.pop(clip, None)
        if done.cancelled() or isinstance(error := done.exception(), RenderingStoppedError):
            return
        if error:
            log.error("clip %s could not be rendered", clip.name, exc_info=error)
        else:
            self._rendered.add(clip)


def variant_of(task_id: str) -> int:
    """Spread tasks evenly over the variants, the same way after every restart."""
    return hashlib.sha256(task_id.encode()).digest()[0] % VARIANTS


def free_box(text: str) -> bytes:
    """Return an ISO-BMFF `free` box that carries the text."""
    payload = text.encode()
    return (8 + len(payload)).to_bytes(4, "big") + b"free" + payload


def render(clip: Clip, path: Path, stop: threading.Event | None = None) -> None:
    """Write the clip to a path. A path and not a file object: `+faststart` opens the file a second time.

    Raises RenderingStoppedError when `stop` is set on the way; the file is then incomplete.
    """
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = _video_stream(out, clip)
        audio = _audio_stream(out) if clip.sound else None
        tone = _tone(clip) if audio else iter(())
        for number, picture in enumerate(_pictures(clip), start=1):
            if stop and stop.is_set():
                raise RenderingStoppedError
            picture.pts, picture.time_base = number - 1, Fraction(1, FPS)
            out.mux(video.encode(picture))
            if audio:
                _catch_up(out, audio, tone, number / FPS)
        out.mux(video.encode(None))
        if audio:
            _catch_up(out, audio, tone, float("inf"))
            out.mux(audio.encode(None))


def _video_stream(out: OutputContainer, clip: Clip) -> VideoStream:
    video = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "30"})
    video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
    return video


def _audio_stream(out: OutputContainer) -> AudioStream:
    return out.add_stream("aac", rate=_SAMPLE_RATE, layout="mono")


def _catch_up(out: OutputContainer, audio: AudioStream, tone: Iterator[AudioFrame], until_s: float) -> None:
    """Encode sound up to a moment, so that both tracks interleave without a buffer of the whole clip."""
    for frame in tone:
        out.mux(audio.encode(frame))
        if (frame.pts or 0) / _SAMPLE_RATE >= until_s:
            return


def _pictures(clip: Clip) -> Iterator[VideoFrame]:
    source = f"size={clip.width}x{clip.height}:rate={FPS}:duration={clip.duration_s}"
    hue = f"h={clip.variant * 360 // VARIANTS}"
    return _frames(
        [("testsrc2", source), ("hue", hue), ("format", "yuv420p"), ("buffersink", "")],
        VideoFrame,
    )


def _tone(clip: Clip) -> Iterator[AudioFrame]:
    pitch = 220 + 55 * clip.variant
    source = f"frequency={pitch}:sample_rate={_SAMPLE_RATE}:duration={clip.duration_s}:samples_per_frame=1024"
    return _frames(
        [("sine", source), ("aformat", "sample_fmts=fltp:channel_layouts=mono"), ("abuffersink", "")],
        AudioFrame,
    )


def _frames(chain: list[tuple[str, str]], kind: type[_Frame]) -> Iterator[_Frame]:
    graph = av.filter.Graph()
    filters = [graph.add(name, arguments) for name, arguments in chain]
    for left, right in pairwise(filters):
        left.link_to(right)
    graph.configure()
    with contextlib.suppress(av.error.EOFError):
        while True:
            frame = graph.pull()
            assert isinstance(frame, kind)
            yield frame
