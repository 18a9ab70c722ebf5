"""Inputs looked at over real sockets, with real media: what passes, and the exact words when it does not."""

import resource
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onetake.core.names import InputKind
from onetake.core.ports import MediaRules
from onetake.media import inputs
from onetake.media.inputs import MediaInspector, Unusable, judge_picture
from tests.media.inputs.media_host import MediaHost, gif, picture, png_header, wav
from tests.media.inputs.rules import FORMATS, IMAGE, kinds_of, refusal, rule, told
from tests.media.reader.parts import render

# -- What passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("picture.png", "image"),
        ("picture.jpg", "image"),
        ("clip.mp4", "video"),
        ("sound.mp3", "audio"),
        ("sound.wav", "audio"),
    ],
)
async def test_valid_media_pass(inspector: MediaInspector, media_host: MediaHost, name: str, kind: InputKind) -> None:
    assert await kinds_of(inspector, rule(media_host.url(name), kind)) == {"/image": kind}


async def test_a_request_without_inputs_needs_no_look(inspector: MediaInspector) -> None:
    assert await inspector.inspect(MediaRules(), last_look=False) == {}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP"])
@pytest.mark.parametrize("size", [(240, 240), (240, 400), (400, 240)])
async def test_each_format_and_its_smallest_side_pass(
    inspector: MediaInspector, media_host: MediaHost, form: str, size: tuple[int, int]
) -> None:
    url = media_host.put("small", picture(form, size))
    assert await kinds_of(inspector, rule(url)) == {"/image": "image"}


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
async def test_transparency_passes_where_it_is_allowed(
    inspector: MediaInspector, media_host: MediaHost, form: str, mode: str
) -> None:
    url = media_host.put("clear", picture(form, mode=mode))
    assert await kinds_of(inspector, rule(url, alpha=True)) == {"/image": "image"}


async def test_a_lossless_webp_shows_its_size(inspector: MediaInspector, media_host: MediaHost) -> None:
    url = media_host.put("lossless.webp", picture("WEBP", (300, 320), lossless=True))
    assert await told(inspector, rule(url, least_px=310)) == (
        "request_invalid",
        "300x320 pixels",
        "310 to 8000 pixels a side",
    )


async def test_a_turned_photograph_counts_as_it_is_stored(inspector: MediaInspector, media_host: MediaHost) -> None:
    """Its limits are the same for both sides, so that its orientation does not matter."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01\x03\0\1\0\0\0\6\0\0\0\0\0\0\0"
    url = media_host.put("turned.jpg", picture("JPEG", (300, 900), exif=exif))
    assert await kinds_of(inspector, rule(url)) == {"/image": "image"}


async def test_a_photograph_with_a_clip_behind_it_passes(inspector: MediaInspector, media_host: MediaHost) -> None:
    url = media_host.put("motion.jpg", picture("JPEG") + media_host.files["clip.mp4"][:9000])
    assert await kinds_of(inspector, rule(url)) == {"/image": "image"}


async def test_the_name_and_the_declared_type_count_for_nothing(
    inspector: MediaInspector, media_host: MediaHost
) -> None:
    url = media_host.put("really.wav", media_host.files["sound.mp3"])
    assert await kinds_of(inspector, rule(url, "audio")) == {"/image": "audio"}
    expected = ("input_not_usable", "a mp3 file", "wav")
    assert await told(inspector, rule(url, "audio", formats=("wav",))) == expected


async def test_references_are_told_apart_by_their_bytes(inspector: MediaInspector, media_host: MediaHost) -> None:
    urls = (media_host.put("a.mp4", picture("PNG")), media_host.put("b.png", media_host.files["clip.mp4"]))
    rules = [rule(url, "image", "video", pointer=f"/references/{n}") for n, url in enumerate(urls)]
    assert await kinds_of(inspector, *rules) == {"/references/0": "image", "/references/1": "video"}


# -- What is refused ---------------------------------------------------------------------------------------------------

WRONG_TYPES: dict[str, tuple[bytes, str]] = {
    "an animation of 2,000 frames": (gif(2000), "a gif file"),
    "svg named png": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='x'/>", "a svg file"),
    "html": (b"<!doctype html><title>404</title>", "a html file"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file", "a eps file"),
    "ico": (b"\0\0\1\0\1\0\x10\x10", "a ico file"),
    "playlist": (b"#EXTM3U\nhttp://169.254.169.254/latest/meta-data", "a playlist file"),
    "matroska": (b"\x1a\x45\xdf\xa3", "a matroska file"),
    "nothing": (b"", "an empty file"),
    "noise": (bytes(range(100, 200)), "a file of no known format"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
@pytest.mark.parametrize("kind", ["image", "video", "audio"])
async def test_what_is_no_such_thing_is_called_by_its_name(
    inspector: MediaInspector, media_host: MediaHost, name: str, kind: InputKind
) -> None:
    content, given = WRONG_TYPES[name]
    url = media_host.put("picture.of.png", content)
    assert await told(inspector, rule(url, kind)) == ("input_not_usable", given, FORMATS[kind])


async def test_a_picture_that_promises_far_too_many_pixels_is_never_decoded(
    inspector: MediaInspector, media_host: MediaHost
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for side in (65_000, 10_000):
        url = media_host.put("bomb.png", png_header(side, side))
        sides = "240 to 8000 pixels a side"
        assert await told(inspector, rule(url)) == ("request_invalid", "far more pixels than any clip has", sides)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("size", [(239, 400), (400, 239), (8001, 240)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP"])
async def test_a_side_out_of_range_is_told_in_pixels(
    inspector: MediaInspector, media_host: MediaHost, form: str, size: tuple[int, int]
) -> None:
    url = media_host.put("side", picture(form, size))
    expected = ("request_invalid", f"{size[0]}x{size[1]} pixels", "240 to 8000 pixels a side")
    assert await told(inspector, rule(url, most_bytes=10_000_000)) == expected


def _palette_with_transparency() -> bytes:
    return picture("PNG", mode="P", transparency=0)


@pytest.mark.parametrize(
    "content",
    [
        picture("PNG", mode="RGBA"),
        picture("PNG", mode="LA"),
        _palette_with_transparency(),
        picture("WEBP", mode="RGBA"),
    ],
    ids=["rgba", "grey", "palette", "webp"],
)
async def test_transparency_is_refused_where_it_is_forbidden(
    inspector: MediaInspector, media_host: MediaHost, content: bytes
) -> None:
    url = media_host.put("clear.png", content)
    expected = ("request_invalid", "a picture with transparency", "a picture without an alpha channel")
    assert await told(inspector, rule(url)) == expected


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP"])
async def test_a_picture_that_ends_too_soon_is_refused(
    inspector: MediaInspector, media_host: MediaHost, form: str
) -> None:
    url = media_host.put("half", picture(form)[:-20])
    name = form.lower()
    expected = ("input_not_usable", f"a {name} file that ends too soon", f"a whole {name} file")
    assert await told(inspector, rule(url, alpha=True)) == expected


async def test_a_clip_that_ends_too_soon_is_refused(inspector: MediaInspector, media_host: MediaHost) -> None:
    clip = media_host.files["clip.mp4"]
    url = media_host.put("half.mp4", clip[: len(clip) // 2])
    expected = ("input_not_usable", "a mp4 file that ends too soon", "a whole mp4 file")
    assert await told(inspector, rule(url, "video")) == expected
    url = media_host.put("none.mp4", clip[:32])
    assert (await told(inspector, rule(url, "video")))[1] == "a mp4 file that is damaged"


async def test_a_sound_that_ends_too_soon_is_refused(inspector: MediaInspector, media_host: MediaHost) -> None:
    url = media_host.put("half.wav", wav(8)[:40_000])
    expected = ("input_not_usable", "a wav file that ends too soon", "a whole wav file")
    assert await told(inspector, rule(url, "audio")) == expected
    url = media_host.put("none.mp3", b"ID3\x04" + bytes(4000))
    assert (await told(inspector, rule(url, "audio")))[1] == "a mp3 file that is damaged"


@pytest.mark.parametrize(("seconds", "passes"), [(2.9, False), (3.0, True), (30.0, True), (31.0, False), (0.01, False)])
async def test_seconds_out_of_range_are_told(
    inspector: MediaInspector, media_host: MediaHost, seconds: float, passes: bool
) -> None:
    one = rule(media_host.put("seconds.wav", wav(seconds)), "audio")
    if passes:
        assert await kinds_of(inspector, one) == {"/image": "audio"}
    else:
        assert await told(inspector, one) == ("request_invalid", f"{round(seconds, 1)} seconds", "3 to 30 seconds")


async def test_a_clip_of_31_seconds_is_refused(
    inspector: MediaInspector, media_host: MediaHost, tmp_path: Path
) -> None:
    clip = render(tmp_path / "long.mp4", duration_s=31, sound=False, size=(64, 64))
    url = media_host.put("long.mp4", clip.read_bytes())
    assert await told(inspector, rule(url, "video")) == ("request_invalid", "31.0 seconds", "1 to 30 seconds")


async def test_a_clip_without_pictures_is_damaged(
    inspector: MediaInspector, media_host: MediaHost, tmp_path: Path
) -> None:
    sound = render(tmp_path / "sound.mp4", pictures=False)
    url = media_host.put("sound.mp4", sound.read_bytes())
    assert (await told(inspector, rule(url, "video")))[1] == "a mp4 file that is damaged"


# -- Several at once ---------------------------------------------------------------------------------------------------


async def test_every_violation_of_every_input_is_told_at_once(inspector: MediaInspector, media_host: MediaHost) -> None:
    refused = await refusal(
        inspector,
        rule(media_host.url("alpha.png")),
        rule(media_host.url("picture.jpg"), "video", pointer="/videos/0"),
        rule(media_host.url("clip.mp4"), "image", "video", pointer="/references/0"),
        rule("https://10.1.2.3/x.png", "image", "video", pointer="/references/1"),
        rule(media_host.put("short.wav", wav(1)), "audio", pointer="/audio_url"),
    )
    assert refused.code == "request_invalid"
    assert [each.pointer for each in refused.violations] == ["/image", "/videos/0", "/references/1", "/audio_url"]


async def test_kinds_of_references_are_counted_by_their_bytes(inspector: MediaInspector, media_host: MediaHost) -> None:
    url = media_host.put("disguised.png", media_host.files["clip.mp4"])
    rules = [rule(url, "image", "video", pointer=f"/references/{n}") for n in range(4)]
    refused = await refusal(inspector, *rules)
    assert refused.code == "request_invalid"
    assert [str(each) for each in refused.violations] == ["/references: given 4 videos, allowed at most 3 videos"]
    assert len(await kinds_of(inspector, *rules, video=4)) == 4


# -- Hostile bytes -----------------------------------------------------------------------------------------------------


@dataclass
class _Looks:
    """A file's bytes, and how often somebody looked at some of them."""

    data: mmap
    number: int = 0

    def __getitem__(self, at: slice) -> bytes:
        self.number += 1
        return self.data[at]

    def __len__(self) -> int:
        return len(self.data)


def _many_chunks() -> bytes:
    chunk = struct.pack(">I", 0) + b"abCd" + bytes(4)
    return png_header(300, 300)[:33] + chunk * 60_000


@pytest.mark.parametrize(
    "content",
    [_many_chunks(), b"\xff\xd8" + b"\xff" * 900_000, b"\xff\xd8\xff\xe0" + bytes(900), b"\xff\xd8\xff\xd0" * 9000],
    ids=["chunks", "padding", "empty segments", "restarts"],
)
async def test_a_header_without_an_end_is_given_up_at_once(
    inspector: MediaInspector, media_host: MediaHost, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    looks: list[_Looks] = []
    mapped = inputs._mapped  # pyright: ignore[reportPrivateUsage]

    @contextmanager
    def counted(path: Path) -> Generator[_Looks]:
        with mapped(path) as data:
            looks.append(_Looks(data))
            yield looks[-1]

    monkeypatch.setattr(inputs, "_mapped", counted)
    assert (await told(inspector, rule(media_host.put("long.png", content))))[1].endswith("file that is damaged")
    assert sum(each.number for each in looks) in range(1, 5000)


async def test_a_webp_of_a_huge_canvas_reserves_no_memory_for_it(
    inspector: MediaInspector, media_host: MediaHost
) -> None:
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xfe\x3f\0" * 2
    content = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    given = (await told(inspector, rule(media_host.put("huge.webp", content))))[1]
    assert given == "16383x16383 pixels"


@given(st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_flipped_bytes_of_a_picture_end_in_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "WEBP"]))
    content = bytearray(picture(form, (64, 48)))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[at] = value
    path = tmp_path_factory.getbasetemp() / f"flipped.{form}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with suppress(Unusable):
        judge_picture(path, form.lower(), IMAGE)
