"""What the reader says of whole clips, of pieces of clips, and of what is no clip."""

import asyncio
import io
import os
import struct
import time
import zipfile
from pathlib import Path

import av
import pytest

from onetake.core.errors import Failed
from onetake.media.reader import ClipProcess
from tests.media.reader.parts import render

MAKES = ["index-first.mp4", "index-last.mp4", "fragmented.mp4", "silent.mp4"]


async def code_of(reader: ClipProcess, path: Path) -> str:
    with pytest.raises(Failed) as failure:
        await reader.read(path)
    return failure.value.code


async def verdict(reader: ClipProcess, path: Path) -> str:
    try:
        await reader.read(path)
    except Failed as failure:
        return failure.code
    return "whole"


@pytest.mark.parametrize("make", MAKES)
async def test_a_whole_clip_shows_its_facts(reader: ClipProcess, clips: Path, make: str) -> None:
    facts = await reader.read(clips / make)
    assert (facts.width, facts.height, facts.codec) == (320, 180, "h264")
    assert facts.has_audio == (make != "silent.mp4")
    assert facts.duration_s == pytest.approx(2.0, abs=0.05)
    assert facts.fps == pytest.approx(24.0, abs=0.5)


def test_a_clip_cut_in_half_probes_as_complete(clips: Path, tmp_path: Path) -> None:
    """Why the reader goes to the last packet: opening alone shows the full length."""
    data = (clips / "index-first.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with av.open(str(tmp_path / "half.mp4")) as container:
        assert container.streams.video[0].frames == 48


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9])
async def test_a_piece_of_a_clip_is_truncated(
    reader: ClipProcess, clips: Path, tmp_path: Path, make: str, kept: float
) -> None:
    data = (clips / make).read_bytes()
    piece = tmp_path / "piece.mp4"
    piece.write_bytes(data[: int(len(data) * kept)])
    assert await code_of(reader, piece) == "asset_truncated"


@pytest.mark.parametrize("make", ["index-first.mp4", "silent.mp4", "index-last.mp4"])
async def test_one_missing_byte_is_noticed(reader: ClipProcess, clips: Path, tmp_path: Path, make: str) -> None:
    piece = tmp_path / "piece.mp4"
    piece.write_bytes((clips / make).read_bytes()[:-1])
    assert await code_of(reader, piece) == "asset_truncated"


@pytest.mark.parametrize("lost", [1, 5_000, 20_000])
async def test_a_cut_that_the_boxes_hide_is_noticed_by_the_packets(
    reader: ClipProcess, clips: Path, tmp_path: Path, lost: int
) -> None:
    """The data box says "to the end of the file", so only the index knows how much there should be."""
    data = bytearray((clips / "index-first.mp4").read_bytes())
    start = data.index(b"mdat") - 4
    data[start : start + 4] = struct.pack(">I", 0)
    whole, piece = tmp_path / "whole.mp4", tmp_path / "piece.mp4"
    whole.write_bytes(data)
    piece.write_bytes(data[:-lost])
    assert (await reader.read(whole)).duration_s == 2.0
    assert await code_of(reader, piece) == "asset_truncated"


async def test_a_clip_without_its_index_is_truncated(reader: ClipProcess, clips: Path, tmp_path: Path) -> None:
    data = (clips / "index-last.mp4").read_bytes()
    piece = tmp_path / "piece.mp4"
    piece.write_bytes(data[: data.rindex(b"moov") - 4])
    assert await code_of(reader, piece) == "asset_truncated"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    return buffer.getvalue()


FOREIGN = {
    "empty": b"",
    "random": os.urandom(100_000),
    "html": b"<!doctype html><html><body>Not found</body></html>" * 100,
    "json": b'{"error": "expired"}',
    "zip": archive(),
    "playlist": b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1/a.ts\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "sdp": b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "elf": b"\x7fELF" + bytes(100),
    "only a type": struct.pack(">I", 16) + b"ftypisom" + bytes(4),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_what_is_no_clip_is_not_video(reader: ClipProcess, tmp_path: Path, name: str) -> None:
    foreign = tmp_path / "clip.mp4"
    foreign.write_bytes(FOREIGN[name])
    assert await code_of(reader, foreign) == "asset_not_video"


async def test_a_clip_that_is_an_archive_as_well_is_not_video(reader: ClipProcess, clips: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.mp4"
    both.write_bytes((clips / "index-first.mp4").read_bytes() + archive())
    assert await code_of(reader, both) == "asset_not_video"


async def test_sound_without_a_picture_is_not_video(reader: ClipProcess, tmp_path: Path) -> None:
    sound = render(tmp_path / "sound.mp4", pictures=False)
    assert await code_of(reader, sound) == "asset_not_video"


@pytest.mark.parametrize("special", ["pipe", "folder", "absent"])
async def test_what_is_no_file_is_not_video(reader: ClipProcess, tmp_path: Path, special: str) -> None:
    path = tmp_path / "special"
    if special == "pipe":
        os.mkfifo(path)
    elif special == "folder":
        path.mkdir()
    assert await code_of(reader, path) == "asset_not_video"


async def test_flipped_bits_end_in_a_verdict(reader: ClipProcess, clips: Path, tmp_path: Path) -> None:
    """Damage anywhere in the index ends in facts or in one of two codes, and the reader lives on."""
    data = (clips / "index-first.mp4").read_bytes()
    end = data.index(b"mdat")
    for position in range(0, end, max(1, end // 150)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path = tmp_path / "damaged.mp4"
        path.write_bytes(damaged)
        assert await verdict(reader, path) in {"whole", "asset_not_video", "asset_truncated"}
    assert (await reader.read(clips / "index-first.mp4")).width == 320


async def test_one_read_costs_milliseconds(reader: ClipProcess, clips: Path) -> None:
    await reader.read(clips / "index-first.mp4")
    took_s: list[float] = []
    for _ in range(20):
        before = time.perf_counter()
        await reader.read(clips / "index-first.mp4")
        took_s.append(time.perf_counter() - before)
    assert min(took_s) < 0.015


async def test_many_tasks_each_get_their_own_answer(reader: ClipProcess, clips: Path) -> None:
    answers = await asyncio.gather(*(reader.read(clips / make) for make in MAKES * 8))
    assert [facts.has_audio for facts in answers] == [make != "silent.mp4" for make in MAKES * 8]
