"""Every command line that a text shows is one that the program reads."""

import re
import shlex
from collections.abc import Iterator

import pytest

from onetake.core.errors import CATALOGUE
from tests.cli.tree import named, options, parse, verbs
from tests.docs.markdown import PAGES, ROOT, fences, names, page, unfenced

TEXTS = {
    **{str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES},
    "what errors tell people to do": "\n".join(entry.hint for entry in CATALOGUE.values()),
}
PLACEHOLDERS = {"VERB", "COMMAND"}


def lines(text: str) -> Iterator[list[str]]:
    """The words after `onetake` of each command line in a fenced block."""
    for line in "\n".join(fences(text)).replace("\\\n", " ").splitlines():
        program, *words = shlex.split(re.split(r" [<>|&]", line)[0], comments=True) if "onetake" in line else [""]
        if program == "onetake":
            yield words


def phrases(text: str) -> Iterator[list[str]]:
    """The words after `onetake` of each phrase in backticks: what a sentence names, often without its arguments."""
    for phrase in re.findall(r"`onetake ([^`]+)`", unfenced(text)):
        words = phrase.split()
        if words[0] not in PLACEHOLDERS:
            yield words


def test_the_readme_lists_every_verb() -> None:
    sentence = re.search(r"The verbs: (.*?)\. ", page("README.md"), re.DOTALL)
    assert sentence
    assert sorted(names(sentence[1])) == sorted(verbs())


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_line_of_a_text_can_be_read(name: str) -> None:
    for words in lines(TEXTS[name]):
        parse(words)


@pytest.mark.parametrize("name", TEXTS)
def test_every_phrase_names_a_verb_and_options_that_exist(name: str) -> None:
    for words in phrases(TEXTS[name]):
        command, rest = named(words)
        assert {word for word in rest if word.startswith("-")} <= options(command), words


def test_the_searches_find_what_they_are_for() -> None:
    texts = TEXTS.values()
    assert len([words for text in texts for words in lines(text)]) > 5
    assert len({words[0] for text in texts for words in phrases(text)}) > 10
