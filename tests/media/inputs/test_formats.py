"""What a file is, by its first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetake.media.inputs import format_of
from tests.media.inputs.media_host import MediaHost, gif, picture

STARTS: dict[bytes, str | None] = {
    b"": None,
    b"hello": None,
    b"\xff\xfe<\0s\0v\0g\0": None,
    b"\x1a\x45\xdf\xa3\x93\x42\x82": "matroska",
    b"OggS\0\2": "ogg",
    b"fLaC\0\0": "flac",
    b"II*\0": "tiff",
    b"\0\0\1\0\1\0": "ico",
    b"%!PS-Adobe-3.0 EPSF-3.0": "eps",
    b"%PDF-1.7": "pdf",
    b"#EXTM3U\n#EXT-X-VERSION:3": "playlist",
    b"ffconcat version 1.0\nfile /etc/passwd": "playlist",
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1": "playlist",
    b"<!DOCTYPE html><title>x": "html",
    b"\n  <html><svg>": "svg",
    b"<!-- hi --><svg xmlns=": "svg",
    b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg>": "svg",
    b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>": "xml",
    b"\0\0\0\x18ftypheic": "heif",
    b"\0\0\0\x18ftypavif": "avif",
    b"\0\0\0\x18ftypM4A ": "m4a",
    b"\0\0\0\x14ftypqt  ": "mov",
    b"\0\0\0\x18ftypisom": "mp4",
    b"\0\0\0\x08wide\0\1\2\3mdat": "mov",
    b"\0\0\0\x08wide\0\1\2\3free": None,
    b"\0\0\0\x18moov": None,
    b"ID3\x04\0\0": "mp3",
    b"\xff\xfb\x90\x64": "mp3",
    b"\xff\xf1\x50\x80": None,  # AAC
}


@pytest.mark.parametrize("start", STARTS)
def test_the_first_bytes_decide(start: bytes) -> None:
    assert format_of(start) == STARTS[start]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("picture.png", "png"),
        ("alpha.png", "png"),
        ("picture.jpg", "jpeg"),
        ("clip.mp4", "mp4"),
        ("sound.wav", "wav"),
        ("sound.mp3", "mp3"),
    ],
)
def test_real_files_are_recognised(media_host: MediaHost, name: str, form: str) -> None:
    assert format_of(media_host.files[name]) == form


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "bmp", "gif"])
def test_real_pictures_are_recognised(form: str) -> None:
    assert format_of(gif(2) if form == "gif" else picture(form.upper())) == form


@given(st.binary(max_size=64) | st.binary(max_size=64).map(b"<!--".__add__))
def test_any_bytes_have_one_format_or_none(head: bytes) -> None:
    assert format_of(head) is None or (format_of(head) or "").isalnum()
