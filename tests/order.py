"""Which test files start first: those that take longest, so that no process is left alone with one at the end.

What each took is measured, in `seconds.txt`; to measure again:

    .venv/bin/python -m pytest -n 3 --dist loadfile --junitxml results.xml
    .venv/bin/python -m tests.order results.xml

and so also with the folders of `make test-faults`.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

FILE: Final = Path(__file__).with_name("seconds.txt")
_ROOT: Final = FILE.parents[1]


@cache
def seconds() -> Mapping[str, float]:
    """By file; the time of a fixture that many files share is that of the file which came first."""
    lines = [line.split() for line in FILE.read_text(encoding="utf-8").splitlines()]
    return {file: float(taken) for taken, file in lines}


def measured(results: Path) -> Mapping[str, float]:
    """The seconds of each file in a JUnit report."""
    taken: defaultdict[str, float] = defaultdict(float)
    for case in ET.parse(results).iter("testcase"):
        taken[f"{case.attrib['classname'].replace('.', '/')}.py"] += float(case.attrib["time"])
    return taken


def write(results: Path) -> None:
    """Replace what is known of the files in a report; forget files that are gone."""
    known = {file: taken for file, taken in {**seconds(), **measured(results)}.items() if (_ROOT / file).exists()}
    ordered = sorted(known.items(), key=lambda each: (-round(each[1], 1), each[0]))
    FILE.write_text("".join(f"{taken:7.1f} {file}\n" for file, taken in ordered if taken >= 1), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
