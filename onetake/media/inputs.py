"""Looks at the media that a request names before any money is held: `InputInspector` over the one outbound guard.

The type is decided from the bytes, never from a name or a header. Pictures are read as far as their header, here, and
never decoded; clips and sounds are read by the process that foreign bytes may crash. No text made here holds an input's
address, what its host resolved to, or a byte of what it answered.
"""

import asyncio
import mmap
import re
import struct
import time
import warnings
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from PIL import Image

from onetake.core.clips import InputReader
from onetake.core.errors import Failed, Refused, TryLater, Violation
from onetake.core.names import InputKind
from onetake.core.ports import InputRule, MediaLimit, MediaRules
from onetake.media.dialling import NoThread
from onetake.media.hosts import Hosts
from onetake.media.outbound import Limits, Outbound
from onetake.media.spool import Spool

# A host that has not answered within these is down for us. A body may take what is left of the time to look.
INPUT_LIMITS: Final = Limits(connect_s=3.0, headers_s=6.0, read_s=4.0, window_s=4.0, min_bytes_per_s=32 * 1024)
FETCH_S: Final = 10.0
LOOK_S: Final = 14.0
QUICK_S: Final = 4.0  # a host that failed sooner is tried again
MOST_REQUESTS: Final = 16  # looked at side by side, per process
_HEAD_BYTES: Final = 4096
_MOST_CHUNKS: Final = 50_000  # of a PNG
_MOST_SEGMENTS: Final = 1000  # of a picture's header

# Wan's limits stay far below: what Pillow warns of is refused here.
warnings.simplefilter("error", Image.DecompressionBombWarning)


class Unusable(Exception):
    """Why one input is refused: what it is, and what is allowed instead.

    `broken_limit`: it was read, and breaks a limit of the route. `passing`: it may be readable a moment later.
    """

    def __init__(self, given: str, allowed: str, *, broken_limit: bool = False, passing: bool = False) -> None:
        super().__init__(given)
        self.given = given
        self.allowed = allowed
        self.broken_limit = broken_limit
        self.passing = passing


@dataclass(frozen=True)
class _Verdict:
    """What one input showed: its kind, or why it is refused."""

    pointer: str
    kind: InputKind | None = None
    refused: Unusable | None = None


class MediaInspector:
    """The port `InputInspector`. One per process and event loop."""

    def __init__(self, outbound: Outbound, reader: InputReader, spool: Spool) -> None:
        """`outbound` should have INPUT_LIMITS; inputs pass through files of `spool`, which are always removed."""
        self._outbound = outbound
        self._reader = reader
        self._spool = spool
        self._hosts = Hosts()

    async def inspect(self, rules: MediaRules, *, last_look: bool) -> Mapping[str, InputKind]:
        """See `onetake.core.ports.InputInspector.inspect`."""
        if not rules.inputs:
            return {}
        async with self._hosts.turn(rules):
            started = time.monotonic()
            verdicts = await self._look(rules)
        kinds: dict[str, InputKind] = {verdict.pointer: verdict.kind for verdict in verdicts if verdict.kind}
        refusals = [verdict for verdict in verdicts if verdict.refused]
        quick = time.monotonic() - started < QUICK_S
        if refusals and quick and not last_look and all(each.refused and each.refused.passing for each in refusals):
            raise TryLater("input_not_usable", "(its host does not answer)")
        _refuse(refusals, tuple(_too_many(rules, kinds)))
        return kinds

    async def _look(self, rules: MediaRules) -> list[_Verdict]:
        looks = map(self._verdict, rules.inputs)
        verdicts = await asyncio.gather(*looks, return_exceptions=True)  # or one error would leave the others running
        for verdict in verdicts:
            if isinstance(verdict, BaseException):
                raise verdict
        return [verdict for verdict in verdicts if isinstance(verdict, _Verdict)]

    async def _verdict(self, rule: InputRule) -> _Verdict:
        try:
            async with asyncio.timeout(LOOK_S):
                with self._spool.new_file() as path:
                    return _Verdict(rule.pointer, kind=await self._kind_of(rule, path))
        except Unusable as refused:
            return _Verdict(rule.pointer, refused=refused)
        except TimeoutError:
            return _Verdict(rule.pointer, refused=Unusable("a file that takes too long to read", _wanted(rule)))
        except OSError:
            raise TryLater("input_not_usable", "(there is no room here to look at it)") from None

    async def _kind_of(self, rule: InputRule, path: Path) -> InputKind:
        """Fetch and judge one input. Raises Unusable."""
        try:
            async with asyncio.timeout(FETCH_S):
                form, limit = await self._fetch(rule, path)
        except TimeoutError:
            raise _unreadable(f"not within {FETCH_S:g} s", rule) from None
        except Failed as failure:
            raise _blocked(failure, rule) from None
        except NoThread:  # no look at this host
            raise TryLater("inputs_busy", "(many names are being looked up)") from None
        except TryLater as failure:
            raise _unreadable(_in_a_clause(failure.detail), rule, passing=True) from None
        if limit.kind == "image":
            await asyncio.to_thread(judge_picture, path, form, limit)
        else:
            _judge_seconds(await self._seconds(path, form, limit), limit)
        return limit.kind

    async def _fetch(self, rule: InputRule, path: Path) -> tuple[str, MediaLimit]:
        """Stream into a file until its type or its size shows that it is of no use."""
        head, size = b"", 0
        found: tuple[str, MediaLimit] | None = None
        with path.open("wb") as file:
            async with self._outbound.open(rule.url) as body:
                _require_size(body.declared_bytes or 0, max(rule.limits, key=lambda limit: limit.most_bytes))
                async for chunk in body.chunks:
                    size += len(chunk)
                    if found is None:
                        head += chunk
                        found = _recognised(head, rule) if len(head) >= _HEAD_BYTES else None
                    if found is not None:
                        _require_size(size, found[1])
                    await asyncio.to_thread(file.write, chunk)
        found = found or _recognised(head, rule)
        _require_size(size, found[1])
        return found

    async def _seconds(self, path: Path, form: str, limit: MediaLimit) -> float:
        try:
            if limit.kind == "video":
                return (await self._reader.read(path)).duration_s
            return await self._reader.read_sound(path, cast("Literal['mp3', 'wav']", form))
        except Failed as failure:
            raise _damaged(form, cut=failure.code == "asset_truncated") from None
        except TryLater:
            raise Unusable("a file that takes too long to read", f"a whole {form} file", passing=True) from None


# -- Verdicts ----------------------------------------------------------------------------------------------------------


def _refuse(refusals: list[_Verdict], too_many: tuple[Violation, ...]) -> None:
    """Raise Refused with everything that is wrong, unless nothing is."""
    violations = tuple(
        Violation(each.pointer, each.refused.given, each.refused.allowed) for each in refusals if each.refused
    )
    if not violations and not too_many:
        return
    limits = bool(too_many) or any(each.refused and each.refused.broken_limit for each in refusals)
    raise Refused("request_invalid" if limits else "input_not_usable", violations=violations + too_many)


def _too_many(rules: MediaRules, kinds: Mapping[str, InputKind]) -> Generator[Violation]:
    counted: Counter[InputKind] = Counter(kind for pointer, kind in kinds.items() if pointer.startswith("/references/"))
    for kind, number in counted.items():
        most = rules.most_references.get(kind, 0)
        if number > most:
            yield Violation("/references", f"{number} {kind}s", f"at most {most} {kind}s")


def _blocked(failure: Failed, rule: InputRule) -> Unusable:
    if failure.code == "asset_url_blocked":
        broken, _, why = failure.detail.removeprefix("Rule: ").partition(".")
        more = f" ({_in_a_clause(why.strip())})" if why else ""
        return Unusable(f"an address that we may not connect to (rule: {broken})", f"a public https address{more}")
    return _unreadable(_in_a_clause(failure.detail), rule)


def _unreadable(why: str, rule: InputRule, *, passing: bool = False) -> Unusable:
    return Unusable(f"an address that cannot be read ({why})", _wanted(rule), passing=passing)


def _in_a_clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _wanted(rule: InputRule) -> str:
    return ", ".join(form for limit in rule.limits for form in limit.formats)


def _damaged(form: str, *, cut: bool = False) -> Unusable:
    return Unusable(f"a {form} file that {'ends too soon' if cut else 'is damaged'}", f"a whole {form} file")


def _require_size(size: int, limit: MediaLimit) -> None:
    if size > limit.most_bytes:
        most = f"{limit.most_bytes / 1e6:g} MB"
        raise Unusable(f"more than {most}", f"at most {most}")


def _judge_seconds(seconds: float, limit: MediaLimit) -> None:
    tenths = round(seconds, 1)  # an encoder's padding makes 30 seconds 30.04
    if not limit.least_s <= tenths <= limit.most_s:
        raise Unusable(f"{tenths} seconds", f"{limit.least_s:g} to {limit.most_s:g} seconds", broken_limit=True)


# -- Recognising bytes -------------------------------------------------------------------------------------------------

# The first that matches decides. What no route takes is here to be called by its name.
_SIGNS: Final = tuple(
    (form, re.compile(pattern, re.DOTALL))
    for form, pattern in (
        ("png", rb"\x89PNG\r\n\x1a\n"),
        ("jpeg", rb"\xff\xd8\xff"),
        ("webp", rb"RIFF.{4}WEBP"),
        ("wav", rb"RIFF.{4}WAVE"),
        ("gif", rb"GIF8[79]a"),
        ("heif", rb".{4}ftyp(?:hei[cmsx]|hev[cx]|mif1|msf1)"),
        ("avif", rb".{4}ftyp(?:avif|avis)"),
        ("m4a", rb".{4}ftypM4[AB] "),
        ("mov", rb".{4}ftypqt  "),
        ("mp4", rb".{4}ftyp"),
        ("mov", rb"\0\0\0\x08wide.{4}(?:mdat|moov)"),
        ("bmp", rb"BM.{4}\0\0\0\0"),
        ("mp3", rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][^\xf0-\xff]"),
        ("matroska", rb"\x1a\x45\xdf\xa3"),
        ("ogg", rb"OggS"),
        ("flac", rb"fLaC"),
        ("tiff", rb"II\*\0|MM\0\*"),
        ("ico", rb"\0\0[\1\2]\0"),
        ("eps", rb"%!PS|\xc5\xd0\xd3\xc6"),
        ("pdf", rb"%PDF"),
        ("playlist", rb"#EXTM3U|ffconcat|v=0\r?\n"),
    )
)
_MARKUP: Final = {b"<svg": "svg", b"<html": "html", b"<!doctype html": "html", b"<body": "html"}


def format_of(head: bytes) -> str | None:
    """The format that the first bytes of a file show, or None. Pure."""
    return next((form for form, sign in _SIGNS if sign.match(head)), None) or _markup_of(head)


def _markup_of(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    return next((form for sign, form in _MARKUP.items() if sign in text), "xml")


def _recognised(head: bytes, rule: InputRule) -> tuple[str, MediaLimit]:
    form = format_of(head)
    for limit in rule.limits:
        if form in limit.formats:
            return form, limit
    named = f"a {form} file" if form else "an empty file" if not head else "a file of no known format"
    raise Unusable(named, _wanted(rule))


# -- Pictures ----------------------------------------------------------------------------------------------------------

_BROKEN: Final = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    struct.error,
)


@dataclass(frozen=True)
class _Picture:
    width: int
    height: int
    alpha: bool


def judge_picture(path: Path, form: str, limit: MediaLimit) -> None:
    """Hold a picture's header against its limits. Raises Unusable."""
    sides = f"{limit.least_px} to {limit.most_px} pixels a side"
    try:
        with _mapped(path) as data:
            # First, for it bounds what the reader would walk through.
            if not _whole(data, form):
                raise _damaged(form, cut=True)
            picture = _webp(data) if form == "webp" else _header(path, form)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable("far more pixels than any clip has", sides, broken_limit=True) from None
    except _BROKEN:
        raise _damaged(form) from None
    if not all(limit.least_px <= side <= limit.most_px for side in (picture.width, picture.height)):
        raise Unusable(f"{picture.width}x{picture.height} pixels", sides, broken_limit=True)
    if picture.alpha and not limit.alpha:
        raise Unusable("a picture with transparency", "a picture without an alpha channel", broken_limit=True)


@contextmanager
def _mapped(path: Path) -> Generator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _header(path: Path, form: str) -> _Picture:
    """Read the header with this one reader: no other format is tried, and no pixel is decoded."""
    with Image.open(path, formats=[form.upper()]) as image:
        return _Picture(image.width, image.height, "A" in image.getbands() or "transparency" in image.info)


def _webp(data: mmap.mmap) -> _Picture:
    # Pillow's reader of WebP reserves memory for the whole canvas as soon as it opens one.
    kind, body = data[12:16], data[20:34]
    if kind == b"VP8X":
        wide, high = int.from_bytes(body[4:7], "little"), int.from_bytes(body[7:10], "little")
        return _Picture(wide + 1, high + 1, bool(body[0] & 0x10))
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return _Picture((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        wide, high = struct.unpack("<HH", body[6:10])
        return _Picture(wide & 0x3FFF, high & 0x3FFF, alpha=False)
    raise ValueError("no WebP")


def _whole(data: mmap.mmap, form: str) -> bool:
    """Whether the file reaches the end that its own format declares; what follows that end does not matter."""
    if form == "png":
        return _png_is_whole(data)
    if form == "jpeg":
        return _jpeg_is_whole(data)
    declared = int.from_bytes(data[4:8], "little") + 8 if form == "webp" else int.from_bytes(data[2:6], "little")
    return declared <= len(data)


def _png_is_whole(data: mmap.mmap) -> bool:
    offset, before_pixels = 8, 0
    for steps in range(_MOST_CHUNKS):
        kind = data[offset + 4 : offset + 8]
        if kind == b"IEND":
            return True
        before_pixels = before_pixels or (steps if kind == b"IDAT" else 0)
        if steps > _MOST_SEGMENTS and not before_pixels:
            break
        offset += 12 + int.from_bytes(data[offset : offset + 4])
        if offset + 8 > len(data):
            return False
    raise ValueError("more chunks than any picture has")


def _jpeg_is_whole(data: mmap.mmap) -> bool:
    """Its end marker after its first scan: within the segments before, a thumbnail may hold another one."""
    offset = 2
    for _ in range(_MOST_SEGMENTS):
        mark, kind = data[offset : offset + 2].ljust(2, b"\0")
        if offset + 4 > len(data):
            return False
        if mark != 0xFF or kind == 0:
            raise ValueError("no marker")
        if kind == 0xDA:
            return data.find(b"\xff\xd9", offset) >= 0
        if kind == 0xFF:
            offset += 1
        elif kind == 0x01 or 0xD0 <= kind <= 0xD9:
            offset += 2
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    raise ValueError("more segments than any picture has")
