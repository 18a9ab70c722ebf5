"""A picture of many clips at once: one frame from the middle of each, with its name below.

It decodes video in this process: only for clips of our own simulator, never for what a vendor delivered.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import av
from PIL import Image, ImageDraw

TILE = (480, 270)
CAPTION_HEIGHT = 26
COLUMNS = 3
GAP = 8
PAPER, INK = (24, 24, 27), (244, 244, 245)


def write_contact_sheet(clips: Mapping[str, Path], target: Path) -> None:
    """Draw one tile a clip, in order, and write a JPEG. Raises ValueError when there is no clip."""
    if not clips:
        raise ValueError("a contact sheet needs at least one clip")
    columns = min(COLUMNS, len(clips))
    rows = -(-len(clips) // columns)
    width, height = TILE[0] + GAP, TILE[1] + CAPTION_HEIGHT + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (name, path) in enumerate(clips.items()):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        poster = poster_of(path)
        sheet.paste(poster, (left + (TILE[0] - poster.width) // 2, top + (TILE[1] - poster.height) // 2))
        draw.text((left + 2, top + TILE[1] + 5), name, fill=INK)
    sheet.save(target, format="JPEG", quality=85)


def poster_of(path: Path) -> Image.Image:
    """The frame in the middle of a clip, made to fit a tile."""
    with av.open(str(path), format="mp4") as container:
        stream = container.streams.video[0]
        if stream.duration:
            container.seek(stream.duration // 2, stream=stream)
        frame = next(container.decode(stream))
    image = cast("Image.Image", frame.to_image())  # pyright: ignore[reportUnknownMemberType]
    image.thumbnail(TILE)
    return image
