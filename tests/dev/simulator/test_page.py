"""The page at `/`: the journal for people."""

from onetake.dev.simulator.app import VENDORS, SimulatorConfig
from onetake.dev.simulator.faults import MARKERS
from onetake.dev.simulator.page import render
from onetake.dev.simulator.server import running
from tests.dev.simulator.calls import web

HEADERS = {"Authorization": "Bearer sim-apixo-key"}


def test_the_page_shows_every_vendor_the_jobs_the_refusals_and_the_markers() -> None:
    with running(SimulatorConfig(render_s=60)) as address:
        submit = f"{address}/apixo/api/v1/generateTask/wan-2-6-video"
        good = {"request_type": "async", "input": {"mode": "text-to-video", "prompt": "a fox"}}
        bad = {"request_type": "async", "input": {"mode": "text-to-video", "prompt": ""}}
        task_id = web.post(submit, json=good, headers=HEADERS).json()["data"]["taskId"]
        web.post(submit, json=bad, headers=HEADERS)
        page = web.get(f"{address}/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert task_id in page.text
    assert "$0.5" in page.text
    assert "a fox" not in page.text
    assert all(f"<td>{name}<td" in page.text for name in VENDORS)
    assert all(f"[[sim:{name}]]" in page.text for name in MARKERS)


def test_what_somebody_sent_is_text_and_never_markup() -> None:
    submit = {"vendor": "apixo", "received_at": 0.0, "accepted": False, "status": 400, "reason": "<script>alert(1)"}
    assert "<script>" not in render({"jobs": [], "submits": [submit]}, ["apixo"])
