"""What is in the image: `inventory.py SBOM FOLDER`, run in the build by the interpreter of the image's environment.

It writes `sbom.cdx.json`, the CycloneDX document of the Python packages with the base's Debian packages added, and
`licences.tsv`: name, version, licence, where its text is, and which shared libraries the package brings along. Those
have licences of their own, which no wheel declares: PyAV's brings FFmpeg and its codecs.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

DPKG = Path("/var/lib/dpkg/status")
NO_WORD = "not declared"
LICENCE_FILES = ("licen", "copying", "notice", "authors")


@dataclass(frozen=True, order=True)
class Package:
    """One package of the image."""

    kind: str  # "python" or "debian"
    name: str
    version: str
    licence: str
    texts: str
    brings: str = ""

    @property
    def row(self) -> str:
        return f"{self.name}\t{self.version}\t{self.licence}\t{self.texts}\t{self.brings}"

    @property
    def component(self) -> dict[str, Any]:
        """Its entry in the document."""
        purl = f"pkg:deb/debian/{self.name}@{self.version.replace('+', '%2B').replace(':', '%3A')}"
        return {"type": "library", "bom-ref": purl, "name": self.name, "version": self.version, "purl": purl}


def python_packages() -> Iterator[Package]:
    """What is installed beside this interpreter."""
    for each in distributions():
        yield Package(
            "python", each.name, each.version, licence_of(each), " ".join(texts_of(each)), " ".join(brought_by(each))
        )


def licence_of(package: Distribution) -> str:
    """The expression if there is one, else what older metadata say, in one line."""
    told = package.metadata
    if expression := told.get("License-Expression"):
        return str(expression)
    named = [line.rpartition("::")[2].strip() for line in told.get_all("Classifier", []) if "License ::" in line]
    first = (told.get("License") or "").strip().partition("\n")[0]
    return ", ".join(named) or first or NO_WORD


def texts_of(package: Distribution) -> list[str]:
    """The files of the package that hold licences."""
    found = [each for each in package.files or () if each.name.lower().startswith(LICENCE_FILES)]
    return sorted(str(package.locate_file(each)) for each in found if each.suffix not in {".py", ".pyc"})


def brought_by(package: Distribution) -> list[str]:
    """The shared libraries that a wheel carries in a folder of their own."""
    return sorted(each.name for each in package.files or () if each.parts[0].endswith(".libs"))


def debian_packages(status: Path = DPKG) -> Iterator[Package]:
    """What the base was installed from; none where it has no dpkg."""
    for paragraph in status.read_text(encoding="utf-8").split("\n\n") if status.exists() else ():
        told = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if told.get("Status", "").endswith("ok installed"):
            text = f"/usr/share/doc/{told['Package']}/copyright"
            yield Package("debian", told["Package"], told["Version"], "see its text", text)


def main(sbom: Path, folder: Path) -> None:
    """Write both files."""
    document = json.loads(sbom.read_text(encoding="utf-8"))
    base = sorted(debian_packages())
    document["components"] = [*document["components"], *(each.component for each in base)]
    (folder / "sbom.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    rows = [each.row for each in (*sorted(python_packages()), *base)]
    (folder / "licences.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
