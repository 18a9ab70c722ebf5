"""A module is short, or its docstring says why it is not."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
REASON = "over 400 lines because"


def test_a_module_of_more_than_400_lines_gives_its_reason() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in listed.stdout.splitlines()}
    assert Path(__file__).relative_to(ROOT).as_posix() in texts
    long = {name: text.count("\n") for name, text in texts.items() if _is_long_without_reason(text)}
    assert not long, str(long)


def _is_long_without_reason(text: str) -> bool:
    if text.count("\n") <= MOST_LINES:
        return False
    return REASON not in " ".join((ast.get_docstring(ast.parse(text)) or "").split())
