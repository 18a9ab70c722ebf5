"""As much Markdown as these tests need: headings, tables, fenced blocks and links of the committed texts."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "deployment/devtools/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def table(text: str) -> list[tuple[str, ...]]:
    """The rows of the first table, without its head; cells as written."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    return [_cells(line) for line in _while_table(lines[first + 1 :])]


def _while_table(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1]))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language."""
    return [body for name, body in _FENCE.findall(text) if name == language]


def fences(text: str) -> list[str]:
    """All fenced blocks."""
    return [body for _, body in _FENCE.findall(text)]


def unfenced(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """The targets of all links outside of fenced blocks."""
    return _LINK.findall(unfenced(text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", unfenced(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names(cell: str) -> list[str]:
    """What a cell or a sentence puts in backticks."""
    return re.findall(r"`([^`]+)`", cell)
