"""A client of the simulated APIXO that knows only its document, and a receiver for its callbacks."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import av
import httpx

KEY = "sim-apixo-key"
LIMIT_S = 120.0  # longer than a busy machine takes to render a clip: reaching it is a hang

# For what needs no key; each call has a connection of its own.
web = httpx.Client(timeout=LIMIT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
IMAGE = "https://example.com/hero.png"
MEDIA: dict[str, dict[str, Any]] = {
    "text-to-video": {},
    "image-to-video": {"image_urls": [IMAGE]},
    "image-to-video-flash": {"image_urls": [IMAGE]},
    "reference-to-video": {"reference_urls": [IMAGE]},
    "reference-to-video-flash": {"reference_urls": [IMAGE]},
}
MODES = tuple(MEDIA)


class Apixo:
    """Calls to one simulator; `url` is its address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(
            base_url=url, timeout=LIMIT_S, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
        )

    def post(self, body: Any, model: str = "wan-2-6-video", **options: Any) -> httpx.Response:
        return self.http.post(f"/apixo/api/v1/generateTask/{model}", json=body, **options)

    def submit(self, prompt: str, mode: str = "text-to-video", callback: str = "", **fields: Any) -> httpx.Response:
        body = {"input": {"mode": mode, "prompt": prompt, **MEDIA[mode], **fields}}
        kind = {"request_type": "callback", "callback_url": callback} if callback else {"request_type": "async"}
        return self.post(kind | body)

    def task(self, prompt: str, mode: str = "text-to-video", callback: str = "", **fields: Any) -> str:
        answer = self.submit(prompt, mode, callback, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["taskId"]

    def read(self, task_id: str) -> httpx.Response:
        return self.http.get("/apixo/api/v1/statusTask/wan-2-6-video", params={"taskId": task_id})

    def state(self, task_id: str) -> dict[str, Any]:
        return self.read(task_id).json()["data"]

    def finished(self, task_id: str) -> dict[str, Any]:
        return until(lambda: self.state(task_id), lambda data: data["state"] in ("success", "failed"))

    def link(self, task_id: str) -> str:
        (url,) = json.loads(self.finished(task_id)["resultJson"])["resultUrls"]
        return url

    def job(self, task_id: str) -> dict[str, Any]:
        return self.http.get(f"/journal/jobs/{task_id}").json()

    def release(self, task_id: str) -> None:
        """Let go the job, and all others of its prompt."""
        self.http.post(
            "/control/release", json={"prompt_sha256": self.job(task_id)["prompt_sha256"]}
        ).raise_for_status()

    def journal(self) -> dict[str, Any]:
        return self.http.get("/journal").json()

    def last_submit(self) -> dict[str, Any]:
        return self.journal()["submits"][-1]


def until(read: Callable[[], Any], done: Callable[[Any], bool], within_s: float = LIMIT_S) -> Any:
    """Read until the value will do; fail after a while."""
    deadline = time.monotonic() + within_s
    while not done(value := read()):
        assert time.monotonic() < deadline, value
        time.sleep(0.01)
    return value


def seen(content: bytes) -> dict[str, Any]:
    """Decode a clip to its end, where damage shows, and say what is in it."""
    with av.open(io.BytesIO(content), "r") as clip:
        video = clip.streams.video[0]
        pictures = sum(1 for _ in clip.decode(video=0))
        codecs = sorted(stream.codec_context.name for stream in (*clip.streams.video, *clip.streams.audio))
        duration_s, pixels = (clip.duration or 0) / 1_000_000, (video.width, video.height)
    with av.open(io.BytesIO(content), "r") as clip:
        sounds = sum(1 for _ in clip.decode(audio=0)) if clip.streams.audio else 0
    return {
        "duration_s": duration_s,
        "pixels": pixels,
        "codecs": codecs,
        "video_frames": pictures,
        "has_sound": sounds > 0,
    }


class Sink:
    """A real HTTP receiver of callbacks, which answers with the statuses it was given and 200 from then on."""

    def __init__(self, port: int, statuses: Sequence[int]) -> None:
        self.url = f"http://127.0.0.1:{port}/hooks/secret-token"
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self._statuses = list(statuses)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.times.append(time.monotonic())
        self.headers.append(headers)
        self.bodies.append(json.loads(body))
        return self._statuses.pop(0) if self._statuses else 200


@contextmanager
def sink(*statuses: int) -> Generator[Sink]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Sink(server.server_port, statuses)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def raw_get(url: str) -> tuple[bytes, bytes]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=LIMIT_S) as connection:
        connection.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: simulator\r\n\r\n".encode())
        head, _, body = received_all(connection).partition(b"\r\n\r\n")
        return head.lower(), body


def received_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(1 << 16):
        received += chunk
    return bytes(received)
