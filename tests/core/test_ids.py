"""Ids sort by the time they were made, and only ids of our own form are taken for ours."""

import time
import uuid

import pytest

from onetake.core.ids import generation_id_in, is_generation_id, new_generation_id, workflow_id_of

KNOWN = "gen_0192e4a0-7b1c-7def-8123-456789abcdef"


def test_an_id_is_a_uuid_of_version_seven_made_now() -> None:
    before = time.time_ns() // 1_000_000
    made = new_generation_id()
    after = time.time_ns() // 1_000_000
    assert is_generation_id(made)
    value = uuid.UUID(made.removeprefix("gen_"))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert before <= value.int >> 80 <= after


def test_ids_are_unique_and_sort_by_their_millisecond() -> None:
    first = [new_generation_id() for _ in range(2000)]
    time.sleep(0.002)
    second = [new_generation_id() for _ in range(2000)]
    assert len({*first, *second}) == 4000
    assert max(first) < min(second)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gen_",
        KNOWN.removeprefix("gen_"),
        KNOWN.upper(),
        KNOWN + "0",
        KNOWN + "\n",
        " " + KNOWN,
        KNOWN.replace("-7def", "-4def"),
        KNOWN.replace("-8123", "-c123"),
        KNOWN.replace("-", ""),
    ],
)
def test_another_form_is_no_id(text: str) -> None:
    assert is_generation_id(KNOWN)
    assert not is_generation_id(text)


def test_a_workflow_id_leads_back_to_its_generation() -> None:
    assert workflow_id_of("acme", KNOWN) == f"gen/acme/{KNOWN}"
    assert generation_id_in(workflow_id_of("acme", KNOWN), "acme") == KNOWN


@pytest.mark.parametrize(
    "workflow_id", ["", KNOWN, f"gen/other/{KNOWN}", f"gen/acme/x/{KNOWN}", "gen/acme/7", f"recover/acme/{KNOWN}"]
)
def test_another_workflow_id_names_no_generation(workflow_id: str) -> None:
    assert generation_id_in(workflow_id, "acme") is None
