"""The safeties, each with the change that takes it out and the tests of which at least one must then turn red.

It is over 400 lines because it is one table, with some lines for each safety.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.changes import Change, Expression, Quoted, Statement, Text

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """`file` and `tests` are paths from the root; a test is pytest's id of it, with or without parameters."""

    name: str
    file: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]

    def source(self, root: Path = ROOT) -> str:
        """The file without this safety. Raises Unfit."""
        source = (root / self.file).read_text()
        for change in self.changes:
            source = change.applied_to(source)
        return source


# What the tests' databases are made of; tests/ledger/test_schema.py keeps it equal to onetake/ledger/schema/*.sql.
_SCHEMA = "onetake/ledger/migrations/versions/0001_baseline.sql"

_ACTIVITIES = "tests/activities/test_at_a_vendor.py"
_MEASURING = "tests/engine/test_measuring.py"
_PERSIST = "tests/activities/test_persist.py"
_AGAIN = "tests/activities/test_persist_again.py"
_SWEEPING = "tests/operations/test_sweeping.py"
_KNOWN = "tests/workflows/test_known_jobs.py"
_MONEY = "tests/ledger/test_money.py"
_SUBMISSIONS = "tests/ledger/test_submissions.py"
_GENERATIONS = "tests/ledger/test_generations.py"
_THRESHOLDS = "tests/ledger/test_thresholds.py"
_LANES = "tests/ledger/test_lanes.py"
_RECOVERIES = "tests/ledger/test_recoveries.py"
_SPEND = "tests/ledger/test_spend.py"
_BUCKET = "tests/media/storage/test_bucket.py"
_VERIFYING = "tests/media/storage/test_verifying.py"
_RESUMING = "tests/media/outbound/test_resuming.py"
_REVIEW = "tests/ledger/test_review.py"
_PACING = "tests/ledger/test_pacing.py"
_TOLD = "tests/operations/test_ends_told.py"
_EPOCHS = "tests/ledger/test_epochs.py"
_ADDRESSES = "tests/ledger/test_addresses.py"
_MIGRATIONS = "tests/ledger/test_migrations.py"
_STARTING = "tests/client/test_starting.py"
_PASSES = "tests/operations/test_passes.py"
_CLAIMS = "tests/ledger/test_claims.py"
_CIRCUITS = "tests/ledger/test_circuits.py"
_RATES = "tests/ledger/test_rates.py"
_KEYS = "tests/providers/test_driver_keys.py"
_LINE = "tests/ledger/test_line.py"
_SUPPLY = "tests/faults/test_supply.py"
_COMPOSE = "tests/deployment/test_compose.py"


def _sql(name: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, _SCHEMA, (Text(old, new),), tests)


def _chart(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, f"deployment/chart/{file}", (Text(old, new),), (f"tests/deployment/test_chart.py::{test}",))


def _python(name: str, file: str, change: Change, *tests: str) -> Mutant:
    return Mutant(name, file, (change,), tests)


# -- The intent and the one POST ---------------------------------------------------------------------------------------

_POST = [
    _sql(
        "a hold whose row of the rollup changed meanwhile is left out",
        "where not exists (select from booked b where b.place = p.place)",
        "where p.place is null",
        f"{_SPEND}::test_a_row_of_the_rollup_written_since_a_hold_began_to_book_loses_nothing",
    ),
    _sql(
        "a hold does not wait for the zone that is being set",
        "perform pg_advisory_xact_lock_shared(onetake.zone_lock(t.tenant)) from (",
        "perform 1 from (",
        f"{_SPEND}::test_a_hold_that_waited_for_a_zone_is_booked_on_its_day",
        f"{_SPEND}::test_a_zone_waits_for_the_first_booking_under_way",
    ),
    _sql(
        "intent: fresh for everybody",
        "where s.state = 'not_sent'\n        returning",
        "where true\n        returning",
        f"{_SUBMISSIONS}::test_only_one_of_many_callers_may_send",
    ),
    _sql(
        "intent: an accepted one is sent again",
        "where s.state = 'not_sent'\n        returning",
        "where s.state <> 'sending'\n        returning",
        f"{_SUBMISSIONS}::test_after_anything_else_nobody_sends_again",
    ),
    _sql(
        "intent: begun after the end",
        "if v_phase <> 'done' and not v_canceled then",
        "if not v_canceled then",
        f"{_SUBMISSIONS}::test_an_ended_generation_sends_nothing",
    ),
    _sql(
        "intent: without a hold",
        "foreign key (generation_id, attempt) references onetake.hold,\n    unique (vendor",
        "unique (vendor",
        f"{_SUBMISSIONS}::test_without_a_hold_nothing_can_be_begun",
    ),
    _python(
        "intent: sent although it is not fresh",
        "activities/submit.py",
        Expression("Submit._sent", "not begun.fresh", "False"),
        f"{_ACTIVITIES}::test_what_another_attempt_may_have_sent_is_in_doubt_and_not_sent",
    ),
    Mutant(
        "intent: committed after the POST",
        "activities/submit.py",
        (
            Statement("Submit._sent", "outcome = await self._client.submit(post)"),
            Statement(
                "Submit._sent",
                "bracket = await self._bracket(order.plan)",
                "bracket = None\noutcome = await self._client.submit(post)",
            ),
        ),
        (f"{_ACTIVITIES}::test_nothing_is_sent_whose_intent_cannot_be_written",),
    ),
    _python(
        "intent: what was learned is forgotten",
        "activities/submit.py",
        Statement("Submit._sent", "tries = _tries(memory)", "tries = Tries()"),
        f"{_ACTIVITIES}::test_what_an_attempt_learned_and_could_not_write_is_written_by_the_next",
    ),
    _python(
        "POST: a lost answer counts as not sent",
        "providers/driver.py",
        Expression("Driver._submitted", "'ambiguous'", "'not_sent'"),
        "tests/providers/test_driver_sending.py::test_once_bytes_may_have_left_the_end_is_ambiguous",
    ),
    _python(
        "cancel shield: a POST is cut in half",
        "activities/submit.py",
        Expression("Submit.submit", "to_the_end(self._submit(order, memory))", "self._submit(order, memory)"),
        f"{_ACTIVITIES}::test_an_attempt_that_is_canceled_during_its_post_tells_the_outcome",
    ),
    _python(
        "cancel shield: a cancellation cuts the phases",
        "workflows/generation.py",
        Expression("Generation.run", "asyncio.shield(life)", "life"),
        "tests/system/test_cancel.py::test_a_cancel_while_rendering_keeps_the_clip_that_was_paid_for",
    ),
    _python(
        "clamp: throttled for ever",
        "activities/submit.py",
        Expression("_throttled", "left_s <= LATEST_S", "False"),
        f"{_ACTIVITIES}::test_a_vendor_that_is_asked_too_fast_is_not_asked_beyond_the_limit",
    ),
]

# -- Outcomes that are not known, callbacks, and reads -----------------------------------------------------------------

_TRUTH = [
    _sql(
        "unique key: one task id of a vendor for two",
        "unique (vendor, vendor_task_id),",
        "",
        f"{_SUBMISSIONS}::test_one_task_id_belongs_to_one_submission",
    ),
    _sql(
        "compare and set: a late outcome overwrites the first",
        "and s.state <> p_state and p_state <> 'sending'",
        "",
        f"{_SUBMISSIONS}::test_an_acceptance_is_final",
    ),
    _sql(
        "compare and set: any state may follow any other",
        "select p_from = p_to or",
        "select true or",
        f"{_SUBMISSIONS}::test_no_statement_can_undo_an_acceptance",
    ),
    _sql(
        "compare and set: a late word about an earlier POST counts",
        "case when v_posts > p_post and p_state <> 'accepted' then 'earlier'",
        "case when false then 'earlier'",
        f"{_RECOVERIES}::test_a_late_word_about_an_earlier_post_opens_no_way_for_a_third",
    ),
    _python(
        "token: any token is one of ours",
        "onetake/ledger/callbacks.py",
        Quoted(
            "join onetake.callback_token t using (token_sha256)\n    join onetake.submission",
            "cross join (select generation_id, attempt from onetake.callback_token limit 1) t\n"
            "    join onetake.submission",
        ),
        "tests/ledger/test_callbacks.py::test_a_token_never_given_to_this_vendor_stores_nothing",
    ),
    _python(
        "token: of another vendor",
        "onetake/ledger/callbacks.py",
        Quoted(" and s.vendor = c.vendor", ""),
        "tests/ledger/test_callbacks.py::test_a_token_never_given_to_this_vendor_stores_nothing",
    ),
    _python(
        "token: the gateway takes what is unknown",
        "onetake/gateway/app.py",
        Expression("_take", "wake is None", "False"),
        "tests/gateway/test_callbacks.py::test_tokens_and_vendors_that_do_not_exist_look_the_same",
    ),
    _python(
        "ready: the gateway is not while Temporal is away",
        "onetake/gateway/app.py",
        Text("_standing(parts.needed)", "_standing({**parts.needed, **parts.others})"),
        "tests/gateway/test_callbacks.py::test_only_what_a_callback_needs_makes_it_unready",
    ),
    _python(
        "ready: a worker is while it ends",
        "onetake/core/probes.py",
        Expression("Readiness.lacks", "self._asked_to_end()", "False"),
        "tests/core/test_probes.py::test_readiness_goes_from_the_start_to_the_end",
    ),
    _python(
        "signals: none is heard before the event loop",
        "onetake/core/signals.py",
        Text("signal.signal(number, _end)", "signal.getsignal(number)"),
        "tests/system/test_asked_to_end.py::test_before_the_event_loop",
    ),
    _python(
        "signals: a part that starts is finished first",
        "onetake/core/signals.py",
        Text("not running.done() and not stop.finishes_first", "False"),
        "tests/system/test_asked_to_end.py::test_while_temporal_does_not_answer",
    ),
    _python(
        "signals: a part that serves is cut short",
        "onetake/core/signals.py",
        Text("        return self._overdue is not None", "        return False"),
        "tests/system/test_worker_leaves.py::test_the_first_signal_finishes_what_is_under_way",
    ),
    _python(
        "signals: nothing ends a part that does not end",
        "onetake/core/signals.py",
        Text("self._overdue.start()", "self._overdue.is_alive()"),
        "tests/system/test_worker_leaves.py::test_what_outlasts_its_grace_is_named_and_left",
    ),
    _python(
        "serving: Temporal's answer is waited for",
        "onetake/engine/serving.py",
        Text("min(under_way.idle_s, time.monotonic() - asked_s) < FAREWELL_S", "True"),
        "tests/system/test_worker_leaves.py::test_with_nothing_under_way_temporals_answer_is_not_waited_for",
    ),
    _python(
        "serving: what is under way is cut short",
        "onetake/engine/under_way.py",
        Text("0.0 if self.names else time.monotonic() - self._changed_s", "time.monotonic() - self._changed_s"),
        "tests/system/test_worker_leaves.py::test_what_is_under_way_is_waited_for",
    ),
    _python(
        "database: a server that has gone is waited for",
        "onetake/ledger/database.py",
        Text("asyncio.timeout(PARTING_S)", "asyncio.timeout(None)"),
        "tests/ledger/test_parting.py::test_connections_that_do_not_close_are_cut_off_together",
    ),
    _python(
        "keys: one that was revoked ends the generation although it is replaced",
        "providers/driver.py",
        Expression("Driver._is_replaced", "self._api_key.again() == refused", "True"),
        f"{_KEYS}::test_a_submission_that_a_revoked_key_is_refused_for_is_not_sent_and_the_next_uses_the_new_key",
    ),
    _python(
        "keys: one that is refused and stays is sent again",
        "providers/driver.py",
        Expression("Driver._is_replaced", "self._api_key.again() == refused", "False"),
        f"{_KEYS}::test_a_key_that_is_refused_and_stays_is_the_operators",
    ),
    _python(
        "keys: one that cannot be a header is used",
        "onetake/core/secrets.py",
        Expression("Secrets._reread", "self._fits[field](text)", "True"),
        f"{_KEYS}::test_a_key_that_cannot_be_a_header_is_not_used",
    ),
    _python(
        "keys: a file is read once",
        "onetake/core/secrets.py",
        Expression("Secrets.texts", "self._now() - self._read_at >= self._every_s", "False"),
        "tests/core/test_secret_files.py::test_a_file_is_read_again_after_a_minute_and_not_before",
    ),
    _python(
        "keys: a refusal of a key that the vendor knows is sent again",
        "providers/vendor.py",
        Text('row.outcome == "rejected" and answer.status == UNAUTHORIZED', 'row.outcome == "rejected"'),
        f"{_KEYS}::test_what_does_not_say_that_the_key_is_unknown_is_never_sent_again",
    ),
    _python(
        "keys: a page of a proxy says that the key is unknown",
        "providers/vendor.py",
        Text(
            "replace(outcome_of(table, response, Answer(status), own_id), key_unknown=False)",
            "outcome_of(table, response, Answer(status), own_id)",
        ),
        f"{_KEYS}::test_what_does_not_say_that_the_key_is_unknown_is_never_sent_again",
    ),
    _python(
        "keys: a slow reader puts back what it read before",
        "onetake/core/secrets.py",
        Text("with self._writing:\n            self._read_at", "if self._files:\n            self._read_at"),
        "tests/core/test_secret_files.py::test_a_slow_reader_does_not_put_back_what_was_replaced",
    ),
    _python(
        "keys: a file that is away empties the key of Temporal Cloud",
        "onetake/engine/cloud.py",
        Text("if key := api_key():", "if (key := api_key()) is not None:"),
        "tests/engine/test_cloud_key.py::test_a_file_that_is_away_leaves_the_key_in_force",
    ),
    _python(
        "gateway: whoever asks who it is takes all connections",
        "onetake/gateway/whoami.py",
        Text("asyncio.timeout(ANSWER_S), turn:", "asyncio.timeout(ANSWER_S):"),
        "tests/cli/test_doctor.py::test_whoever_asks_a_gateway_takes_one_connection_at_most",
    ),
    _sql(
        "prune: waits for a callback that is being stored",
        "for update of t skip locked",
        "for update of t",
        "tests/ledger/test_pruning.py::test_a_token_whose_callback_is_being_stored_is_left_to_the_next_time",
    ),
    _python(
        "authoritative read: a callback's claim is believed",
        "activities/resolve.py",
        Expression("Resolve._known", "status.reading.state != 'missing'", "True"),
        f"{_ACTIVITIES}::test_a_job_that_a_callback_names_is_asked_for_before_it_is_believed",
    ),
    _python(
        "pace: a callback is believed without our own read",
        "onetake/ledger/pacing.py",
        Text(
            "select max(announced_at) from onetake.job_end where vendor = $1 and announced_at is not null",
            "select max(received_at) from onetake.callback_inbox where vendor = $1",
        ),
        f"{_PACING}::test_a_callback_that_no_read_has_confirmed_proves_nothing",
    ),
    _python(
        "pace: an unannounced end does not end the trust",
        "onetake/ledger/pacing.py",
        Text(
            "where vendor = $1 and announced_at is null and callback_asked),\n        '-infinity'",
            "where vendor = $1 and announced_at is null and not callback_asked),\n        '-infinity'",
        ),
        f"{_PACING}::test_callbacks_arrive_from_an_announced_end_until_an_unannounced_one",
    ),
    _sql(
        "pace: every end counts as announced",
        "case when callback.came then seen.at end",
        "case when callback.asked then seen.at end",
        f"{_PACING}::test_callbacks_arrive_from_an_announced_end_until_an_unannounced_one",
    ),
    _sql(
        "pace: no address was given, and the callback is missed",
        "select count(*) > 0 as asked",
        "select true as asked",
        f"{_PACING}::test_a_job_whose_vendor_was_given_no_address_says_nothing_of_callbacks",
    ),
    _python(
        "pace: a token is kept of an address that nobody was given",
        "activities/submit.py",
        Expression("Submit._sent", "hashlib.sha256(token.encode()).digest() if callback_url else None", "bytes(32)"),
        f"{_ACTIVITIES}::test_a_token_is_kept_only_of_an_address_that_the_vendor_was_given",
    ),
    _python(
        "pace: a callback that is a little late counts as lost",
        "onetake/ledger/callbacks.py",
        Text("where e.announced_at is null order by", "where false order by"),
        f"{_PACING}::test_a_callback_that_comes_after_the_end_was_seen_announces_it",
    ),
    _python(
        "pace: callbacks are expected that nobody asks for",
        "onetake/ledger/pacing.py",
        Text("expected = self._callbacks_asked and plan.callbacks", "expected = True"),
        f"{_PACING}::test_no_callback_is_expected_where_none_is_asked_for",
    ),
    _sql(
        "intent: sent although a cancellation is noted",
        "if v_phase <> 'done' and not v_canceled then",
        "if v_phase <> 'done' then",
        f"{_ACTIVITIES}::test_nothing_is_sent_once_a_cancellation_is_noted",
    ),
    _python(
        "woken: a callback that came too early ends the wait",
        "activities/persist.py",
        Expression("Persist._asked", "status.reading.state in {'open', 'missing'}", "False"),
        f"{_PERSIST}::test_a_callback_that_came_too_early_is_an_open_job_with_the_time_of_its_next_read",
    ),
    _python(
        "woken: the success that was seen is forgotten",
        "activities/persist.py",
        Expression("Persist._status", "order.woken and tries.success is None", "order.woken"),
        f"{_PERSIST}::test_a_success_that_was_seen_counts_in_the_attempts_that_follow",
    ),
    _python(
        "woken: the end is not noted",
        "activities/persist.py",
        Statement("Persist._asked", "await note_end(self._ends, order, status.reading, status.least_age_s)"),
        f"{_PERSIST}::test_a_woken_step_answers_that_the_job_has_failed",
    ),
    _python(
        "cadence: reads are a safety net though callbacks do not arrive",
        "activities/cadence.py",
        Expression("ReadTimes.first_s", "plan.callbacks and pace.callbacks_arrive", "True"),
        f"{_ACTIVITIES}::test_an_accepted_job_is_read_first_when_the_vendor_documents_it",
    ),
    _python(
        "authoritative read: the first 404 is believed",
        "activities/wait.py",
        Expression("ReadStatus._missing", "lasted and before.reads + 1 >= MISSING_PROVEN_READS", "True"),
        f"{_ACTIVITIES}::test_one_404_is_not_believed",
    ),
    _python(
        "authoritative read: an answer about another job",
        "providers/driver.py",
        Expression("Driver.read_status", "status.vendor_task_id not in {None, vendor_task_id}", "False"),
        "tests/providers/test_driver_reading.py::test_an_answer_about_another_task_is_no_answer",
    ),
    _python(
        "second look: the first list is believed",
        "activities/resolve.py",
        Expression("Resolve._by_list", "_seen_before(order.plan, memory, found[0], started)", "True"),
        f"{_ACTIVITIES}::test_a_listed_job_is_only_taken_when_a_later_look_sees_no_other",
    ),
    _python(
        "second look: the first balance is believed",
        "activities/resolve.py",
        Expression("Resolve._by_account", "not _seen_before(order.plan, memory, 'unmoved', started)", "False"),
        f"{_ACTIVITIES}::test_a_balance_proves_something_when_it_stood_still_twice_after_the_end_of_the_post",
    ),
    _python(
        "balance: believed while the POST may still come",
        "activities/resolve.py",
        Expression("Resolve._by_account", "not before.post_is_over", "False"),
        f"{_ACTIVITIES}::test_a_balance_proves_something_when_it_stood_still_twice_after_the_end_of_the_post",
    ),
    _sql(
        "balance: believed while others may move it",
        "select not exists (\n        select from onetake.submission s join",
        "select true or not exists (\n        select from onetake.submission s join",
        f"{_SUBMISSIONS}::test_another_submission_that_is_begun_meanwhile_breaks_the_bracket",
    ),
    _python(
        "list: a job of somebody else's",
        "onetake/ledger/submissions.py",
        Quoted("o.vendor_task_id = n.task_id", "false"),
        f"{_SUBMISSIONS}::test_ids_of_other_submissions_are_left_out",
    ),
    _python(
        "clamp: the last read comes after the deadline",
        "activities/wait.py",
        Expression("_clamped", "min(delay_s, latest_s)", "delay_s"),
        f"{_ACTIVITIES}::test_the_last_read_comes_before_the_deadline",
    ),
    _python(
        "odd word: the first sight of its clip is believed",
        "activities/wait.py",
        Expression("ReadStatus._shown", "before.shown_since_s is not None and waited_s - since_s >= proven_s", "True"),
        f"{_ACTIVITIES}::test_a_clip_under_an_odd_word_is_believed_when_it_is_seen_again",
    ),
    _python(
        "odd word: a word for failure with a link is a success",
        "providers/readings.py",
        Text('case "failed" | "canceled" if certain:', 'case "failed" | "canceled" if False:'),
        "tests/providers/test_status_words.py::test_a_word_for_failure_is_never_a_success",
    ),
    _python(
        "odd word: a synonym ends a job that the answer does not name",
        "providers/readings.py",
        Expression("_judged", "documented or task_id_of(job.named) is not None", "True"),
        "tests/providers/test_status_words.py::test_an_error_about_the_answer_is_not_taken_for_one_of_the_job",
    ),
    _python(
        "status alone: what names a task is turned away",
        "providers/vendor.py",
        Expression("outcome_of", "_names_a_task(response.content, own_id)", "False"),
        "tests/providers/test_status_alone.py::test_a_refusal_that_names_a_task_stays_in_doubt_in_whatever_form_it_comes",
    ),
    _python(
        "status alone: every page is turned away",
        "providers/vendor.py",
        Expression("not_understood", "status in STATUS_DECIDES", "True"),
        "tests/providers/test_status_alone.py::test_any_other_status_without_json_stays_in_doubt",
        "tests/providers/test_submit_outcomes.py::test_an_answer_to_a_submission_has_one_outcome",
    ),
    _python(
        "jitter: a read comes before the documented interval",
        "activities/cadence.py",
        Expression("jitter", "secrets.randbelow(1001)", "-1000"),
        "tests/activities/test_cadence.py::test_reads_are_one_to_two_minutes_apart_while_callbacks_arrive",
    ),
    _python(
        "pause: a vendor's short Retry-After undercuts its documented interval",
        "activities/wait.py",
        Expression(
            "ReadStatus._after",
            "max(with_jitter(error.after_s), order.plan.cadence.interval_s)",
            "with_jitter(error.after_s)",
        ),
        f"{_ACTIVITIES}::test_a_pause_that_a_vendor_asks_for_is_never_shorter_than_its_documented_interval",
    ),
    _sql(
        "other job: whoever has a token takes an end away",
        "coalesce(bool_or(o.state in ('sending', 'ambiguous'))",
        "coalesce(bool_or(true)",
        f"{_CLAIMS}::test_whoever_knows_a_token_cannot_take_the_end_of_a_job_away",
    ),
    _sql(
        "other job: an id that tokens contradict is accepted",
        "if onetake.is_anothers(new.vendor, new.vendor_task_id, new.generation_id, new.attempt) then",
        "if false then",
        f"{_CLAIMS}::test_an_id_that_contradicts_what_our_own_token_named_is_not_accepted",
    ),
    _sql(
        "other job: one that only another token named is accepted",
        "exists (select from onetake.callback_inbox i where i.vendor = p_vendor and i.claimed_task_id = p_task_id))",
        "false)",
        f"{_CLAIMS}::test_an_id_that_only_another_token_named_is_not_accepted",
    ),
    _sql(
        "other job: its age is not looked at",
        "and (p_age > clock_timestamp()",
        "and (false and p_age > clock_timestamp()",
        f"{_CLAIMS}::test_the_end_of_a_job_that_was_made_before_our_post_is_not_ours",
    ),
    _sql(
        "failover: a job is too old for the moment at which its run told of it",
        "and not s.was_lost",
        "",
        f"{_EPOCHS}::test_a_job_is_not_too_old_for_the_moment_at_which_its_run_told_of_it",
    ),
    _python(
        "failover: a database is told of an outcome before it is recorded",
        "workflows/generation.py",
        Expression(
            "Generation._recorded", "'not_sent' if learned.state == 'not_sent' else 'ambiguous'", "learned.state"
        ),
        "tests/workflows/test_lost_records.py::test_an_outcome_whose_row_is_lost_is_told_as_in_doubt_and_then_recorded",
    ),
    *(
        _python(f"failover: {name}", file, Expression(function, old, new), f"{_TOLD}::{test}")
        for name, file, function, old, new, test in (
            (
                "the lost settlement of a closed run is not looked for",
                "onetake/operations/reconciler.py",
                "Reconciler._end",
                "run.state == 'closed'",
                "False",
                "test_a_closed_run_whose_settlement_is_lost_ends_as_it_was_answered",
            ),
            (
                "a cost of nothing becomes the price",
                "onetake/operations/failover.py",
                "_settlement",
                "result.cost.settled_micros if resolution == 'post' else None",
                "result.cost.settled_micros or None",
                "test_a_reported_cost_of_nothing_is_written_again_as_nothing",
            ),
        )
    ),
    _sql(
        "failover: an end is undone by a late attempt",
        "elsif p_may_be_sent and p_epoch <> onetake.epoch() and v_phase <> 'done' then",
        "elsif p_may_be_sent and p_epoch <> onetake.epoch() then",
        f"{_EPOCHS}::test_what_has_ended_is_not_put_in_doubt_again",
    ),
    _sql(
        "failover: an acceptance is known without its id",
        "p_sent in ('rejected', 'not_sent') or p_sent = 'accepted' and v_task_id is not null",
        "p_sent in ('rejected', 'not_sent', 'accepted')",
        f"{_EPOCHS}::test_an_acceptance_that_is_told_without_its_id_is_in_doubt_until_it_is_recorded",
    ),
    _python(
        "failover: jobs are looked for from the moment at which the run told",
        "onetake/ledger/submissions.py",
        Expression(
            "PostgresSubmissions.sent",
            "min(row['created_at'], made_at(generation_id)) if row['was_lost'] else row['sent_at']",
            "row['sent_at']",
        ),
        f"{_EPOCHS}::test_a_lost_post_is_looked_for_since_its_generation_was_made",
    ),
    _python(
        "other job: its end is taken for ours",
        "activities/wait.py",
        Expression(
            "note_end",
            "not await ends.note_end(order.generation_id, order.attempt, failed=failed, shows_charge=charged,"
            " least_age_s=least_age_s)",
            "await ends.note_end(order.generation_id, order.attempt, failed=failed, shows_charge=charged,"
            " least_age_s=least_age_s) is None",
        ),
        f"{_ACTIVITIES}::test_a_job_that_was_made_before_our_post_is_nobodys_answer",
    ),
    _python(
        "other job: given up for one that the vendor does not know",
        "activities/resolve.py",
        Expression("Resolve._known", "status.reading.state != 'missing'", "True"),
        f"{_ACTIVITIES}::test_an_accepted_job_is_given_up_for_the_one_that_our_token_named_when_the_vendor_knows_it",
    ),
    _sql(
        "circuit: a refusal of one model is one of the key",
        "case when new.error ->> 'about' = 'model' then onetake.model_of(new.generation_id) else '' end",
        "''",
        f"{_CIRCUITS}::test_three_refusals_of_one_model_pause_that_model_and_no_other",
    ),
    _sql(
        "circuit: the probe is for everybody",
        "if v_circuit.probe_after > clock_timestamp() and v_circuit.probe_of is distinct from p_generation_id then",
        "if false then",
        f"{_CIRCUITS}::test_one_of_many_takes_the_probe_and_may_come_back_for_it",
    ),
    _sql(
        "balance: a refusal whose charge is given back counts as over",
        "not in ('content_rejected', 'vendor_failed')",
        "not in ('nothing')",
        f"{_SUBMISSIONS}::test_a_refusal_whose_charge_is_given_back_may_still_move_the_balance",
    ),
    _python(
        "clients: submissions wait for reads",
        "providers/driver.py",
        Expression("Driver._submitted", "self._clients.submits", "self._clients.reads"),
        "tests/providers/test_black_holes.py::test_reads_that_hang_keep_no_submission_of_the_same_vendor",
    ),
    _python(
        "clamp: a vendor's Retry-After has no limit",
        "providers/driver.py",
        Expression("retry_after_s", "min(seconds, LONGEST_RETRY_AFTER_S)", "seconds"),
        "tests/providers/test_hostile_answers.py::test_any_retry_after_is_a_wait_of_at_most_five_minutes_or_none",
    ),
]

# -- Money, ends and keys ----------------------------------------------------------------------------------------------

_LEDGER = [
    Mutant(
        "unique key: one hold of an attempt",
        _SCHEMA,
        (
            Text("primary key (generation_id, attempt),\n    check ((state = 'posted')", "check ((state = 'posted')"),
            Text("foreign key (generation_id, attempt) references onetake.hold,\n    unique (vendor", "unique (vendor"),
        ),
        (f"{_MONEY}::test_the_table_itself_refuses_a_second_hold",),
    ),
    _sql(
        "plan: the one that comes later is pinned",
        "when g.plan is null then p_plan",
        "when true then p_plan",
        f"{_GENERATIONS}::test_the_first_plan_is_kept_whoever_comes_later",
    ),
    _sql(
        "plan: a run that holds money gets another",
        "when exists (select from onetake.hold h where h.generation_id = p_id) then g.plan",
        "when false then g.plan",
        f"{_GENERATIONS}::test_a_plan_that_money_was_reserved_for_stays_as_it_is",
    ),
    _python(
        "plan: a worker's own price decides",
        "activities/validate.py",
        Expression("Validate._admitted", "stored is None", "True"),
        "tests/activities/test_validate.py::test_the_most_that_it_may_cost_is_held_against_the_price_that_is_stored",
    ),
    _sql(
        "spend: a hot row is waited for",
        "order by s.slot limit 1 for no key update skip locked",
        "order by s.slot limit 1 for no key update",
        f"{_SPEND}::test_nobody_waits_for_a_row_of_the_rollup",
    ),
    _sql(
        "spend: a settlement counts its end twice",
        "elsif exists (select from onetake.hold h where h.generation_id = new.id and h.state = 'held') then",
        "elsif false then",
        f"{_SPEND}::test_each_way_to_end_is_counted_where_its_money_went",
    ),
    _sql(
        "spend: a correction leaves the failure counted",
        "-1, -onetake.delivered_ms(old.assets)",
        "0, -onetake.delivered_ms(old.assets)",
        f"{_SPEND}::test_a_late_clip_moves_its_generation_and_its_money_on_the_day_of_the_correction",
    ),
    _python(
        "spend: the rollup is not compared with the journal",
        "onetake/ledger/invariants.py",
        Quoted("where coalesce(journal.counted, array", "where false and coalesce(journal.counted, array"),
        "tests/ledger/test_invariants.py::test_a_book_doctored_by_hand_is_noticed",
    ),
    _sql(
        "spend: a hot row is waited for by what is not a hold",
        "order by r.slot limit 1 for no key update skip locked",
        "order by r.slot limit 1 for no key update",
        f"{_SPEND}::test_nobody_waits_for_a_row_of_the_rollup",
    ),
    _sql(
        "spend: a zone is set while the first end is booked",
        "perform pg_advisory_xact_lock_shared(onetake.zone_lock(p.tenant));",
        "",
        f"{_SPEND}::test_a_zone_waits_for_the_first_booking_under_way",
    ),
    _sql(
        "unique key: one generation of an idempotency key",
        "create unique index generation_idempotency_key",
        "create index generation_idempotency_key",
        f"{_GENERATIONS}::test_a_hundred_clients_with_one_key_make_one_row",
    ),
    _sql(
        "unique key: one correction of a generation",
        "generation_id text primary key references onetake.generation,\n    at ",
        "generation_id text references onetake.generation,\n    at ",
        f"{_RECOVERIES}::test_the_table_itself_keeps_one_correction_as_it_was_written",
    ),
    _sql(
        "hold: in a batch, of what has ended, is unknown or is locked",
        "where i.generation_id = any (v_open) and not exists (",
        "where not exists (",
        f"{_LANES}::test_a_batch_that_skips_what_is_locked_says_so_and_holds_the_rest",
    ),
    _sql(
        "hold: of what ends meanwhile",
        "where g.id = p_generation_id and g.phase <> 'done' for no key update;",
        "where g.id = p_generation_id;",
        "tests/ledger/test_races.py::test_a_reservation_waits_for_an_end_under_way",
    ),
    _sql(
        "hold: its generation may be deleted",
        "create trigger generation_is_kept before delete or truncate on onetake.generation\n"
        "    for each statement execute function onetake.forbid();",
        "",
        f"{_MONEY}::test_what_money_belongs_to_cannot_be_deleted",
    ),
    _sql(
        "hold: it may be deleted",
        "create trigger hold_is_kept before delete or truncate on onetake.hold\n"
        "    for each statement execute function onetake.forbid();",
        "",
        f"{_MONEY}::test_what_money_belongs_to_cannot_be_deleted",
    ),
    _sql(
        "journal: balances in another order than the hold's windows",
        "select array_agg(locked.room order by locked.lock_rank, locked.id),",
        "select array_agg(locked.room order by locked.room),",
        f"{_MONEY}::test_an_entry_says_what_each_window_has_left_in_the_order_of_its_holds_windows",
    ),
    _sql(
        "budget: the table lets it be exceeded",
        "check (held_micros + spent_micros <= limit_micros + overrun_micros)",
        "check (true)",
        f"{_MONEY}::test_the_table_itself_refuses_to_go_over_a_limit",
    ),
    _sql(
        "budget: reservations in a batch are not refused",
        "elsif v_room[v_pair_slot[v_pair]] < p_amounts[v_item] then",
        "elsif false then",
        f"{_MONEY}::test_a_batch_refuses_what_does_not_fit_and_keeps_the_rest",
    ),
    _sql(
        "threshold: a crossing in a reservation is not recorded",
        "when (new.held_micros + new.spent_micros >= new.next_threshold_micros)",
        "when (new.limit_micros <> old.limit_micros)",
        f"{_THRESHOLDS}::test_each_threshold_is_recorded_when_it_is_crossed_and_only_then",
    ),
    _sql(
        "threshold: taken twice",
        "where t.logged_at is null order by t.reached_at limit p_limit for update skip locked",
        "order by t.reached_at limit p_limit for update skip locked",
        f"{_THRESHOLDS}::test_crossings_are_taken_once",
    ),
    _sql(
        "threshold: a changed limit does not count at once",
        "greatest(0, w.held_micros + w.spent_micros - p_limit),\n        next_threshold_micros = 0",
        "greatest(0, w.held_micros + w.spent_micros - p_limit)",
        f"{_THRESHOLDS}::test_a_changed_limit_and_changed_thresholds_count_at_once",
    ),
    _sql(
        "hot tenant: a batch waits for what is locked",
        "for no key update skip locked)\n        select",
        "for no key update)\n        select",
        f"{_LANES}::test_a_batch_that_skips_what_is_locked_says_so_and_holds_the_rest",
    ),
    _sql(
        "hot tenant: what is locked is admitted",
        "if v_room[v_pair_slot[v_pair]] is null then\n                v_fits := false;",
        "if v_room[v_pair_slot[v_pair]] is null then\n                v_fits := v_fits;",
        f"{_LANES}::test_a_batch_that_skips_what_is_locked_says_so_and_holds_the_rest",
    ),
    _python(
        "hot tenant: its calls go on asking for the lock",
        "onetake/ledger/lanes.py",
        Expression("Lanes.run", "tenant not in self._stuck", "True"),
        f"{_LANES}::test_while_one_call_finds_out_the_others_wait_and_when_it_gets_through_they_go_on",
    ),
    _sql(
        "budget: a locked balance is not looked at again",
        "order by w.lock_rank, w.id for no key update) locked;\n    if v_room < p_amount then",
        "order by w.lock_rank, w.id for no key update) locked;\n    if false then",
        "tests/ledger/test_races.py::test_room_for_237_of_1000_admits_exactly_237[one by one]",
    ),
    _sql(
        "settle guard: released while it may have been sent",
        "when p_resolution in ('none', 'release') and v_sent in ('sending', 'ambiguous') then 'suspend'",
        "",
        f"{_MONEY}::test_nothing_is_released_while_nobody_knows_whether_it_was_sent",
    ),
    _sql(
        "settle guard: released without a word of the accepted job",
        "when p_resolution = 'release' and v_sent = 'accepted' and p_vendor_task_id is null then 'suspend'",
        "",
        f"{_MONEY}::test_after_a_known_outcome_the_callers_word_counts",
    ),
    Mutant(
        "settle once: a second settlement counts as well",
        _SCHEMA,
        (
            Text(
                "if v_generation.phase = 'done' then\n        note := case when v_generation.status",
                "if false then\n        note := case when v_generation.status",
            ),
            Text(
                "if v_hold.state = 'held' then\n            perform",
                "if v_hold.state is not null then\n            perform",
            ),
        ),
        (f"{_MONEY}::test_a_second_settlement_returns_the_first_whatever_it_asks_for",),
    ),
    _sql(
        "suspense: decided twice",
        "elsif v_hold.state = 'suspended' then",
        "elsif true then",
        f"{_MONEY}::test_a_suspense_counts_as_spent_until_it_is_decided_once",
    ),
    _sql(
        "journal: it can be rewritten",
        "create trigger event_is_append_only before update or delete or truncate on onetake.event\n"
        "    for each statement execute function onetake.forbid();",
        "",
        f"{_MONEY}::test_the_journal_cannot_be_changed",
    ),
    _sql(
        "phase guard: a phase moves back",
        "when (new.phase < old.phase or (old.phase = 'done' and new.status <> old.status))",
        "when (old.phase = 'done' and new.status <> old.status)",
        f"{_GENERATIONS}::test_no_statement_can_move_a_phase_back_or_change_an_end",
    ),
    _sql(
        "phase guard: an end changes without its correction",
        "when (new.phase < old.phase or (old.phase = 'done' and new.status <> old.status))",
        "when (new.phase < old.phase)",
        f"{_GENERATIONS}::test_no_statement_can_move_a_phase_back_or_change_an_end",
    ),
    _sql(
        "review: a settlement books any figure",
        "v_review := v_resolution = 'post' and onetake.needs_review(v_generation.plan, v_hold, p_actual);",
        "v_review := false;",
        f"{_REVIEW}::test_a_cost_beyond_the_bound_ends_in_suspense_with_both_figures",
    ),
    _sql(
        "review: a recovery books any figure",
        "v_hold.state = 'suspended' and p_to = 'posted' and onetake.needs_review(v_plan, v_hold, p_actual)",
        "false",
        f"{_REVIEW}::test_a_recovered_failure_with_a_cost_beyond_the_bound_stays_in_suspense",
    ),
    _sql(
        "review: a correction books any figure",
        "case when v_review then v_hold.amount_micros else coalesce(p_actual, v_hold.amount_micros) end",
        "coalesce(p_actual, v_hold.amount_micros)",
        f"{_REVIEW}::test_a_clip_after_a_persons_release_is_charged_as_held_with_both_figures",
    ),
    _sql(
        "review: a later figure books it",
        "        or exists (select from onetake.event e where e.generation_id = p_hold.generation_id\n"
        "                   and e.attempt = p_hold.attempt and e.kind = 'review')",
        "",
        f"{_REVIEW}::test_once_an_amount_is_in_review_no_later_figure_books_it",
    ),
    _python(
        "start: a refusal after a lost answer is called nothing started",
        "onetake/engine/starting.py",
        Expression("start_run", "not is_unknown", "True"),
        f"{_STARTING}::test_a_refusal_after_a_lost_answer_is_not_called_nothing_started",
    ),
    _python(
        "start: what the SDK tried again is believed",
        "onetake/engine/starting.py",
        Expression("start_run", "status != REPEATED_BY_THE_SDK", "True"),
        f"{_STARTING}::test_what_the_sdk_tried_again_is_only_certain_when_no_run_is_there",
    ),
    _python(
        "deadline: over before the first read",
        "providers/admission.py",
        Expression("RouteAdmission._too_early", "given is not None and given < least", "False"),
        "tests/providers/test_admission.py::test_a_deadline_before_the_first_read_and_a_margin_is_refused_with_the_least_one",
    ),
    _python(
        "sizes: a request that no run can be started with is accepted",
        "providers/admission.py",
        Expression("_too_large", "size > MOST_START_BYTES", "False"),
        "tests/providers/test_admission.py::test_a_request_that_no_run_can_be_started_with_is_refused_whole",
    ),
    _python(
        "pass: a run that the list lacks is never looked at",
        "onetake/operations/runs.py",
        Expression("Runs.to_look_at", "row.workflow_id not in listed", "False"),
        f"{_PASSES}::test_a_run_that_the_list_lacks_is_described_before_anything_is_ended",
    ),
    _python(
        "pass: a noted cancellation is left undelivered",
        "onetake/operations/reconciler.py",
        Expression("Reconciler._open", "row.cancel_requested and not run.canceling", "False"),
        f"{_PASSES}::test_a_noted_cancellation_is_delivered_once",
    ),
    _python(
        "pass: one row's trouble ends it",
        "onetake/operations/reconciler.py",
        Expression("_of_its_own", "EngineAway", "OnetakeError"),
        f"{_PASSES}::test_a_run_that_is_hard_to_read_costs_its_own_row_only",
    ),
    _python(
        "pass: what may yet be started is given up",
        "onetake/engine/starting.py",
        Expression("start_run", "status == 'INVALID_ARGUMENT'", "True"),
        f"{_PASSES}::test_a_start_that_may_yet_be_taken_is_not_given_up",
    ),
    _python(
        "schedule: a run that needs another key goes on",
        "onetake/engine/schedule.py",
        Expression("_end_what_needs_another_key", "keys - {key_id(key) for key in settings.codec_keys[:1]}", "False"),
        "tests/engine/test_schedule.py::test_a_key_that_is_rotated_and_dropped_stops_no_pass",
    ),
    _python(
        "watch: a run that begins again is not followed",
        "onetake/client/client.py",
        Expression("Onetake._changes", "await goes_on(handle)", "False"),
        "tests/client/test_following.py::test_a_run_that_begins_again_is_waited_for",
    ),
    _python(
        "review: the reconciler looks for a job that was answered for",
        "onetake/operations/reconciler.py",
        Expression("_for_people", "row.reported_micros is not None", "False"),
        "tests/operations/test_review.py::test_an_amount_in_review_is_told_and_nothing_is_started_for_it",
    ),
    _python(
        "contract: decides jobs that may have made a clip",
        "onetake/operations/failed_jobs.py",
        Expression("_doubt", "not row.job_failed or row.task_id is None", "False"),
        "tests/operations/test_failed_jobs.py::test_only_jobs_that_failed_under_the_contract_are_decided",
    ),
    _python(
        "contract: released although the vendor shows a charge",
        "onetake/operations/failed_jobs.py",
        Expression("_doubt", "to == 'released' and row.shows_charge", "False"),
        "tests/operations/test_failed_jobs.py::test_what_speaks_against_a_release_is_left_to_people",
    ),
    _python(
        "failed job: kept of every end",
        "activities/wait.py",
        Expression("note_end", "reading.state == 'failed'", "True"),
        f"{_ACTIVITIES}::test_what_the_vendor_says_of_a_jobs_end_is_kept",
    ),
    _sql(
        "failed job: a success does not take it back",
        "set failed = excluded.failed, shows_charge = excluded.shows_charge\n    where",
        "set failed = e.failed or excluded.failed, shows_charge = excluded.shows_charge\n    where",
        "tests/operations/test_failed_jobs.py::test_a_success_that_is_read_later_takes_the_failure_back",
    ),
    _sql(
        "correction: of a hold that was released",
        "and e.kind = 'suspense_resolved') then 'not_paid'",
        "and e.kind = 'hold') then 'not_paid'",
        f"{_RECOVERIES}::test_a_clip_whose_hold_was_released_is_nobodys_to_take",
    ),
    _sql(
        "expiry: of what has started",
        "where g.id = p_generation_id and g.status = 'queued' and g.origin_run_id is null\n"
        "      and not exists (select from onetake.hold h where h.generation_id = g.id);",
        "where g.id = p_generation_id and g.phase <> 'done';",
        f"{_RECOVERIES}::test_only_a_row_that_never_started_expires",
    ),
    _python(
        "replay: a second render without consent",
        "onetake/operations/replaying.py",
        Expression("Replays._priced", "record.cost.suspense_micros and not accept_cost", "False"),
        "tests/system/test_replays.py::test_rendering_again_what_may_be_paid_needs_consent",
    ),
    _python(
        "defaults: who names nothing gets the vendor's, and pays it",
        "providers/defaults.py",
        Expression("choose", "profile == 'vendor' and documented in among", "documented in among"),
        "tests/providers/test_defaults.py::test_who_names_nothing_gets_the_lowest_and_shortest_and_no_sound_where_sound_has_a_price",
    ),
    _python(
        "defaults: the sound that a caller named a file for is turned off",
        "providers/defaults.py",
        Expression(
            "legal",
            "is_priced and request.sound is None and request.audio_url is None",
            "is_priced and request.sound is None",
        ),
        "tests/providers/test_defaults.py::test_who_names_a_sound_file_keeps_the_sound",
    ),
]

# -- Prices ------------------------------------------------------------------------------------------------------------

_QUOTES = "tests/ledger/test_quotes.py"
_TARIFF = "tests/providers/test_tariff.py"
_PRICES = [
    _python(
        "price: one of the future counts",
        "providers/pricing.py",
        Expression("in_force", "entry.valid_from is None or entry.valid_from <= day", "True"),
        f"{_TARIFF}::test_the_latest_price_that_is_not_in_the_future_counts",
    ),
    _python(
        "price: the day is not the ledger's",
        "providers/admission.py",
        Expression("_day_of", "terms.at if terms else datetime.now(UTC)", "datetime.now(UTC)"),
        f"{_TARIFF}::test_the_day_is_the_ledgers_and_utc",
    ),
    _python(
        "price: the version does not say which day's it was",
        "providers/tariff.py",
        Expression("Tariff._priced", "valid_from or UNDATED", "UNDATED"),
        f"{_TARIFF}::test_each_price_counts_from_its_day_on_and_says_which_it_was",
    ),
    _python(
        "price: two from one day on",
        "providers/tariff.py",
        Statement("_problems", "yield from _given_twice(prices)"),
        f"{_TARIFF}::test_a_day_that_is_given_twice_or_not_at_all_is_refused",
    ),
    _python(
        "quote: an expired one is used",
        "providers/admission.py",
        Expression("RouteAdmission._quoted", "terms.at >= quote.expires_at", "False"),
        f"{_QUOTES}::test_a_quote_holds_its_price_until_it_expires_and_not_a_moment_longer",
    ),
    _python(
        "quote: the price of now is taken",
        "providers/admission.py",
        Expression(
            "RouteAdmission.plan",
            "quoted.price if quoted else self.tariff.price(request.route, choice, day).price",
            "self.tariff.price(request.route, choice, day).price",
        ),
        f"{_QUOTES}::test_a_quote_holds_its_price_until_it_expires_and_not_a_moment_longer",
    ),
    _python(
        "quote: another request uses it",
        "providers/admission.py",
        Expression("RouteAdmission._quoted", "not quote.fits", "False"),
        f"{_QUOTES}::test_a_quote_is_for_one_request_of_one_tenant",
    ),
    _python(
        "quote: another tenant uses it",
        "onetake/ledger/terms.py",
        Quoted("q.id = $1 and q.tenant = $2", "q.id = $1 and $2::text <> ''"),
        f"{_QUOTES}::test_a_quote_is_for_one_request_of_one_tenant",
    ),
    _python(
        "quote: the choices of now are rendered at the quoted price",
        "providers/admission.py",
        Expression("RouteAdmission.plan", "as_quoted(request, quoted) if quoted else request", "request"),
        f"{_QUOTES}::test_a_quote_pins_the_choices_that_the_request_left_open",
    ),
    _sql(
        "expiry: of what is being reserved",
        "perform from onetake.generation g where g.id = p_generation_id for no key update;\n"
        "    update onetake.generation g\n    set status = 'failed'",
        "update onetake.generation g\n    set status = 'failed'",
        f"{_RECOVERIES}::test_a_row_does_not_expire_under_a_reservation",
    ),
    _sql(
        "quote: it may be changed",
        "before update on onetake.quote for each row",
        "before update on onetake.quote for each statement when (false)",
        f"{_QUOTES}::test_quotes_never_change_and_are_forgotten_a_day_after_they_expired",
    ),
]

# -- Bytes and addresses -----------------------------------------------------------------------------------------------

_BYTES = [
    _python(
        "sha: another object is taken for the clip",
        "activities/persist.py",
        Expression("Persist._kept", "kept.sha256 == wanted", "True"),
        f"{_PERSIST}::test_what_an_earlier_attempt_stored_is_not_taken_for_something_else",
    ),
    _python(
        "sha: what the store holds is not compared with what it was sent",
        "activities/persist.py",
        Expression("Persist._put", "kept.sha256 != sent.sha256", "False"),
        f"{_PERSIST}::test_what_the_store_holds_is_compared_with_what_it_was_sent",
    ),
    _python(
        "copies: all have one key",
        "activities/persist.py",
        Expression("_new_key", "secrets.token_hex(KEY_BYTES)", "'0' * 16"),
        f"{_PERSIST}::test_of_two_attempts_the_first_manifest_stands_and_both_answer_it",
    ),
    _python(
        "manifest: the second writer answers its own",
        "activities/persist.py",
        Expression("Persist._publish", "held == mine", "True"),
        f"{_PERSIST}::test_of_two_attempts_the_first_manifest_stands_and_both_answer_it",
    ),
    _python(
        "manifest: what it names is not looked for",
        "activities/persist.py",
        Expression("Persist._published", "found is None or found.sha256 != asset.sha256", "False"),
        f"{_PERSIST}::test_a_manifest_that_names_no_stored_clip_is_never_taken_for_one",
    ),
    _python(
        "manifest: an attempt that is out of time publishes",
        "activities/persist.py",
        Statement("Persist.persist", "_require_time(begun)"),
        f"{_PERSIST}::test_an_attempt_that_is_out_of_time_publishes_nothing",
    ),
    _python(
        "sought: given up after some tries, whatever the clock says",
        "activities/persist.py",
        Expression("Persist._later", "lasted_s >= most_s", "True"),
        f"{_AGAIN}::test_what_a_vendor_withholds_is_sought_with_fresh_links_for_hours",
    ),
    _python(
        "sought: given up by the clock, however few the tries",
        "activities/persist.py",
        Expression("Persist._later", "trouble.times >= LEAST_TRIES", "True"),
        f"{_AGAIN}::test_our_own_absence_gives_nothing_up",
    ),
    _python(
        "reader: a time-out is a verdict",
        "onetake/media/reader.py",
        Expression(
            "ClipProcess._ask",
            "TryLater('asset_unverified', f'Reading it took longer than {limit_s:g} s.')",
            "Failed('asset_not_video', f'Reading it took longer than {limit_s:g} s.')",
        ),
        "tests/media/reader/test_child.py::test_a_child_that_hangs_is_killed_and_replaced",
    ),
    _python(
        "reader: its death is a verdict",
        "onetake/media/reader.py",
        Expression(
            "ClipProcess._ask",
            "TryLater('asset_unverified', 'The reader died.')",
            "Failed('asset_not_video', 'The reader died.')",
        ),
        "tests/media/reader/test_child.py::test_a_child_that_cannot_read_here_says_nothing_of_the_clip",
    ),
    _python(
        "reader: what could not be read is fetched again and not kept",
        "activities/persist.py",
        Statement("Persist._facts", "remember(memory, number, copy.model_copy(update={'unread': copy.unread + 1}))"),
        f"{_AGAIN}::test_a_copy_that_no_reader_survives_is_replaced_by_another",
    ),
    Mutant(
        "replay: what a canceled generation keeps unread is not looked for",
        "onetake/ledger/recoveries.py",
        (Quoted("g.status = 'canceled' and coalesce(", "false and coalesce("),),
        (f"{_RECOVERIES}::test_the_paid_clip_of_a_canceled_generation_is_looked_for_in_the_bucket",),
    ),
    *(
        _python(
            f"sweep: {name}",
            "onetake/operations/sweeping.py",
            Expression(f"Sweeper.{function}", old, new),
            f"{_SWEEPING}::{test}",
        )
        for name, function, old, new, test in (
            (
                "what is young goes, too",
                "_is_old",
                "datetime.now(UTC) - found.at >= self._older_than",
                "True",
                "test_a_copy_that_nobody_names_goes_after_a_day_and_nothing_else",
            ),
            (
                "what is open is swept",
                "_rubbish",
                "not owner.has_ended",
                "False",
                "test_what_may_still_be_published_or_could_not_be_read_is_kept",
            ),
            (
                "what could not be read is swept",
                "_rubbish",
                "owner.error_code == 'asset_unverified'",
                "False",
                "test_what_may_still_be_published_or_could_not_be_read_is_kept",
            ),
            (
                "what could not be read is swept when a cancellation named the end",
                "_named_by_manifest",
                "unread is None",
                "True",
                "test_what_could_not_be_read_is_kept_although_a_cancellation_named_the_end",
            ),
            (
                "what a recovery may publish is swept",
                "_rubbish",
                "await self._is_running(recovery_id_of(tenant, generation_id))",
                "False",
                "test_what_may_still_be_published_or_could_not_be_read_is_kept",
            ),
            (
                "what a manifest names is swept",
                "_rubbish",
                "each.key not in named",
                "True",
                "test_what_a_manifest_names_is_kept_although_its_generation_does_not_name_it",
            ),
            (
                "what a generation names is swept",
                "_rubbish",
                "each.key not in owner.keys",
                "True",
                "test_what_a_generation_names_is_kept_whatever_the_manifest_says",
            ),
        )
    ),
    _python(
        "submit: what was learned is not told while the ledger is away",
        "activities/submit.py",
        Expression("Submit._record", "submission.state not in DEFINITE", "True"),
        f"{_ACTIVITIES}::test_what_was_learned_is_the_answer_while_the_ledger_is_away",
    ),
    _python(
        "submit: what the ledger does not know is not recorded",
        "workflows/generation.py",
        Expression("Generation._submit_once", "submission.unrecorded", "False"),
        f"{_KNOWN}::test_a_job_that_the_ledger_was_too_far_away_to_record_is_recorded_and_completed",
    ),
    _python(
        "cost: a promise for one word is taken for another's",
        "workflows/outcomes.py",
        Expression("cost_of_failure", "reading.by_synonym and reading.refunded is None", "False"),
        "tests/providers/test_status_words.py::test_what_a_failure_by_a_synonym_costs_is_in_doubt",
    ),
    _python(
        "cost: what a vendor reserved is taken for its bill",
        "workflows/outcomes.py",
        Expression("reserved_or_billed", "plan.bills_generated", "False"),
        "tests/workflows/test_delivered.py::test_what_a_vendor_reserves_is_no_report",
    ),
    _python(
        "copies: the first is forgotten before the second is stored",
        "activities/persist.py",
        Expression(
            "Persist._another",
            "self._put(order, number, link, spool, memory, _new_key(order, number))",
            "self._copied(order, number, link, spool, memory, again=True)",
        ),
        f"{_AGAIN}::test_an_attempt_that_dies_at_the_second_copy_leaves_the_first_to_the_next",
    ),
    _python(
        "trailer: the bytes are sent without their sha256",
        "onetake/media/storage.py",
        Expression("BucketStore._send", "self.verifies", "False"),
        f"{_VERIFYING}::test_a_bit_that_changes_on_the_way_is_refused_by_the_store_and_leaves_nothing",
    ),
    _python(
        "trailer: a store that does not verify is believed and not read back",
        "onetake/media/storage.py",
        Expression("BucketStore.look", "self.verifies", "True"),
        f"{_VERIFYING}::test_a_store_that_does_not_verify_is_not_believed",
    ),
    _python(
        "trailer: any refusal shows that a store verifies",
        "onetake/media/s3.py",
        Expression("Requests.verifies", "refused in _WRONG_SHA256", "True"),
        f"{_VERIFYING}::test_a_store_that_refuses_the_question_is_read_back",
    ),
    _python(
        "sha: a damaged object is handed over",
        "onetake/client/client.py",
        Expression("Onetake.download", "stored.sha256 != asset.sha256", "False"),
        "tests/client/test_client.py::test_a_damaged_object_is_never_handed_over",
    ),
    _python(
        "bucket: of two writers the last wins",
        "onetake/media/s3.py",
        Expression(
            "Requests._complete",
            "{'Content-Type': 'application/xml', 'If-None-Match': '*'}",
            "{'Content-Type': 'application/xml'}",
        ),
        f"{_BUCKET}::test_of_two_writers_of_one_key_exactly_one_wins",
    ),
    _python(
        "bucket: of two writers in one request the last wins",
        "onetake/media/trailing.py",
        Expression("signed_headers", "'If-None-Match'", "'x-amz-meta-unless'"),
        f"{_BUCKET}::test_of_two_writers_of_one_key_exactly_one_wins",
    ),
    _python(
        "address pin: the name is dialled and not what was judged",
        "onetake/media/dialling.py",
        Expression(
            "GuardedBackend.connect_tcp",
            "self._dial.connect_tcp(address, port, timeout, local_address, socket_options)",
            "self._dial.connect_tcp(host, port, timeout, local_address, socket_options)",
        ),
        "tests/media/outbound/test_dialling.py::test_a_name_is_resolved_once_for_a_connection",
    ),
    _python(
        "address guard: what a name resolved to is not judged",
        "onetake/media/dialling.py",
        Statement("GuardedBackend._judged", "for address in addresses:\n    judge_address(address, trusted=trusted)"),
        "tests/media/outbound/test_dialling.py::test_a_name_with_one_bad_address_is_refused_whole",
    ),
    _python(
        "address guard: a redirect is not judged",
        "onetake/media/outbound.py",
        Expression(
            "Outbound._next",
            "judge(str(current.url.join(location)), self._trusted)",
            "Judged(u := current.url.join(location), u.host, u.port or 80)",
        ),
        "tests/media/outbound/test_opening.py::test_a_redirect_is_judged_like_any_address",
    ),
    _python(
        "resume: what changed meanwhile is joined to what came before",
        "onetake/media/resuming.py",
        Statement("Place.require_rest", "if not same:\n    raise _changed()"),
        f"{_RESUMING}::test_what_may_have_changed_is_never_joined_to_what_came_before",
    ),
    _python(
        "resume: a weak name is taken for a strong one",
        "onetake/media/resuming.py",
        Expression("Place.of", """re.fullmatch(r'"[!#-~]*"', etag) is not None""", "etag != ''"),
        f"{_RESUMING}::test_a_body_that_cannot_be_gone_on_with_ends_as_truncated",
    ),
    _python(
        "resume: the whole file is taken for the rest of it",
        "onetake/media/resuming.py",
        Statement(
            "Place.require_rest",
            "if response.status != 206 or not found or int(found[1]) != self.done or self.total not in {None, total}:\n"
            "    raise _changed()",
        ),
        f"{_RESUMING}::test_what_may_have_changed_is_never_joined_to_what_came_before",
    ),
    _python(
        "resume: a server that brings nothing is asked for ever",
        "onetake/media/outbound.py",
        Expression("_Download._is_worth_while", "self.fruitless <= _MOST_FRUITLESS", "True"),
        f"{_RESUMING}::test_a_server_that_is_away_for_long_is_given_up",
    ),
    _python(
        "download: a drip is waited for",
        "onetake/media/outbound.py",
        Expression("_Rate.count", "self.received < self.limits.min_bytes_per_s * self.waited_s", "False"),
        "tests/media/outbound/test_opening.py::test_a_dripping_body_is_given_up_by_its_rate",
    ),
    _python(
        "dial: a dead address is waited for",
        "onetake/media/dialling.py",
        Expression("_first", "STAGGER_S if waiting else None", "None"),
        "tests/media/outbound/test_dialling.py::test_dead_addresses_cost_a_fraction_of_a_second_each",
    ),
    _python(
        "dial: attempts that nobody needs go on",
        "onetake/media/dialling.py",
        Statement("_give_up", "for task in attempts:\n    task.cancel()"),
        "tests/media/outbound/test_dialling.py::test_dead_addresses_cost_a_fraction_of_a_second_each",
    ),
    _python(
        "inputs: a slow host keeps all slots",
        "onetake/media/hosts.py",
        Expression("Hosts._have_room", "len(self._looks.get(host, ())) >= MOST_OF_A_HOST", "False"),
        "tests/media/inputs/test_hosts.py::test_a_slow_host_gets_its_share_of_looks_and_others_are_looked_at_meanwhile",
    ),
    _python(
        "store: one that ignores conditional writes is used",
        "onetake/media/manners.py",
        Expression(
            "_require_written_once", "_tried(what, requests.put, key, _DATA, 'text/plain') is not None", "False"
        ),
        f"{_VERIFYING}::test_a_store_without_the_manners_that_clips_need_is_refused_before_money_is_spent",
    ),
    _python(
        "store: one whose objects cannot be listed is used",
        "onetake/media/manners.py",
        Statement("try_out", "_tried('The keys may not list the bucket.', requests.holds_any, FOLDER)"),
        f"{_VERIFYING}::test_a_store_without_the_manners_that_clips_need_is_refused_before_money_is_spent",
    ),
    _python(
        "spool: a full disk takes clips",
        "onetake/media/spool.py",
        Expression("Spool.new_file", "not self.free_bytes", "False"),
        "tests/media/storage/test_spool.py::test_a_spool_without_room_begins_nothing",
    ),
    _python(
        "spool: what another process holds is removed",
        "onetake/media/spool.py",
        Statement("_remove_unheld", "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)"),
        "tests/media/storage/test_spool.py::test_what_a_killed_process_left_is_removed_and_what_another_holds_is_not",
    ),
]

# -- Policies ----------------------------------------------------------------------------------------------------------

_POLICIES = [
    _sql(
        "policy: a number of generations is counted without waiting for others",
        "perform pg_advisory_xact_lock(v_lock);",
        "perform 1;",
        "tests/ledger/test_policies.py::test_whoever_is_under_the_same_limit_waits_for_the_one_before",
    ),
    _sql(
        "policy: a plan that is pinned later is not counted",
        "    if v_before is null then\n        perform onetake.keep_limits(p_id, v_plan);",
        "    if false then\n        perform onetake.keep_limits(p_id, v_plan);",
        "tests/ledger/test_policies.py::test_a_run_that_nobody_priced_before_is_counted_when_its_plan_is_pinned",
    ),
    _python(
        "policy: what is forced is not sent",
        "onetake/core/ports.py",
        Statement("SubmitOrder.__post_init__", "object.__setattr__(self, 'request', self.plan.decided(self.request))"),
        "tests/providers/test_policies.py::test_what_is_forced_reaches_the_vendor_and_costs_what_it_costs",
    ),
]

# -- Reports -----------------------------------------------------------------------------------------------------------

_REPORTS = [
    _python(
        "statement: a month that is over is not proved",
        "onetake/ledger/account_statements.py",
        Statement("AccountStatements.lines", "if period.as_of is None:\n    await self._prove(period, account)"),
        "tests/ledger/test_account_statements.py::test_what_does_not_add_up_is_not_handed_out",
    ),
]

# -- Failovers of the database -----------------------------------------------------------------------------------------

_FAILOVERS = [
    _sql(
        "failover: another timeline is the same epoch",
        "        || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);",
        "        || 1;",
        "tests/system/test_failover.py::test_a_failover_that_loses_commits_sends_nothing_twice_and_releases_no_paid_job",
    ),
    _sql(
        "failover: an absent intent lets a second try send",
        "elsif p_may_be_sent and p_epoch <> onetake.epoch() and v_phase <> 'done' then",
        "elsif false then",
        f"{_EPOCHS}::test_after_a_failover_an_absent_intent_lets_nobody_send_again",
        f"{_EPOCHS}::test_after_a_failover_the_turned_away_post_before_the_lost_one_lets_nobody_send_again",
    ),
    _python(
        "failover: a try does not ask whether the ones before it told",
        "activities/submit.py",
        Expression("_is_unsure", "_tries(memory).told < activity.info().attempt - 1", "False"),
        f"{_ACTIVITIES}::test_after_a_failover_a_second_try_sends_nothing_where_the_first_did_not_tell",
        f"{_ACTIVITIES}::test_a_try_before_which_one_died_stays_unsure_of_it",
    ),
    _python(
        "failover: a reset run takes itself for the first",
        "workflows/orders.py",
        Expression("_was_reset", "info.run_id != info.original_execution_run_id", "False"),
        "tests/workflows/test_orders.py::test_a_run_that_was_reset_may_have_been_sent_before",
    ),
    _python(
        "failover: an absent intent is resolved as not sent",
        "onetake/ledger/submissions.py",
        Quoted("and $3 <> onetake.epoch()", "and $3 = ''"),
        f"{_EPOCHS}::test_after_a_failover_nothing_is_called_not_sent",
        f"{_ACTIVITIES}::test_after_a_failover_an_absent_intent_is_not_resolved_as_not_sent",
    ),
    _sql(
        "failover: what the run knows is not brought to its end",
        "if v_generation.phase <> 'done' and coalesce(p_epoch, v_epoch) <> onetake.epoch() then",
        "if false then",
        f"{_EPOCHS}::test_after_a_failover_a_hold_is_released_only_by_what_the_run_knows",
    ),
    _sql(
        "failover: the POST after one that was turned away is not in doubt",
        "where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state = 'not_sent';\n        update"
        " onetake.submission s\n        set state = v_sent",
        "where false;\n        update onetake.submission s\n        set state = v_sent",
        f"{_EPOCHS}::test_after_a_failover_the_turned_away_post_before_the_lost_one_lets_nobody_send_again",
    ),
    _sql(
        "failover: the outcome of a POST whose intent is lost is dropped",
        "if v_posts < p_post then",
        "if false then",
        f"{_EPOCHS}::test_an_outcome_of_a_post_whose_intent_is_lost_is_kept",
    ),
    _sql(
        "failover: a lost hold is not written again",
        "if not exists (select from onetake.hold h where h.generation_id = p_id and h.attempt = p_attempt) then",
        "if false then",
        f"{_EPOCHS}::test_an_intent_whose_hold_is_lost_asks_for_it",
        f"{_EPOCHS}::test_all_of_a_generation_is_written_again_once_whatever_its_budget_says",
    ),
    _sql(
        "failover: what is written again counts twice",
        "v_available := onetake.move_balances(coalesce(v_windows, '{}'), v_amount, 0);",
        "v_available := onetake.move_balances(coalesce(v_windows, '{}'), 2 * v_amount, 0);",
        f"{_EPOCHS}::test_all_of_a_generation_is_written_again_once_whatever_its_budget_says",
    ),
    _python(
        "database: a report takes the connection of a POST's records",
        "onetake/ledger/database.py",
        Expression("Database.surely", "self._connection(self._reserved)", "self._connection(self._pool)"),
        f"{_ADDRESSES}::test_what_a_post_depends_on_is_recorded_while_others_have_all_other_connections",
    ),
    _python(
        "database: a commit that is not written is taken for one",
        "onetake/ledger/database.py",
        Quoted("where current_setting('synchronous_commit') = 'off'", "where false"),
        f"{_ADDRESSES}::test_a_commit_that_a_crash_may_undo_is_not_taken_for_one",
    ),
    _python(
        "database: the first of several hosts may be a standby",
        "onetake/ledger/addresses.py",
        Expression("Addresses.__init__", "len(self._hosts) == 1", "True"),
        f"{_ADDRESSES}::test_a_host_that_takes_no_writes_is_passed_over",
    ),
    _python(
        "database: a migration waits for a lock before everybody",
        "onetake/ledger/migrate.py",
        Statement("_migrate", "await connection.execute(f\"set lock_timeout = '{_LOCK_S:g}s'\")"),
        f"{_MIGRATIONS}::test_a_migration_that_meets_a_lock_gives_way",
    ),
]

# -- Rates, and the line -----------------------------------------------------------------------------------------------

_OVERLOAD = [
    _sql(
        "room: what a vendor has room for is ignored",
        "if place <= v_room.jobs - v_taken or (",
        "if true or (",
        f"{_LINE}::test_no_more_holds_are_taken_than_the_vendor_has_room_for",
    ),
    _sql(
        "room: holds are sent as they come",
        "if v_sent + v_before >= v_room.jobs and",
        "if false and",
        f"{_LINE}::test_holds_are_sent_in_their_order",
    ),
    _sql(
        "room: a vendor that is called too fast is taken to be full",
        "and r.refusing_since > coalesce(v_accepted_at, '-infinity')",
        "",
        f"{_LINE}::test_a_vendor_that_is_only_called_too_fast_is_not_taken_to_be_full",
    ),
    _sql(
        "line: who came first is always first",
        "select l.generation_id, l.since, coalesce(s.jobs, 0) + row_number() over (",
        "select l.generation_id, l.since, 0 * row_number() over (",
        f"{_LINE}::test_tenants_take_turns_whoever_came_first",
    ),
    _sql(
        "line: a place that nobody asks for is kept",
        "then l.asks_at < v_now - greatest(",
        "then false and v_now < v_now - greatest(",
        f"{_LINE}::test_a_place_that_nobody_asks_for_any_more_keeps_nobody_waiting",
    ),
    _sql(
        "rate: ignored",
        "and v_rate.tokens >= 1",
        "and true",
        f"{_RATES}::test_no_more_calls_go_than_the_rate_allows_and_it_grows_while_they_are_taken",
    ),
    _sql(
        "rate: halved by each refused call",
        "where r.slowed_at < v_now - greatest(interval '2 seconds' * p_scale, interval '0.25 seconds');",
        "where true;",
        f"{_RATES}::test_calls_that_are_refused_together_halve_the_rate_once",
    ),
    _sql(
        "rate: who comes now goes before who has waited",
        "and (v_rate.promised_at <= v_now or p_returning and not p_behind)",
        "",
        f"{_RATES}::test_who_has_waited_goes_before_who_comes_now_and_recoveries_go_last",
    ),
    _python(
        "deadline: it passes although we were too fast to be answered",
        "workflows/generation.py",
        Expression("Generation._wait", "not self._unasked", "True"),
        "tests/system/test_overload.py::test_a_deadline_does_not_pass_while_the_vendor_says_that_we_read_too_fast",
    ),
    _sql(
        "line: who has ended keeps its place",
        "and (exists (select from onetake.generation g where g.id = l.generation_id and g.phase = 'done')",
        "and (false",
        f"{_LINE}::test_a_place_whose_generation_has_ended_keeps_nobody_waiting",
    ),
    _sql(
        "rates: one that was forgotten meanwhile answers nothing",
        "    if not found then  -- forgotten while we waited for its lock\n        return 0;\n    end if;\n",
        "",
        f"{_RATES}::test_who_waited_for_the_lock_of_a_rate_that_is_forgotten_may_call",
    ),
    _python(
        "deadline: it passes although the ledger gave no read its turn",
        "workflows/generation.py",
        Expression("_is_ours", "{'vendor_throttled', 'ledger_unavailable'}", "{'vendor_throttled'}"),
        f"{_KNOWN}::test_a_deadline_does_not_pass_while_the_ledger_gives_no_read_its_turn",
    ),
    _python(
        "deadline: it passes although a callback brought no word of the vendor's",
        "workflows/generation.py",
        Expression("Generation._persist_once", "failure is None and _is_ours(self._state.refusal)", "False"),
        f"{_KNOWN}::test_a_deadline_does_not_pass_when_a_callback_brought_no_word_of_the_vendors",
    ),
    _python(
        "contradictions: each is looked into at once",
        "workflows/generation.py",
        Expression("Generation._doubtful_gap_s", "2 ** min(self._doubts - 1, 20)", "1"),
        f"{_KNOWN}::test_answers_that_contradict_each_other_are_looked_into_ever_less_often",
    ),
    _python(
        "circuit: who has no money keeps the probe",
        "activities/reserve.py",
        Statement("Reserve._probing", "await self._vendors.leave_probe(order.vendor, order.generation_id)"),
        "tests/activities/test_reserve.py::test_who_has_no_money_gives_the_probe_back",
    ),
    _python(
        "circuit: who parks holds its price",
        "activities/reserve.py",
        Expression("Reserve.reserve", "await self._vendors.admit(order)", "await self._vendors.admit(order) and False"),
        "tests/activities/test_reserve.py::test_who_may_probe_holds_its_price_with_the_probe_and_parks_without_either",
    ),
    _python(
        "line: it is waited in for ever",
        "activities/reserve.py",
        Expression("Reserve._waiting", "left_s <= LATEST_S", "False"),
        "tests/activities/test_reserve.py::test_the_wait_ends_at_the_generations_own_deadline_and_says_how_long_it_was",
    ),
    _python(
        "line: everybody parks at a paused vendor",
        "activities/reserve.py",
        Expression("Reserve.reserve", "not order.parks", "False"),
        "tests/activities/test_reserve.py::test_a_paused_vendor_refuses_who_does_not_park_and_is_waited_for_by_who_does",
    ),
]

_DOCTOR: Final = [
    _python(
        "doctor: any gateway is ours",
        "onetake/cli/doctor/gateway.py",
        Expression("_of_answer", 'text.strip() != row["answer"]', "False"),
        "tests/cli/test_doctor.py::test_18_an_address_for_callbacks_that_a_stranger_serves",
    ),
    _python(
        "doctor: its sessions may write",
        "onetake/cli/doctor/setup.py",
        Expression("Setup._open", "True", "False"),
        "tests/cli/test_doctor.py::test_the_sessions_of_doctor_cannot_write",
    ),
    _python(
        "doctor: a pooler between us goes unseen",
        "onetake/cli/doctor/ledger.py",
        Expression("_is_kept", "before == await one.fetchval(pid)", "True"),
        "tests/cli/test_doctor.py::test_15_a_pooler_that_gives_each_transaction_another_session",
    ),
    _python(
        "doctor: a current version without its queues is well",
        "onetake/operations/versions.py",
        Expression("_doubts_of_build", "is_used and each.silent", "False"),
        "tests/cli/test_doctor.py::test_10_to_12_versions",
    ),
    _python(
        "doctor: a queue that only another build polls is well",
        "onetake/operations/versions.py",
        Expression("_builds", "states.get(build) != 'drained'", "False"),
        "tests/operations/test_deploys.py::test_a_queue_that_only_another_build_polls_is_missing_at_the_current_one",
    ),
]

# -- Deployments -------------------------------------------------------------------------------------------------------

_HELPERS = "templates/_helpers.tpl"
_CHART = [
    _chart(
        "chart: more connections than the database has",
        _HELPERS,
        "{{- if gt $needed (int $room) -}}",
        "{{- if false -}}",
        "test_all_processes_together_fit_the_database",
    ),
    _chart(
        "chart: an update's further pods open no connections",
        _HELPERS,
        "(mul $versions (add 1 $pods))",
        "(mul $versions $pods)",
        "test_all_processes_together_fit_the_database",
    ),
    _chart(
        "chart: what may be scaled up later opens no connections",
        _HELPERS,
        "ternary $worker.autoscaling.maxReplicas $worker.replicas $worker.autoscaling.enabled",
        "$worker.replicas",
        "test_what_may_be_scaled_up_later_counts_as_if_it_were",
    ),
    _chart(
        "chart: the gateway has the vendors' keys",
        _HELPERS,
        'has .component (list "orchestrate" "vendors"',
        'has .component (list "gateway" "orchestrate" "vendors"',
        "test_no_secret_is_rendered_and_each_one_is_a_file",
    ),
    _chart(
        "chart: the Job of the search attributes has the vendors' keys",
        _HELPERS,
        'has .component (list "orchestrate" "vendors"',
        'has .component (list "search-attributes" "orchestrate" "vendors"',
        "test_no_secret_is_rendered_and_each_one_is_a_file",
    ),
    Mutant(
        "chart: the pod of the command line goes while a command runs in it",
        "deployment/chart/templates/cli.yaml",
        (Text("/bin/[o]netake", "/bin/[o]ne-take"),),
        ("tests/deployment/test_chart_command_line.py::test_its_pod_goes_when_the_commands_in_it_have_ended",),
    ),
    _chart(
        "chart: the spool has room for the clips of one vendor",
        _HELPERS,
        "(mul 8 (len $values.vendors) $clip)",
        "(mul 8 $clip)",
        "test_the_spool_holds_the_largest_clips_of_all_slots",
    ),
    _chart(
        "chart: a migration that failed is tried again",
        "templates/migrate.yaml",
        "backoffLimit: 0",
        "backoffLimit: 6",
        "test_a_migration_is_tried_once",
    ),
    _chart(
        "chart: workers reach metadata addresses",
        "templates/networkpolicy.yaml",
        "169.254.0.0/16, ",
        "",
        "test_vendors_are_not_looked_for_at_private_and_metadata_addresses",
    ),
    _chart(
        "chart: everything of the gateway is reachable from outside",
        "templates/ingress.yaml",
        'list "/callbacks" "/whoami"',
        'list "/"',
        "test_outside_only_callbacks_and_what_the_doctor_asks_are_reachable",
    ),
    _chart(
        "chart: the doctor does not reach the gateway at its public address",
        "templates/httproute.yaml",
        "value: /whoami",
        "value: /status",
        "test_outside_only_callbacks_and_what_the_doctor_asks_are_reachable",
    ),
]

_DEPLOYS: Final = [
    _python(
        "deploys: half a version is none",
        "onetake/engine/versioning.py",
        Expression("Version.named", "not name and not build", "not name or not build"),
        "tests/engine/test_versioning.py::test_a_half_or_impossible_version_is_refused_by_name",
    ),
    _python(
        "deploys: runs are pinned to the build that began them",
        "onetake/engine/versioning.py",
        Expression("of_orchestrator", "VersioningBehavior.AUTO_UPGRADE", "VersioningBehavior.PINNED"),
        "tests/engine/test_versioning.py::test_only_workflows_have_a_behaviour_and_only_versioned_workers_a_version",
    ),
    _python(
        "deploys: a build becomes current without workers on a queue",
        "onetake/operations/deploys.py",
        Expression("Deploys._lacks", "not pollers[queue, build] or queue not in registered", "False"),
        "tests/operations/test_deploys.py::test_a_build_that_is_not_all_there_changes_nothing",
    ),
    _python(
        "gate: what cannot be read differs",
        "onetake/engine/histories.py",
        Statement("_replay", "_refuse_missing_keys(settings, history)"),
        "tests/replay/test_gate.py::test_a_key_that_is_missing_is_no_difference",
    ),
    _python(
        "gate: what differs is told with exit code 0",
        "onetake/cli/replays.py",
        Expression("_gate_answer", "CATALOGUE['history_differs'].exit_code if differ else 0", "0"),
        "tests/replay/test_gate.py::test_a_changed_order_of_commands_is_stopped_and_named",
    ),
    _python(
        "schema: a worker serves on tables older than its code",
        "onetake/ledger/revisions.py",
        Expression("until_migrated", "revision is not None and revision >= newest()", "True"),
        "tests/ledger/test_revisions.py::test_older_tables_and_missing_ones_are_waited_for",
    ),
]

# -- What is run in production -----------------------------------------------------------------------------------------

_SUPPLIED = [
    Mutant(
        "image: a package whose bytes changed is installed",
        "deployment/image/Containerfile",
        (Text("-q --no-compile --only-binary :all: --require-hashes -r", "-q --no-compile --only-binary :all: -r"),),
        (f"{_SUPPLY}::test_whatever_installs_asks_for_the_hashes",),
    ),
    Mutant(
        "image: it runs as root",
        "deployment/image/Containerfile",
        (Text("USER 10001:10001\n", ""),),
        (f"{_SUPPLY}::test_the_image_ends_as_a_user_without_rights_behind_an_init",),
    ),
    Mutant(
        "image: what is stopped while it starts is process 1",
        "deployment/image/Containerfile",
        (Text('["tini", "--", "onetake"]', '["onetake"]'),),
        (f"{_SUPPLY}::test_the_image_ends_as_a_user_without_rights_behind_an_init",),
    ),
    Mutant(
        "compose: a role may write to its root",
        "deployment/compose/compose.yaml",
        (Text("  read_only: true\n", ""),),
        (f"{_COMPOSE}::test_every_role_of_ours_is_confined_and_has_time_to_end",),
    ),
    Mutant(
        "compose: a POST that is under way is killed",
        "deployment/compose/compose.yaml",
        (Text("  stop_grace_period: 120s\n", ""),),
        (f"{_COMPOSE}::test_every_role_of_ours_is_confined_and_has_time_to_end",),
    ),
    Mutant(
        "compose: secrets are made anew each time",
        "deployment/compose/secrets.sh",
        (Text('    [ -e "secrets/$1" ] && return\n', ""),),
        (f"{_COMPOSE}::test_no_secret_is_in_the_project_and_none_is_made_twice",),
    ),
]

# -- What is told of it ------------------------------------------------------------------------------------------------

_MEASURED = [
    _python(
        "measuring: each try tells an end again",
        "onetake/engine/measuring.py",
        Expression("Told.is_new", "(run_id, phase) in self._ends", "False"),
        f"{_MEASURING}::test_an_end_is_new_once_and_the_oldest_are_forgotten",
    ),
    _python(
        "measuring: a try that will be repeated ends its phase",
        "onetake/engine/measuring.py",
        Expression("ends_of", "isinstance(answer, TryLater)", "False"),
        f"{_MEASURING}::test_what_ends_a_phase",
    ),
    _python(
        "measuring: what is wrong with it fails the activity",
        "onetake/engine/measuring.py",
        Statement("tell", "_log.error('not_measured', error_type=type(error).__name__)", "raise"),
        f"{_MEASURING}::test_what_goes_wrong_with_measuring_costs_the_activity_nothing",
    ),
    _python(
        "metrics: a vendor's label is any text",
        "onetake/metrics.py",
        Expression("_vendor", "name in VENDOR_NAMES", "True"),
        "tests/engine/test_telemetry.py::test_no_label_takes_a_word_of_somebody_elses",
    ),
    _python(
        "metrics: a route's label is any text",
        "onetake/metrics.py",
        Expression("Instruments.generation_ended", "route in self._routes", "True"),
        "tests/engine/test_telemetry.py::test_no_label_takes_a_word_of_somebody_elses",
    ),
    _python(
        "metrics: counters are absent until their first event",
        "onetake/metrics.py",
        Statement("Instruments.begin", "_zero(self._submissions, vendor=_VENDORS, outcome=OUTCOMES)", "pass"),
        "tests/engine/test_telemetry.py::test_counters_begin_at_zero_and_names_have_their_suffixes",
    ),
    _python(
        "metrics: the ends that alerts read are absent until their first",
        "onetake/metrics.py",
        Statement("Instruments.begin", "_zero(self._ended, vendor=_VENDORS, outcome=ENDS)", "pass"),
        "tests/engine/test_telemetry.py::test_no_event_makes_a_new_series_of_a_counter_that_alerts_read",
    ),
    _python(
        "metrics: the end of a key that was replaced stays",
        "onetake/engine/cloud.py",
        Statement("follow_api_key", "instruments().credential('api_key', end_of_key(key) or math.inf)", "pass"),
        "tests/engine/test_telemetry.py::test_a_key_that_is_a_file_shows_its_end_and_that_of_the_next_one",
    ),
]

_RESTORES: Final = [
    _sql(
        "backups: who makes them cannot note them",
        "language sql security definer set search_path = pg_catalog, pg_temp as $$",
        "language sql as $$",
        "tests/deployment/test_backup.py::test_a_user_with_the_rights_that_the_page_gives_backs_up_and_reads_nothing",
    ),
    _sql(
        "prune: callbacks of an amount in suspense are forgotten",
        "h.generation_id = g.id and h.state in ('held', 'suspended'))",
        "h.generation_id = g.id and h.state in ('held'))",
        "tests/ledger/test_pruning.py::test_what_may_still_be_needed_is_kept",
    ),
    Mutant(
        "restore: two lives from one archive have one number",
        "deployment/backup/restore.sh",
        (Text('"$HERE/archive.sh" --to "$ARCHIVE" "$TO/pg_wal/$NUMBER.history" "$NUMBER.history"', ":"),),
        ("tests/deployment/test_backup.py::test_a_server_is_put_back_to_a_second_between_two_backups_and_later",),
    ),
    Mutant(
        "archive: a segment with other bytes is taken for the same",
        "deployment/backup/archive.sh",
        (Text('cmp -s "$PATH_OF" "$TO/$NAME" ||', "true ||"),),
        ("tests/deployment/test_backup.py::test_an_archive_never_overwrites_and_takes_the_same_segment_twice",),
    ),
]

# -- Traces, and the wakes of several gateways -------------------------------------------------------------------------

_SPANS = "tests/tracing/test_export.py"
_RUNS = "tests/tracing/test_interceptor.py"

_DEPLOYMENT = [
    _python(
        "traces: what a library writes into a span leaves",
        "onetake/tracing/export.py",
        Expression("Wall.export", "[bare(span) for span in spans]", "spans"),
        f"{_SPANS}::test_no_text_leaves_whatever_a_library_writes",
    ),
    _python(
        "traces: an attribute may be a text",
        "onetake/tracing/export.py",
        Expression("_is_word", "_WORD.fullmatch(value) is not None", "True"),
        f"{_SPANS}::test_no_text_leaves_whatever_a_library_writes",
    ),
    _python(
        "traces: inside of what translates failures",
        "onetake/engine/temporal.py",
        Expression(
            "plugin",
            "[under_way, *tracing.interceptors(), FailureText(), Measuring(), StrictArguments()]",
            "[under_way, FailureText(), Measuring(), StrictArguments(), *tracing.interceptors()]",
        ),
        f"{_SPANS}::test_traces_are_outside_of_what_translates_failures",
    ),
    _python(
        "traces: the history gets what others keep beside the ids",
        "onetake/tracing/interceptor.py",
        Expression("_IdsOnly.inject", "_PARENT in all_of_it", "carrier.update(all_of_it) or _PARENT in all_of_it"),
        f"{_SPANS}::test_a_history_gets_ids_and_nothing_that_others_add",
    ),
    _python(
        "traces: each read of an open job has a span",
        "onetake/tracing/interceptor.py",
        Expression("Attempt.is_told", "not self.benign", "True"),
        f"{_RUNS}::test_attempts_that_find_the_job_open_have_no_span",
    ),
    _python(
        "traces: a tracer that fails takes the answer of a POST away",
        "onetake/tracing/interceptor.py",
        Expression("_Activity._write", "Exception", "UnicodeError"),
        f"{_RUNS}::test_an_accepted_submission_survives_a_tracer_that_fails",
    ),
    _python(
        "traces: a header that cannot be read stops a run",
        "onetake/tracing/interceptor.py",
        Expression("_Readable.from_payloads", "Exception", "UnicodeError"),
        f"{_RUNS}::test_a_run_goes_on_whatever_header_it_was_started_or_woken_with",
    ),
    _python(
        "traces: the tenant's name leaves with the workflow's id",
        "onetake/tracing/export.py",
        Expression("_words_of", "name in ATTRIBUTES", "name in {*ATTRIBUTES, WORKFLOW_ID}"),
        f"{_RUNS}::test_no_tenant_is_named",
    ),
    _python(
        "wakes: a gateway wakes although another has the turn",
        "onetake/gateway/wakes.py",
        Expression("Wakes._serve_once", "wake.has_turn", "True"),
        "tests/gateway/test_wakes.py::test_another_gateways_turn_is_waited_for",
    ),
    _python(
        "wakes: what a sweep has read takes the place of what came since",
        "onetake/gateway/wakes.py",
        Expression("Wakes.wake", "max(wake, waiting, key=lambda each: each.heard_at)", "wake"),
        "tests/gateway/test_wakes.py::test_what_a_sweep_read_before_a_callback_came_takes_its_place_no_more",
    ),
    _python(
        "wakes: every gateway that hears has the turn",
        "onetake/ledger/callbacks.py",
        Quoted(
            "            and (wake_after is null or wake_after <= now())\n        order by token_sha256 for no key",
            "        order by token_sha256 for no key",
        ),
        "tests/ledger/test_callbacks.py::test_of_several_gateways_one_has_the_turn_and_the_next_comes_an_interval_later",
    ),
]


MUTANTS: Final[tuple[Mutant, ...]] = (
    *_POST,
    *_TRUTH,
    *_LEDGER,
    *_PRICES,
    *_BYTES,
    *_POLICIES,
    *_REPORTS,
    *_FAILOVERS,
    *_OVERLOAD,
    *_DOCTOR,
    *_CHART,
    *_DEPLOYS,
    *_SUPPLIED,
    *_MEASURED,
    *_RESTORES,
    *_DEPLOYMENT,
)
