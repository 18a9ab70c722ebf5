"""The process that reads foreign clips and sounds: started by `onetake.media.reader`, one JSON line in, one out.

It runs apart so that a file which crashes the library, or bloats it, takes nothing else with it. It imports only PyAV
and the standard library, knows no secret, and holds itself to limits. It dies with its parent: when its input ends.
"""

import errno
import json
import os
import queue
import resource
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
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
# What the system may answer whatever the file holds.
_OURS: Final = frozenset(
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EINTR}
)
# Boxes that a clip may hold at its top level. Another one is let pass only when it ends within the file.
_KNOWN_BOXES: Final = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"free", b"skip", b"wide", b"uuid", b"meta"}
)
_FIRST_BOXES: Final = frozenset({b"ftyp", b"styp", b"wide"})  # QuickTime files of old begin with `wide`
_ARCHIVE: Final = b"PK\5\6"  # the end of a ZIP, by which it is found
_MOST_APPENDED_BYTES: Final = 16 * 1024 * 1024
_MOST_BOXES: Final = 100_000
# A WAV that was written while its length was not known yet says one of these, or none.
_NO_LENGTH_BYTES: Final = 0x70000000


class NotVideoError(Exception):
    """Not a clip that anybody could play."""


class TruncatedError(Exception):
    """The beginning of a clip."""


class UnreadError(Exception):
    """This machine could not read it, which says nothing about the clip."""


def read_clip(path: Path) -> dict[str, Any]:
    """The facts of a clip after its last packet was read. Raises NotVideoError, TruncatedError or UnreadError."""
    _require_file(path)
    with path.open("rb") as file:
        boxes = _walk(file, os.fstat(file.fileno()).st_size)
    if b"moov" not in boxes:
        raise TruncatedError("no index") if b"mdat" in boxes else NotVideoError("no index")
    try:
        return _demux(path, _shown(path))
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise _verdict(error) from None


def _require_file(path: Path) -> None:
    """Opening a pipe would wait for ever. It was written by us, so that its absence is ours, too."""
    if not path.is_file():
        raise UnreadError("no regular file")


def _verdict(error: Exception) -> Exception:
    """What a failure of the library says: of the clip, unless the system failed it."""
    ours = isinstance(error, MemoryError) or getattr(error, "errno", None) in _OURS
    return (UnreadError if ours else NotVideoError)(type(error).__name__)


def read_sound(path: Path, form: str) -> dict[str, Any]:
    """The length of a sound after its last packet was read. Raises as `read_clip`."""
    _require_file(path)
    declares = form != "wav" or _declares_its_length(path)
    try:
        with av.open(f"file:{path}", format=form, options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.best("audio")
            if stream is None or len(container.streams) > _MAX_STREAMS:
                raise NotVideoError("no sound")
            track = _Track(stream)
            for packet in container.demux(stream):
                if packet.size:
                    track.accept(packet, cut_matters=declares)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise _verdict(error) from None
    # An MP3 declares no length: it is estimated from the file's size.
    if form == "wav" and declares and track.lacks_packets:
        raise TruncatedError("packets are missing")
    return {"duration_s": round(track.duration_s, 6)}


def _walk(file: BinaryIO, size: int) -> set[bytes]:
    """The types of the top-level boxes. What follows a whole clip is no part of it, and does not spoil it."""
    found: set[bytes] = set()
    offset = 0
    while offset < size:
        file.seek(offset)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if not found and kind not in _FIRST_BOXES:
            raise NotVideoError("no MP4")
        if length == 0 and kind in _KNOWN_BOXES:  # to the end of the file
            return found | {kind}
        smallest = 8
        if length == 1:
            length, smallest = int.from_bytes(header[8:16]), 16
        if len(header) < 8 or offset + length > size or length < smallest:
            file.seek(offset)
            _require_a_whole_clip(found, kind, file)
            return found
        found.add(kind)
        offset += length
    return found


def _require_a_whole_clip(found: set[bytes], kind: bytes, file: BinaryIO) -> None:
    """What comes now is no box. Raises TruncatedError where it begins one, or the clip is not whole yet."""
    is_head = len(kind) < 4
    if kind in _KNOWN_BOXES:
        raise TruncatedError("a box ends beyond the file")
    if not {b"moov", b"mdat"} <= found:
        raise TruncatedError("a box ends beyond the file") if is_head else NotVideoError("bytes of no clip")
    if is_head and b"moof" in found and b"mfra" not in found:  # perhaps of the next fragment
        raise TruncatedError("a fragment is missing")
    if _ARCHIVE in file.read(_MOST_APPENDED_BYTES):
        raise NotVideoError("it is an archive as well")


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

    def accept(self, packet: Any, *, cut_matters: bool = True) -> None:
        if packet.is_corrupt and cut_matters:
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


def _demux(path: Path, shown: "dict[int, _Shown]") -> dict[str, Any]:
    # The format is forced and the file is the only protocol: no playlist, no concatenation, no reference elsewhere.
    # Edit lists are left out of account because they hide packets that the index declares.
    options = {"protocol_whitelist": "file", "ignore_editlist": "1", "enable_drefs": "0"}
    with av.open(f"file:{path}", format="mp4", options=options) as container:
        video: Any = container.streams.best("video")
        if video is None or len(container.streams) > _MAX_STREAMS:
            raise NotVideoError("no video stream")
        if video.codec_context is None:
            raise NotVideoError("its codec is unknown here")
        tracks = {stream.index: _Track(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size:
                tracks[packet.stream.index].accept(packet)
        if any(track.lacks_packets for track in tracks.values()):
            raise TruncatedError("packets are missing")
        has_audio = bool(container.streams.audio)
        return _facts(video, tracks[video.index], shown.get(video.id, _Shown()), has_audio=has_audio)


def _facts(video: Any, track: _Track, shown: "_Shown", *, has_audio: bool) -> dict[str, Any]:
    width, height = video.codec_context.width, video.codec_context.height
    if shown.turned:
        width, height = height, width
    if not (0 < width <= _MAX_PIXELS and 0 < height <= _MAX_PIXELS and track.duration_s > 0):
        raise NotVideoError("no picture")
    return {
        "duration_s": round(min(track.duration_s, shown.seconds or track.duration_s), 6),
        "width": width,
        "height": height,
        "fps": round(float(video.average_rate or track.packets / track.duration_s), 6),
        "codec": video.codec_context.codec.canonical_name,
        "has_audio": has_audio,
    }


# -- What the index says ----------------------------------------------------------------------------------------------


@dataclass
class _Shown:
    """How a track is shown: turned by a quarter, and so many seconds of it (0: all)."""

    turned: bool = False
    seconds: float = 0.0


def _shown(path: Path) -> dict[int, _Shown]:
    """How each track of a clip is shown, by its id. A damaged index says nothing, and what reads it next says so."""
    with path.open("rb") as file:
        moov = next((data for kind, data in _boxes(file, os.fstat(file.fileno()).st_size) if kind == b"moov"), b"")
    parts = _parts(moov)
    scale = _scale(next((data for kind, data in parts if kind == b"mvhd"), b""))
    tracks: dict[int, _Shown] = {}
    for kind, track in parts:
        inside = dict(_parts(track)) if kind == b"trak" else {}
        header, edits = inside.get(b"tkhd", b""), dict(_parts(inside.get(b"edts", b""))).get(b"elst", b"")
        after_times = 20 if header[:1] == b"\1" else 12
        matrix = header[after_times + 28 + (4 if header[:1] == b"\1" else 0) :]
        if len(matrix) >= 36:
            sides = struct.unpack(">4i", matrix[0:8] + matrix[12:20])
            number = int.from_bytes(header[after_times : after_times + 4])
            tracks[number] = _Shown(sides[0] == sides[3] == 0 != sides[1], _edited_s(edits, scale))
    return tracks


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The top-level boxes of a file that `_walk` has passed; only that of the index is read."""
    offset = 0
    while offset < size:
        file.seek(offset)
        header = file.read(16)
        length, start = int.from_bytes(header[:4]), 8
        if length == 1:
            length, start = int.from_bytes(header[8:16]), 16
        if length < start:
            return
        file.seek(offset + start)
        yield header[4:8], file.read(length - start) if header[4:8] == b"moov" else b""
        offset += length


def _parts(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes in a box."""
    found: list[tuple[bytes, bytes]] = []
    offset = 0
    while offset + 8 <= len(data) and len(found) < _MOST_BOXES:
        length = int.from_bytes(data[offset : offset + 4])
        if length < 8:
            break
        found.append((data[offset + 4 : offset + 8], data[offset + 8 : offset + length]))
        offset += length
    return found


def _scale(header: bytes) -> int:
    """The units in a second of the movie."""
    at = 20 if header[:1] == b"\1" else 12
    return int.from_bytes(header[at : at + 4])


def _edited_s(edits: bytes, scale: int) -> float:
    """The seconds that an edit list shows, its pauses left out; 0 where it does not say."""
    wide = edits[:1] == b"\1"
    entry = struct.Struct(">QqI" if wide else ">IiI")
    listed = edits[8 : 8 + entry.size * int.from_bytes(edits[4:8])]
    whole = listed[: len(listed) - len(listed) % entry.size]
    units = [length for length, start, _ in entry.iter_unpack(whole) if start >= 0]
    return sum(units) / scale if scale and all(units) else 0.0


def _declares_its_length(path: Path) -> bool:
    """Whether the header of a WAV says how long its sound is."""
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                return 0 < length < _NO_LENGTH_BYTES
            file.seek(length + length % 2, os.SEEK_CUR)
    return True


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


def _allow_processor_time(patience: int) -> None:
    """Give the next file its own share; the limit counts from the start of the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + _CPU_S * patience, hard))


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
    question = json.loads(line)
    _allow_processor_time(question["patience"])
    path, form = Path(question["path"]), question["form"]
    try:
        return {"facts": read_clip(path) if form == "clip" else read_sound(path, form)}
    except TruncatedError as error:
        return {"code": "asset_truncated", "detail": str(error)}
    except NotVideoError as error:
        return {"code": "asset_not_video", "detail": str(error)}
    except UnreadError as error:
        return {"code": "asset_unverified", "detail": str(error)}
    except (MemoryError, OSError) as error:
        return {"code": "asset_unverified", "detail": type(error).__name__}


def main() -> None:
    av.logging.set_level(av.logging.PANIC)
    _limit()
    lines = _requests()
    while True:
        sys.stdout.write(json.dumps(_answer(lines.get())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
