"""The error tree, split by what the caller must do, and the closed catalogue of codes.

::

    OnetakeError
    ├── Refused          nothing was sent and nothing is owed: change the request or the setting, then start again
    │   └── NoMoney      a budget is too small: raise it, or wait for its next window
    ├── Failed           the generation ended without the clip: read the hint; what it cost is in the ledger
    └── TryLater         a part is unreachable or slow: the same call works later, `after_s` says when

Every error carries a code of `CATALOGUE`. Texts come from there; `detail` adds what was measured and never
holds a prompt, a secret, a link or unscrubbed vendor text.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Violation:
    """One broken rule: where (a JSON pointer), what was given, what is allowed, and the nearest legal value."""

    pointer: str
    given: str
    allowed: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f" (nearest: {self.nearest})" if self.nearest else ""
        return f"{self.pointer}: given {self.given}, allowed {self.allowed}{hint}"


@dataclass(frozen=True)
class Entry:
    """One code: the sentence, what to do about it, and the exit code of the command line."""

    sentence: str
    hint: str
    exit_code: int


CATALOGUE: Final[dict[str, Entry]] = {
    # Refused before anything was sent.
    "request_invalid": Entry(
        "The request breaks at least one rule of its route.",
        "Correct the fields listed; `onetake routes ROUTE` shows what the route accepts.",
        3,
    ),
    "route_unknown": Entry("There is no such route.", "`onetake routes` lists the routes that exist.", 3),
    "policy_refused": Entry(
        "A policy does not allow this generation.",
        "Ask within the limits listed; `onetake routes ROUTE --tenant T` shows them, `onetake policy` changes them.",
        3,
    ),
    "max_cost_exceeded": Entry(
        "The generation would cost more than the request allows.",
        "Raise max_cost_usd, or ask for a shorter or smaller clip.",
        3,
    ),
    "price_missing": Entry(
        "No document names the price of this route.",
        "Configure it in the file that ONETAKE_PRICES names; nothing runs at a guessed price.",
        3,
    ),
    "quote_expired": Entry(
        "The quote has expired, and its price with it.",
        "Start without the quote at the price of now, or make a new quote: `onetake generate ... --dry-run`.",
        3,
    ),
    "quote_not_found": Entry(
        "This tenant has no such quote.",
        "Check the id and the tenant; `onetake generate ... --dry-run` makes a quote that is good for 15 minutes.",
        3,
    ),
    "quote_differs": Entry(
        "The quote was made for another request.",
        "Send the request as it was quoted, or make a quote for this one: `onetake generate ... --dry-run`.",
        3,
    ),
    "input_not_usable": Entry(
        "An input cannot be used by this route.",
        "Give another address or another file; `onetake routes ROUTE` shows the limits.",
        3,
    ),
    "inputs_busy": Entry(
        "The inputs were not looked at in time: too many others are.",
        "Nothing was held or sent: start again later, or start more workers of the role orchestrate.",
        9,
    ),
    "vendor_account_limit": Entry(
        "The spending limit of our key at the vendor is reached.", "An operator must raise it; nothing was rendered.", 5
    ),
    "vendor_paused": Entry(
        "This vendor, or this model of it, is paused because its account is empty or our key is refused.",
        "Start again later, or choose another vendor; `onetake vendors list` shows why.",
        9,
    ),
    "idempotency_key_reused": Entry(
        "This idempotency key was used before with another request.",
        "Use a new key for a new request; the same key with the same request returns the first generation.",
        3,
    ),
    "workflow_id_reused": Entry(
        "This workflow id already ran a generation.",
        "Start a new generation with a new workflow id; a generation runs once.",
        3,
    ),
    "generation_not_found": Entry(
        "There is no such generation.", "Check the id and the tenant; `onetake list` shows what exists.", 3
    ),
    "generation_running": Entry(
        "The generation has not ended.", "`onetake watch ID` waits for it; a replay is for what has ended.", 3
    ),
    "nothing_to_replay": Entry(
        "There is nothing to replay in this way.",
        "`onetake get ID` shows how it ended; `onetake replay --help` says what each verb is for.",
        3,
    ),
    "replay_cost_not_accepted": Entry(
        "Rendering again may pay twice: the first render may still give its clip.",
        "Try `onetake replay reattach ID` or `repersist ID` first; `--accept-cost` renders again all the same.",
        3,
    ),
    "history_differs": Entry(
        "Today's code does not repeat this history.",
        "Do not deploy it while such runs are open: restore the order of commands, or guard the change by a patch.",
        1,
    ),
    "result_not_ready": Entry("The generation has no clip.", "`onetake get ID` shows where it stands.", 3),
    "budget_exceeded": Entry(
        "A budget that applies is too small.",
        "Raise it with `onetake budget set`, or wait until its window starts again.",
        4,
    ),
    "vendor_key_missing": Entry(
        "No API key is configured for this vendor.",
        "Set the setting named, or bring up a simulated vendor with `onetake dev`.",
        8,
    ),
    "settings_invalid": Entry(
        "The settings are incomplete or wrong.", "Correct the settings listed; `onetake dev` brings up all of them.", 2
    ),
    "client_forked": Entry(
        "This client was opened before the process was forked.",
        "Open a client in each process, after the fork; the one of the first process goes on.",
        2,
    ),
    "engine_too_old": Entry(
        "This Temporal server cannot route by versions of workers.",
        "Upgrade it, or unset TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID on the workers.",
        2,
    ),
    "deployment_unknown": Entry(
        "Temporal knows no such deployment or build of workers.",
        "Start `onetake worker` with TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID; "
        "`onetake deploy status` shows what there is.",
        3,
    ),
    "deployment_not_ready": Entry(
        "The deployment is not there yet.",
        "See that workers of the build run (`onetake deploy status`), then repeat it.",
        9,
    ),
    "usage": Entry("The command cannot be read.", "`onetake COMMAND --help` shows examples.", 2),
    "statement_invalid": Entry(
        "The vendor's statement cannot be used; nothing was changed.",
        "Correct the file, or name its columns and states; `onetake suspense resolve --help` lists the options.",
        2,
    ),
    # The vendor said no, or could not be reached: nothing is owed.
    "vendor_rejected": Entry(
        "The vendor refused the submission.", "Change what the vendor names, then start again.", 5
    ),
    "content_rejected": Entry(
        "The vendor's safety rules refused the content.", "Change the prompt or the inputs, then start again.", 5
    ),
    "vendor_auth": Entry(
        "The vendor does not accept our API key.", "An operator must check the vendor's API key and its rights.", 5
    ),
    "vendor_account_empty": Entry(
        "Our account at the vendor has no balance left.", "An operator must top it up; nothing was rendered.", 5
    ),
    "vendor_route_missing": Entry(
        "The vendor does not serve this model or endpoint.",
        "Choose another route; the vendor may have retired the model.",
        5,
    ),
    "vendor_throttled": Entry(
        "The vendor had no room for the job until the deadline.",
        "Start again later, or allow a longer deadline_s; nothing was rendered.",
        5,
    ),
    "vendor_unreachable": Entry(
        "The vendor could not be reached, so nothing was sent.", "Start again when the vendor's address answers.", 5
    ),
    "vendor_took_nothing": Entry(
        "The vendor's answer was lost, and our balance there shows that it took nothing.",
        "Nothing was rendered and nothing is owed: start again when the vendor answers properly.",
        5,
    ),
    # The generation ended without a clip, or with a doubt about money.
    "submission_outcome_unknown": Entry(
        "It is not known whether the vendor accepted the submission.",
        "Nothing is sent again. The amount is in suspense until an operator, who asks the vendor, decides.",
        7,
    ),
    "vendor_failed": Entry("The vendor's render failed.", "Start again; the ledger shows what the vendor kept.", 1),
    "vendor_timeout": Entry(
        "The vendor did not finish before the deadline.",
        "The amount is in suspense until the vendor's answer is known; allow a longer deadline_s.",
        1,
    ),
    "vendor_task_lost": Entry(
        "The vendor no longer knows the task it accepted.", "The amount is in suspense; ask the vendor.", 1
    ),
    "vendor_bad_result": Entry(
        "The vendor reported success without a usable clip.", "The vendor was paid; ask it for the result.", 1
    ),
    "vendor_protocol_error": Entry(
        "The vendor's answers contradict each other.", "The amount is in suspense; an operator must look.", 1
    ),
    "asset_unavailable": Entry(
        "The finished clip could not be downloaded.",
        "The vendor was paid; an operator can fetch the clip there by its vendor_task_id while it is kept.",
        1,
    ),
    "asset_truncated": Entry(
        "The clip arrived incomplete.",
        "The vendor was paid; an operator can fetch the clip there by its vendor_task_id while it is kept.",
        1,
    ),
    "asset_not_video": Entry(
        "What the vendor delivered is not a playable clip.", "The vendor was paid; ask it for the result.", 1
    ),
    "asset_unverified": Entry(
        "The clip is stored, but it could not be read to its last packet on this machine.",
        "Nothing is lost: see that the media workers have memory and time; it is read again, "
        "at last by `onetake replay repersist ID`.",
        1,
    ),
    "asset_too_large": Entry(
        "The clip is larger than the limit.",
        "The vendor was paid; raise ONETAKE_ASSET_MAX_BYTES, or ask for a shorter clip.",
        1,
    ),
    "asset_url_blocked": Entry(
        "The clip's address is not one we may connect to.",
        "The detail names the rule. Once the host may be used (ONETAKE_TRUSTED_HOSTS): `onetake replay repersist ID`.",
        1,
    ),
    "storage_conflict": Entry(
        "Another object already holds the clip's key.", "Nothing was overwritten; an operator must look.", 1
    ),
    "never_started": Entry(
        "The start was cut off before it reached Temporal.", "Nothing was sent and nothing is owed; start it again.", 1
    ),
    "terminated_by_operator": Entry(
        "Its run was terminated before it could settle.",
        "What may have been sent is in suspense; recovery looks for the clip, `onetake get ID` shows what came of it.",
        1,
    ),
    "run_lost": Entry(
        "Its run is over, or unknown to Temporal, and never settled.",
        "What may have been sent is in suspense; recovery looks for the clip, `onetake get ID` shows what came of it.",
        1,
    ),
    "canceled": Entry("The generation was canceled.", "The ledger shows what it cost; start a new one when wanted.", 1),
    "internal_error": Entry(
        "A part of Onetake failed in a way it should not.", "Report it with the generation's id; nothing is lost.", 1
    ),
    # A part is away: the same call works later.
    "vendor_full": Entry(
        "The vendor has no room for more jobs now.",
        "It is waited for until the deadline, and nothing is held meanwhile; `onetake vendors list` shows the line.",
        9,
    ),
    "vendor_unavailable": Entry("The vendor does not answer properly.", "It is asked again; nothing is sent twice.", 9),
    "engine_unavailable": Entry(
        "Temporal cannot be used.",
        "Check TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE, or bring everything up with `onetake dev`.",
        9,
    ),
    "ledger_unavailable": Entry(
        "The database cannot be used.", "Check ONETAKE_DATABASE_URL, or bring everything up with `onetake dev`.", 9
    ),
    "records_lost": Entry(
        "The database has failed over, and lacks what it had answered before.",
        "Nothing is sent again: the run writes what it knows. Then run `onetake reconcile --after-failover`.",
        9,
    ),
    "storage_unavailable": Entry(
        "The object store cannot be used.",
        "Check the ONETAKE_S3_ settings, or bring everything up with `onetake dev`.",
        9,
    ),
    "spool_full": Entry(
        "This worker has no room on its disk for a clip.",
        "Another worker takes it. Free the disk of ONETAKE_SPOOL_DIR, or name a larger one.",
        9,
    ),
    "not_ready": Entry("The vendor is still rendering.", "Reads go on until the deadline.", 6),
    "start_outcome_unknown": Entry(
        "It is not known whether the generation started.",
        "Ask `onetake list` before anything else; start again only with the same idempotency key.",
        9,
    ),
    "stack_unavailable": Entry(
        "The development stack cannot run.",
        "Start it again once the reason is gone; its logs are in the home folder.",
        9,
    ),
    "interrupted": Entry(
        "Interrupted; what was started goes on.",
        "Repeat the command when it is wanted.",
        130,
    ),
    "wait_timed_out": Entry(
        "The time to wait is over; the generation goes on.", "`onetake watch ID` waits for it again.", 6
    ),
    "answer_not_written": Entry(
        "The answer could not be written to standard output.",
        "What the command did stands: make room, and `onetake list` before you repeat one that starts anything.",
        10,
    ),
}

VENDOR_SAID: Final = " It said: "  # between our sentence and a vendor's words, made safe


class OnetakeError(Exception):
    """Base of all errors this package raises on purpose. `code` is a key of `CATALOGUE`."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        self.entry = CATALOGUE[code]
        super().__init__(f"{self.entry.sentence} {detail}".strip())

    @property
    def hint(self) -> str:
        return self.entry.hint


class Refused(OnetakeError):
    """Nothing was sent and nothing is owed. `violations` lists every broken rule of an invalid request."""

    def __init__(self, code: str, detail: str = "", *, violations: tuple[Violation, ...] = ()) -> None:
        self.violations = violations
        super().__init__(code, detail or "; ".join(map(str, violations)))


class NoMoney(Refused):
    """A budget refused the reservation."""

    def __init__(self, detail: str) -> None:
        super().__init__("budget_exceeded", detail)


class Failed(OnetakeError):
    """The generation ended without its clip."""


class TryLater(OnetakeError):
    """The same call works later."""

    def __init__(self, code: str, detail: str = "", *, after_s: float | None = None) -> None:
        super().__init__(code, detail)
        self.after_s = after_s
