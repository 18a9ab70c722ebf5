"""Clips rendered on the spot."""

from pathlib import Path
from typing import Any

import av
import av.error
import av.filter

FPS = 24
LIMIT_S = 300.0  # of a read on however busy a machine: only what hangs takes longer
X264 = {"preset": "ultrafast", "g": "24"}


def render(
    path: Path,
    *,
    duration_s: float = 2,
    pictures: bool = True,
    sound: bool = True,
    movflags: str = "faststart",
    size: tuple[int, int] = (320, 180),
) -> Path:
    """A real clip: H.264, and AAC when it has sound (MP3 in a file of that name). Without `faststart` its index comes
    last."""
    mp3 = path.suffix == ".mp3"
    container: Any
    with av.open(str(path), "w", options={} if mp3 else {"movflags": movflags}) as container:
        video = container.add_stream("libx264", rate=FPS, options=X264) if pictures else None
        audio = container.add_stream("libmp3lame" if mp3 else "aac", rate=48_000) if sound else None
        if video:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            pixels = "x".join(map(str, size))
            source = ("testsrc2", f"size={pixels}:rate={FPS}:duration={duration_s}")
            _mux(container, video, source, ("format", "yuv420p"))
        if audio:
            sine = ("sine", f"frequency=440:sample_rate=48000:duration={duration_s}")
            _mux(container, audio, sine, ("aformat", "sample_fmts=fltp:channel_layouts=stereo"))
    return path


def _mux(container: Any, stream: Any, source: tuple[str, str], form: tuple[str, str]) -> None:
    graph: Any = av.filter.Graph()
    sink = "buffersink" if stream.type == "video" else "abuffersink"
    graph.link_nodes(graph.add(*source), graph.add(*form), graph.add(sink)).configure()
    while True:
        try:
            frame = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        if stream.type == "video":
            frame.pict_type = 0
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
