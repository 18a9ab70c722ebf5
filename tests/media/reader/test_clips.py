"""What the reader says of whole clips, of pieces of clips, and of what is no clip."""

import asyncio
import io
import os
import struct
import zipfile
from pathlib import Path

import av
import pytest

from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.media.reader import ClipProcess
from tests.media.inputs.media_host import wav
from tests.media.reader.parts import LIMIT_S, render

MAKES = ["index-first.mp4", "index-last.mp4", "fragmented.mp4", "silent.mp4"]


async def code_of(reader: ClipProcess, path: Path) -> str:
    with pytest.raises(Failed) as failure:
        await reader.read(path)
    return failure.value.code


async def verdict(reader: ClipProcess, path: Path) -> str:
    try:
        await reader.read(path)
    except OnetakeError as failure:
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


# -- What does not spoil a clip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize(
    "more",
    [bytes(200), bytes(3), bytes(8), os.urandom(64), b"\xff" * 64, b"<!-- cached by a proxy -->" * 40],
    ids=["200 zeros", "3 zeros", "8 zeros", "64 other bytes", "64 ones", "markup"],
)
async def test_bytes_behind_a_whole_clip_do_not_spoil_it(
    reader: ClipProcess, clips: Path, tmp_path: Path, make: str, more: bytes
) -> None:
    longer = tmp_path / "longer.mp4"
    longer.write_bytes((clips / make).read_bytes() + more)
    assert await reader.read(longer) == await reader.read(clips / make)


@pytest.mark.parametrize("left", [2, 5, 7, 9])
async def test_a_fragment_that_has_only_begun_is_missed(
    reader: ClipProcess, clips: Path, tmp_path: Path, left: int
) -> None:
    """A few bytes behind the last fragment may be the head of the next one."""
    data = (clips / "fragmented.mp4").read_bytes()
    start = data.rindex(b"moof") - 4
    piece = tmp_path / "piece.mp4"
    piece.write_bytes(data[: start + left])
    assert await code_of(reader, piece) == "asset_truncated"


async def test_a_codec_that_nobody_here_knows_is_one_verdict_of_the_same_child(clips: Path, tmp_path: Path) -> None:
    data = (clips / "index-first.mp4").read_bytes()
    at = data.index(b"avc1", data.index(b"moov"))
    unknown = tmp_path / "unknown.mp4"
    unknown.write_bytes(data[:at] + b"xyz1" + data[at + 4 :])
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        await reader.read(clips / "index-first.mp4")
        child = reader.pid
        for _ in range(3):
            with pytest.raises(Failed, match="its codec is unknown here") as failure:
                await reader.read(unknown)
            assert failure.value.code == "asset_not_video"
        assert (await reader.read(clips / "index-first.mp4")).width == 320
        assert reader.pid == child


def with_matrix(data: bytes, *sides: int) -> bytes:
    """A clip whose pictures are shown turned: its first two and next two numbers of the matrix."""
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (side << 16 for side in sides)
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]


@pytest.mark.parametrize(
    ("sides", "shown"),
    [
        ((0, 1, -1, 0), (180, 320)),
        ((0, -1, 1, 0), (180, 320)),
        ((-1, 0, 0, -1), (320, 180)),
        ((1, 0, 0, 1), (320, 180)),
    ],
    ids=["90", "270", "180", "0"],
)
async def test_the_size_is_the_one_that_is_shown(
    reader: ClipProcess, clips: Path, tmp_path: Path, sides: tuple[int, ...], shown: tuple[int, int]
) -> None:
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(with_matrix((clips / "index-first.mp4").read_bytes(), *sides))
    facts = await reader.read(turned)
    assert (facts.width, facts.height) == shown


async def test_the_duration_is_the_one_that_is_shown(reader: ClipProcess, tmp_path: Path) -> None:
    """An edit list that shows 5 s of 40 s; all packets of the 40 s are still read."""
    whole = render(tmp_path / "whole.mp4", duration_s=40, sound=False, size=(64, 48))
    data = bytearray(whole.read_bytes())
    at = data.index(b"elst") + 12
    assert struct.unpack(">I", data[at : at + 4]) == (40_000,)
    data[at : at + 4] = struct.pack(">I", 5000)
    edited, cut = tmp_path / "edited.mp4", tmp_path / "cut.mp4"
    edited.write_bytes(data)
    cut.write_bytes(data[:-100])
    assert (await reader.read(edited)).duration_s == 5.0
    assert (await reader.read(whole)).duration_s == 40.0
    assert await code_of(reader, cut) == "asset_truncated"


async def test_a_quicktime_file_of_old_that_begins_with_wide_is_read(reader: ClipProcess, tmp_path: Path) -> None:
    movie = render(tmp_path / "clip.mov", movflags="+use_metadata_tags").read_bytes()
    length = int.from_bytes(movie[:4])
    assert movie[4:8] == b"ftyp"
    old = tmp_path / "old.mov"
    # Of the same length, so that the places in its index stay right.
    old.write_bytes(b"\0\0\0\x08wide" + struct.pack(">I", length - 8) + b"free" + movie[16:])
    assert (await reader.read(old)).duration_s == pytest.approx(2.0, abs=0.05)


# -- Sounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [0, 0x7FFFFFFF, 2_000_000_000, 0xFFFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("rate", [8000, 48_000])
async def test_a_wav_that_was_written_before_its_length_was_known_is_as_long_as_its_bytes(
    reader: ClipProcess, tmp_path: Path, declared: int, rate: int
) -> None:
    data = bytearray(wav(5, rate))
    at = data.index(b"data") + 4
    data[at : at + 4] = declared.to_bytes(4, "little")
    sound = tmp_path / "sound.wav"
    sound.write_bytes(data)
    assert await reader.read_sound(sound, "wav") == pytest.approx(5.0, abs=0.01)


async def test_a_wav_that_lacks_what_it_declares_is_truncated(reader: ClipProcess, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    sound.write_bytes(wav(5)[:-20_000])
    with pytest.raises(Failed) as failure:
        await reader.read_sound(sound, "wav")
    assert failure.value.code == "asset_truncated"


# -- What is no clip ---------------------------------------------------------------------------------------------------


async def test_sound_without_a_picture_is_not_video(reader: ClipProcess, tmp_path: Path) -> None:
    sound = render(tmp_path / "sound.mp4", pictures=False)
    assert await code_of(reader, sound) == "asset_not_video"


@pytest.mark.parametrize("special", ["pipe", "folder", "absent"])
async def test_what_is_no_file_was_not_written_by_us(reader: ClipProcess, tmp_path: Path, special: str) -> None:
    path = tmp_path / "special"
    if special == "pipe":
        os.mkfifo(path)
    elif special == "folder":
        path.mkdir()
    with pytest.raises(TryLater) as unread:
        await reader.read(path)
    assert unread.value.code == "asset_unverified"


async def test_flipped_bits_end_in_a_verdict(reader: ClipProcess, clips: Path, tmp_path: Path) -> None:
    """Damage anywhere in the index ends in facts, in one of two codes, or in the death of a child, and the reader lives
    on."""
    data = (clips / "index-first.mp4").read_bytes()
    end = data.index(b"mdat")
    for position in range(0, end, max(1, end // 150)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path = tmp_path / "damaged.mp4"
        path.write_bytes(damaged)
        assert await verdict(reader, path) in {"whole", "asset_not_video", "asset_truncated", "asset_unverified"}
    assert (await reader.read(clips / "index-first.mp4")).width == 320


async def test_a_read_starts_no_process(clips: Path) -> None:
    """It costs milliseconds: a new child costs the start of an interpreter and of the library."""
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        child = reader.pid
        for _ in range(20):
            await reader.read(clips / "index-first.mp4")
            assert reader.pid == child


async def test_many_tasks_each_get_their_own_answer(reader: ClipProcess, clips: Path) -> None:
    answers = await asyncio.gather(*(reader.read(clips / make) for make in MAKES * 8))
    assert [facts.has_audio for facts in answers] == [make != "silent.mp4" for make in MAKES * 8]
