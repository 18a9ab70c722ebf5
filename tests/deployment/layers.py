"""What the layers of an image hold, file by file."""

import json
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, cast

from tests.deployment.containers import BUILD_LIMIT_S, Podman

_CHUNK: Final = 1 << 22


@dataclass(frozen=True)
class Entry:
    """One file, folder or link of a layer."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: float
    link: str
    digest: str


@contextmanager
def saved(engine: Podman, image: str, folder: Path) -> Generator[Path]:
    """The image as one archive, its layers not compressed."""
    folder.mkdir(exist_ok=True)
    archive = folder / "image.tar"
    engine.run("save", "--format", "docker-archive", "--output", str(archive), image, limit_s=BUILD_LIMIT_S)
    try:
        yield archive
    finally:
        archive.unlink()


def entries(archive: Path) -> list[list[Entry]]:
    """Every layer, the base's first."""
    with tarfile.open(archive) as image:
        manifest = json.load(cast("IO[bytes]", image.extractfile("manifest.json")))
        return [_layer(cast("IO[bytes]", image.extractfile(name))) for name in manifest[0]["Layers"]]


def _layer(stream: IO[bytes]) -> list[Entry]:
    with tarfile.open(fileobj=stream) as layer:
        return [_entry(layer, member) for member in layer]


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    digest = sha256()
    if member.isfile():
        source = cast("IO[bytes]", layer.extractfile(member))
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    kind = member.type.decode()
    return Entry(
        member.name, kind, member.mode, member.uid, member.gid, member.mtime, member.linkname, digest.hexdigest()
    )


def occurs(archive: Path, text: str) -> bool:
    """Whether a text is anywhere in the archive: in a file of any layer, in its configuration or its history."""
    wanted, before = text.encode(), b""
    with archive.open("rb") as source:
        while chunk := source.read(_CHUNK):
            if wanted in before + chunk:
                return True
            before = chunk[-len(wanted) :]
    return False
