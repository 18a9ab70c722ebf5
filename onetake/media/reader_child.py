"""The process that reads foreign clips and sounds: started by `onetake.media.reader`, one JSON line in, one out.

It runs apart so that a file which crashes the library, or bloats it, takes nothing else with it. It imports only PyAV
and the standard library, knows no secret, and holds itself to limits. It dies with its parent: when its input ends.
"""

import json
import os
import queue
import resource
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import av.error
import av.logging

_MEMORY_BYTES: Final = 1024 * 1024 * 1024
_CPU_S: Final = 10
_OPEN_FILES: Final = 32
_MAX_PIXELS: Final = 16_384
_MAX_STREAMS: Final = 16
_TOLERANCE_S: Final = 0.5
# Boxes that a clip may hold at its top level. Another one is let pass only when it ends within the file.
_KNOWN_BOXES: Final = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"free", b"skip", b"wide", b"uuid", b"meta"}
)


class NotVideoError(Exception):
    """Not a clip that anybody could play."""


class TruncatedError(Exception):
    """The beginning of a clip."""


def read_clip(path: Path) -> dict[str, Any]:
    """The facts of a clip after its last packet was read. Raises NotVideoError or TruncatedError."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise NotVideoError("no regular file")
    with path.open("rb") as file:
        boxes = _walk(file, os.fstat(file.fileno()).st_size)
    if b"moov" not in boxes:
        raise TruncatedError("no index") if b"mdat" in boxes else NotVideoError("no index")
    try:
        return _demux(path)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise NotVideoError(type(error).__name__) from None


def read_sound(path: Path, form: str) -> dict[str, Any]:
    """The length of a sound after its last packet was read. Raises NotVideoError or TruncatedError."""
    if not path.is_file():
        raise NotVideoError("no regular file")
    try:
        with av.open(f"file:{path}", format=form, options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.best("audio")
            if stream is None or len(container.streams) > _MAX_STREAMS:
                raise NotVideoError("no sound")
            track = _Track(stream)
            for packet in container.demux(stream):
                if packet.size:
                    track.accept(packet)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise NotVideoError(type(error).__name__) from None
    if form == "wav" and track.lacks_packets:  # an MP3 declares no length: it is estimated from the file's size
        raise TruncatedError("packets are missing")
    return {"duration_s": round(track.duration_s, 6)}


def _walk(file: BinaryIO, size: int) -> set[bytes]:
    """The types of the top-level boxes, which must fill the file exactly."""
    found: set[bytes] = set()
    offset = 0
    while offset < size:
        file.seek(offset)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if not found and kind not in {b"ftyp", b"styp"}:
            raise NotVideoError("no MP4")
        if length == 0 and kind in _KNOWN_BOXES:  # to the end of the file
            return found | {kind}
        smallest = 8
        if length == 1:
            length, smallest = int.from_bytes(header[8:16]), 16
        if len(header) < 8 or offset + length > size or length < smallest:
            if kind in _KNOWN_BOXES or kind == header[4:] == b"":
                raise TruncatedError("a box ends beyond the file")
            raise NotVideoError("bytes that belong to no clip")
        found.add(kind)
        offset += length
    return found


class _Track:
    """What one stream declares, and what its packets show."""

    def __init__(self, stream: Any) -> None:
        # Chapters and time codes are never handed out: only pictures and sound are counted.
        counted = stream.type in {"video", "audio"}
        self.declared: int = stream.frames if counted else 0
        self.declared_s = float(stream.duration * stream.time_base) if counted and stream.duration else 0.0
        self.packets = 0
        self.start_s: float | None = None
        self.end_s = 0.0

    def accept(self, packet: Any) -> None:
        if packet.is_corrupt:
            raise TruncatedError("a packet is cut")
        self.packets += 1
        at = packet.pts if packet.pts is not None else packet.dts
        if at is not None:
            start_s = float(at * packet.time_base)
            self.start_s = start_s if self.start_s is None else min(self.start_s, start_s)
            self.end_s = max(self.end_s, start_s + float((packet.duration or 0) * packet.time_base))

    @property
    def lacks_packets(self) -> bool:
        """Fewer packets than declared; a fragmented clip declares no number, but it may declare its duration."""
        if self.declared:
            return self.packets < self.declared
        return self.duration_s < self.declared_s - _TOLERANCE_S

    @property
    def duration_s(self) -> float:
        return self.end_s - (self.start_s or 0.0)


def _demux(path: Path) -> dict[str, Any]:
    # The format is forced and the file is the only protocol: no playlist, no concatenation, no reference elsewhere.
    # Edit lists are left out of account because they hide packets that the index declares.
    options = {"protocol_whitelist": "file", "ignore_editlist": "1", "enable_drefs": "0"}
    with av.open(f"file:{path}", format="mp4", options=options) as container:
        video = container.streams.best("video")
        if video is None or len(container.streams) > _MAX_STREAMS:
            raise NotVideoError("no video stream")
        tracks = {stream.index: _Track(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size:
                tracks[packet.stream.index].accept(packet)
        if any(track.lacks_packets for track in tracks.values()):
            raise TruncatedError("packets are missing")
        return _facts(video, tracks[video.index], has_audio=bool(container.streams.audio))


def _facts(video: Any, track: _Track, *, has_audio: bool) -> dict[str, Any]:
    width, height = video.codec_context.width, video.codec_context.height
    if not (0 < width <= _MAX_PIXELS and 0 < height <= _MAX_PIXELS and track.duration_s > 0):
        raise NotVideoError("no picture")
    return {
        "duration_s": round(track.duration_s, 6),
        "width": width,
        "height": height,
        "fps": round(float(video.average_rate or track.packets / track.duration_s), 6),
        "codec": video.codec_context.codec.canonical_name,
        "has_audio": has_audio,
    }


# -- The process -------------------------------------------------------------------------------------------------------


def _limit() -> None:
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):
            continue  # not every system has every limit


def _allow_processor_time() -> None:
    """Give the next file its own share; the limit counts from the start of the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + _CPU_S, hard))


def _requests() -> "queue.SimpleQueue[str]":
    """Lines from the parent. A thread of its own, so that its end is noticed in the middle of a file too."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return lines


def _answer(line: str) -> dict[str, Any]:
    _allow_processor_time()
    question = json.loads(line)
    path, form = Path(question["path"]), question["form"]
    try:
        return {"facts": read_clip(path) if form == "clip" else read_sound(path, form)}
    except TruncatedError as error:
        return {"code": "asset_truncated", "detail": str(error)}
    except NotVideoError as error:
        return {"code": "asset_not_video", "detail": str(error)}
    except MemoryError:
        return {"code": "asset_not_video", "detail": "it needs too much memory"}


def main() -> None:
    av.logging.set_level(av.logging.PANIC)
    _limit()
    lines = _requests()
    while True:
        sys.stdout.write(json.dumps(_answer(lines.get())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
