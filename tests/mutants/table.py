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
_MONEY = "tests/ledger/test_money.py"
_SUBMISSIONS = "tests/ledger/test_submissions.py"
_GENERATIONS = "tests/ledger/test_generations.py"
_RECOVERIES = "tests/ledger/test_recoveries.py"


def _sql(name: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, _SCHEMA, (Text(old, new),), tests)


def _python(name: str, file: str, change: Change, *tests: str) -> Mutant:
    return Mutant(name, file, (change,), tests)


# -- The intent and the one POST ---------------------------------------------------------------------------------------

_POST = [
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
        "if v_phase <> 'done' then",
        "if true then",
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
        Expression("Submit._submit", "not begun.fresh", "False"),
        f"{_ACTIVITIES}::test_what_another_attempt_may_have_sent_is_in_doubt_and_not_sent",
    ),
    Mutant(
        "intent: committed after the POST",
        "activities/submit.py",
        (
            Statement("Submit._submit", "outcome = await self._client.submit(post)"),
            Statement(
                "Submit._submit",
                "bracket = await self._bracket(order.plan)",
                "bracket = None\noutcome = await self._client.submit(post)",
            ),
        ),
        (f"{_ACTIVITIES}::test_nothing_is_sent_whose_intent_cannot_be_written",),
    ),
    _python(
        "intent: what was learned is forgotten",
        "activities/submit.py",
        Expression("Submit._submit", "(known := memory.recall(Submission))", "(known := None)"),
        f"{_ACTIVITIES}::test_what_an_attempt_learned_and_could_not_write_is_written_by_the_next",
    ),
    _python(
        "POST: a lost answer counts as not sent",
        "providers/driver.py",
        Expression("Driver.submit", "'ambiguous'", "'not_sent'"),
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
        Expression("_again", "elapsed_s() + delay_s > limit_s", "False"),
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
        "and s.posts > p_post and p_state <> 'accepted';",
        "and false;",
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
        "authoritative read: a callback's claim is believed",
        "activities/resolve.py",
        Expression("Resolve._by_callback", "status.reading.state != 'missing'", "True"),
        f"{_ACTIVITIES}::test_a_job_that_a_callback_names_is_asked_for_before_it_is_believed",
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
            Text(
                "kind),\n    foreign key (generation_id, attempt) references onetake.hold",
                "kind)",
            ),
            Text("foreign key (generation_id, attempt) references onetake.hold,\n    unique (vendor", "unique (vendor"),
        ),
        (f"{_MONEY}::test_the_table_itself_refuses_a_second_hold",),
    ),
    _python(
        "plan: the one that comes later is pinned",
        "onetake/ledger/generations.py",
        Quoted("when plan is null then $2::jsonb", "when true then $2::jsonb"),
        f"{_GENERATIONS}::test_the_first_plan_is_kept_whoever_comes_later",
    ),
    _python(
        "plan: a run that holds money gets another",
        "onetake/ledger/generations.py",
        Quoted("when phase < 'submitting' then jsonb_set", "when true then jsonb_set"),
        f"{_GENERATIONS}::test_a_plan_that_money_was_reserved_for_stays_as_it_is",
    ),
    _python(
        "plan: a worker's own price decides",
        "activities/validate.py",
        Expression("Validate._admitted", "stored is None", "True"),
        "tests/activities/test_validate.py::test_the_most_that_it_may_cost_is_held_against_the_price_that_is_stored",
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
        "budget: the table lets it be exceeded",
        "check (held_micros + spent_micros <= limit_micros + overrun_micros)",
        "check (true)",
        f"{_MONEY}::test_the_table_itself_refuses_to_go_over_a_limit",
    ),
    _sql(
        "budget: reservations in a batch are not refused",
        "if v_room[v_pair_slot[v_pair]] < p_amounts[v_item] and v_refused_by[v_item] is null then",
        "if false then",
        f"{_MONEY}::test_a_batch_refuses_what_does_not_fit_and_keeps_the_rest",
    ),
    _sql(
        "budget: a locked balance is not looked at again",
        "where w.id = v_window and w.held_micros + w.spent_micros + p_amount <= w.limit_micros",
        "where w.id = v_window",
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
]

# -- Bytes and addresses -----------------------------------------------------------------------------------------------

_BYTES = [
    _python(
        "sha: another object is taken for the clip",
        "activities/persist.py",
        Expression("Persist._clip", "stored.sha256 != sha256", "False"),
        "tests/faults/test_persist.py::test_an_object_of_somebody_elses_is_neither_overwritten_nor_taken_for_the_clip",
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
            "Requests.complete",
            "{'Content-Type': 'application/xml', 'If-None-Match': '*'}",
            "{'Content-Type': 'application/xml'}",
        ),
        "tests/media/storage/test_bucket.py::test_of_two_writers_of_one_key_exactly_one_wins",
    ),
    _python(
        "address pin: the name is dialled and not what was judged",
        "onetake/media/outbound.py",
        Expression(
            "GuardedBackend.connect_tcp",
            "self._dial.connect_tcp(address, port, timeout, local_address, socket_options)",
            "self._dial.connect_tcp(host, port, timeout, local_address, socket_options)",
        ),
        "tests/media/outbound/test_dialling.py::test_a_name_is_resolved_once_for_a_connection",
    ),
    _python(
        "address guard: what a name resolved to is not judged",
        "onetake/media/outbound.py",
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
]

MUTANTS: Final[tuple[Mutant, ...]] = (*_POST, *_TRUTH, *_LEDGER, *_BYTES)
