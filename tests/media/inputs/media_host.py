"""A web server in the test process with small, valid media for requests to name."""

import io
import struct
import time
import wave
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from PIL import Image

from tests.media.reader.parts import render

NAMES = ("picture.png", "alpha.png", "picture.jpg", "clip.mp4", "sound.wav", "sound.mp3")
TYPES = {"png": "image/png", "jpg": "image/jpeg", "mp4": "video/mp4", "wav": "audio/wav", "mp3": "audio/mpeg"}
SILENT_S = 600.0  # or the test hangs


@dataclass
class MediaHost:
    """`url(name)` of one of NAMES, or of what `put` added; `busy...` is a name that answers 503.

    `asked` holds the paths that were fetched. A name in `silent` is not answered until it is taken out again.
    """

    port: int
    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list[str])
    silent: set[str] = field(default_factory=set[str])
    redirects: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        assert name in self.files, f"one of {', '.join(self.files)}"
        return f"http://{self.netloc}/{name}"

    def put(self, name: str, content: bytes) -> str:
        """Serve these bytes under this name from now on."""
        self.files[name] = content
        return self.url(name)

    def redirect(self, name: str, target: str) -> str:
        """Answer this name with a redirect from now on."""
        self.redirects[name] = target
        return f"http://{self.netloc}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, host: MediaHost, *arguments: object) -> None:
        self._host = host
        super().__init__(*arguments)  # pyright: ignore[reportArgumentType]

    def do_GET(self) -> None:
        name = self.path.lstrip("/").partition("?")[0]
        self._host.asked.append(self.path)
        deadline = time.monotonic() + SILENT_S
        while name in self._host.silent and time.monotonic() < deadline:
            time.sleep(0.05)
        content = self._host.files.get(name)
        missing = 302 if name in self._host.redirects else 503 if name.startswith("busy") else 404
        self.send_response(missing if content is None else 200)
        if missing == 302:
            self.send_header("Location", self._host.redirects[name])
        self.send_header("Content-Type", TYPES.get(name.rpartition(".")[2], "application/octet-stream"))
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        with suppress(ConnectionError):  # whoever asked has seen enough
            self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@contextmanager
def serving_media(folder: Path) -> Generator[MediaHost]:
    """Render the media into a folder and serve them on loopback for the block."""
    host = MediaHost(0, valid_media(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, host))
    server.daemon_threads = True
    host.port = server.server_address[1]
    thread = Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def valid_media(folder: Path) -> dict[str, bytes]:
    """640x480 pictures (the second PNG with transparency), a clip of 2.5 s and 640x360, and 4 s of sound twice."""
    clip = render(folder / "clip.mp4", duration_s=2.5, size=(640, 360))
    sound = render(folder / "sound.mp3", duration_s=4, pictures=False)
    return {
        "picture.png": picture("PNG"),
        "alpha.png": picture("PNG", mode="RGBA"),
        "picture.jpg": picture("JPEG"),
        "clip.mp4": clip.read_bytes(),
        "sound.wav": wav(4),
        "sound.mp3": sound.read_bytes(),
    }


def picture(form: str, size: tuple[int, int] = (640, 480), mode: str = "RGB", **named: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 0x40).save(file, form, **named)
    return file.getvalue()


def gif(frames: int) -> bytes:
    """An animation of tiny frames."""
    first, *rest = [Image.new("L", (8, 8), number % 256) for number in range(frames)]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=10, loop=0)
    return file.getvalue()


def wav(seconds: float, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(rate)
        out.writeframes(b"\x80" * int(seconds * rate))
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and holds none."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
