"""The runs whose histories are recorded: one for each way through the workflow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Story:
    """A prompt for the simulator, and whether the run is canceled in a phase."""

    name: str
    marker: str
    cancel_in: str = ""
    duration_s: int = 2


STORIES = (
    Story("finished-by-callback", "[[sim:delay=1]]"),
    Story("finished-by-polling", "[[sim:no-callback]]"),
    Story("request-invalid", "", duration_s=99),
    Story("rejected", "[[sim:reject=400]]"),
    Story("throttled-then-finished", "[[sim:throttle=1]][[sim:delay=1]]"),
    Story("resolved-by-callback", "[[sim:submit-reset]][[sim:delay=1]]"),
    Story("render-failed", "[[sim:fail=Timeout]]"),
    Story("canceled-while-rendering", "[[sim:no-callback]][[sim:delay=1]]", cancel_in="generating"),
    Story("clip-not-a-video", "[[sim:asset-html]]"),
    Story("failed-after-success", "[[sim:no-callback]][[sim:status-success=1]][[sim:fail=Timeout]]"),
)
# Runs of the workflow `Recovery`, after a run of this prompt was terminated while it waited.
RECOVERIES = (Story("recovered-late-clip", "[[sim:delay=2]]"),)
# A run of the workflow `Reconcile` that the schedule started, after some passes.
PASSES = Story("passes", "")
CODEC_KEY = "dGVzdHMgb25seTogdGhpcyBrZXkgaXMgbm8gc2VjcmU="
