"""zero-session 0.1.2: sessions that hold a numbered history of events, milestones, and a report of each long one."""

import json
import logging
import threading
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import fsstate
from fsstate import Journal, Session, SessionHandle, Store
from tests.contract.conftest import FakeClock
from tests.reference.conftest import Reopen, RunExample

KINDS = ("prompt", "system", "command", "warn", "alert", "mode_change")
# Ids as zero makes them: ULIDs, whose beginnings are times.
FIRST, SECOND, THIRD = "01HAAAAAAAAAAAAAAAAAAAAAA1", "01HBBBBBBBBBBBBBBBBBBBBBB2", "01HBBBCCCCCCCCCCCCCCCCCCC3"


def start(store: Store, ulid: str, parent: str | None = None, **metadata: Any) -> Session:
    return store.sessions.create(id=ulid, parent_id=parent, metadata={"cli_version": "0.3.0", **metadata})


def events_of(store: Store, ulid: str) -> Journal:
    return store.session(ulid).journal("events", kinds=KINDS)


def newest(store: Store, limit: int | None) -> list[str]:
    return [each.id for each in store.sessions.list(order_by="-created_at", limit=limit)]


# Its own tests


def test_migrations_are_idempotent(store: Store, reopen: Reopen) -> None:
    start(store, FIRST)
    assert not store.migrate().migrated
    again = reopen()
    assert not again.migrate().migrated
    assert newest(again, None) == [FIRST]


def test_append_and_list_round_trip(store: Store) -> None:
    start(store, FIRST, engine_base_url="http://x")
    events = events_of(store, FIRST)
    pairs = [("prompt", "> hello"), ("system", "welcome"), ("command", "status ok")]
    assert [events.append(kind, text=text) for kind, text in pairs] == [1, 2, 3]
    assert [(entry.kind, entry["text"]) for entry in events.tail(100)] == pairs
    assert all(entry.at is not None for entry in events)


def test_list_events_returns_tail_in_order(store: Store) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    events.append_many(("system", {"text": f"line {number}"}) for number in range(10))
    assert [entry["text"] for entry in events.tail(3)] == ["line 7", "line 8", "line 9"]


def test_last_session_is_most_recent(store: Store) -> None:
    start(store, FIRST)
    start(store, SECOND)
    assert newest(store, 1) == [SECOND]


def test_last_session_of_an_empty_store(store: Store) -> None:
    assert newest(store, 1) == []


def test_end_session_is_idempotent(store: Store) -> None:
    start(store, FIRST)
    ended = store.sessions.end(FIRST).ended_at
    assert ended is not None
    assert store.sessions.end(FIRST).ended_at == ended == store.sessions[FIRST].ended_at


def test_milestones_upsert_and_read(store: Store, reopen: Reopen) -> None:
    assert store.settings.get("milestones/welcome_shown") is None
    store.settings.set("milestones/welcome_shown", "true")
    assert store.settings.get("milestones/welcome_shown") == "true"
    store.settings.set("milestones/welcome_shown", "skipped")
    assert reopen().settings.get("milestones/welcome_shown") == "skipped"


def test_unknown_event_kind_is_rejected_by_schema(store: Store) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    with pytest.raises(fsstate.InvalidValueError, match=r"'bogus'.*prompt, system, command, warn, alert, mode_change"):
        events.append("bogus", text="x")
    with pytest.raises(fsstate.InvalidValueError, match="bogus"):
        events.append_many([("system", {"text": "fine"}), ("bogus", {"text": "x"})])
    assert events.count() == 0


def test_list_sessions_honors_limit_and_is_newest_first(store: Store) -> None:
    for ulid in (FIRST, SECOND, THIRD):
        start(store, ulid)
    assert newest(store, 10) == newest(store, 10**9) == [THIRD, SECOND, FIRST]
    assert newest(store, 1) == [THIRD]
    assert newest(store, 0) == []
    with pytest.raises(ValueError, match="limit"):
        newest(store, -1)


def test_get_session_by_ulid_round_trips_and_misses_cleanly(store: Store) -> None:
    start(store, FIRST, engine_base_url="http://e")
    found = store.sessions.get(FIRST)
    assert found is not None
    assert found.metadata == {"cli_version": "0.3.0", "engine_base_url": "http://e"}
    assert store.sessions.get("01HMISSING") is None


def test_count_events_matches_append_count(store: Store) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    assert events.count() == 0
    for number in range(5):
        events.append("system", text=f"line {number}")
    assert events.count() == 5


def test_parent_ulid_records_fork_link(store: Store) -> None:
    start(store, FIRST)
    start(store, SECOND, parent=FIRST)
    last = store.sessions.list(order_by="-created_at", limit=1)[0]
    assert (last.id, last.parent_id) == (SECOND, FIRST)


# What it promises besides


def test_an_ulid_is_taken_once(store: Store) -> None:
    start(store, FIRST, engine_base_url="http://first")
    with pytest.raises(fsstate.AlreadyExistsError, match=FIRST):
        start(store, FIRST)
    assert store.sessions[FIRST].metadata["engine_base_url"] == "http://first"


def test_sessions_that_never_were_or_are_gone(store: Store) -> None:
    # The reference ends such a session without a word; here nobody is left to believe that it was there.
    with pytest.raises(fsstate.NotFoundError):
        store.sessions.end(FIRST)
    events = events_of(store, FIRST)
    with pytest.raises(fsstate.NotFoundError):
        events.append("system", text="to nobody")
    assert (events.count(), events.tail(10)) == (0, [])


def test_deleting_a_session_deletes_its_events(store: Store) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    events.append("system", text="welcome")
    assert store.sessions.delete(FIRST)
    start(store, FIRST)
    assert (events.count(), events.append("system", text="another life")) == (0, 1)


def test_seqs_are_each_sessions_own(store: Store) -> None:
    for ulid in (FIRST, SECOND):
        start(store, ulid)
        assert [events_of(store, ulid).append("system", text="x") for _ in range(2)] == [1, 2]


def test_a_seq_is_given_out_once_whoever_appends(store: Store) -> None:
    start(store, FIRST)
    seqs: list[int] = []

    def work() -> None:
        seqs.extend(events_of(store, FIRST).append("system", text="x") for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == list(range(1, 101))


def test_limits_of_events(store: Store) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    events.append("system", text="one")
    assert events.tail(0) == []
    assert len(events.tail(10**9)) == 1
    with pytest.raises(ValueError, match="n"):
        events.tail(-1)


def test_kinds_of_another_version_are_read_as_they_are(store: Store) -> None:
    # The reference reads a kind that it does not know as "system", and so forgets what it was.
    start(store, FIRST)
    store.session(FIRST).events.append("trade", text="bought")
    assert [entry.kind for entry in events_of(store, FIRST)] == ["trade"]


def test_sessions_of_one_moment_have_an_order(store: Store, clock: FakeClock) -> None:
    # The reference leaves it to SQLite.
    moment = clock()
    for ulid in (SECOND, FIRST, THIRD):
        store.sessions.create(id=ulid, created_at=moment)
    assert newest(store, None) == [THIRD, SECOND, FIRST]


def test_a_label_is_trimmed_and_must_say_something(store: Store) -> None:
    start(store, FIRST)
    assert store.sessions.set_label(FIRST, "  friday  ").label == "friday"
    with pytest.raises(fsstate.InvalidValueError, match="label"):
        store.sessions.set_label(FIRST, "   ")
    assert store.sessions.find("friday").id == FIRST


def test_a_label_in_use_moves_and_that_is_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    # The reference moves it in silence.
    start(store, FIRST)
    start(store, SECOND)
    store.sessions.set_label(FIRST, "friday")
    with caplog.at_level(logging.WARNING, "fsstate"):
        store.sessions.set_label(SECOND, "friday")
    assert "'friday' moves from session" in caplog.text
    assert store.sessions.find("friday").id == SECOND
    assert [store.sessions[ulid].label for ulid in (FIRST, SECOND)] == [None, "friday"]


def test_a_needle_is_an_id_or_its_beginning_or_a_label(store: Store) -> None:
    start(store, FIRST)
    start(store, SECOND)
    store.sessions.set_label(SECOND, "friday")
    for needle, found in ((FIRST, FIRST), ("01HAAA", FIRST), ("friday", SECOND), (" friday ", SECOND)):
        assert store.sessions.find(needle).id == found
    for needle in ("01HAA", "01HX", "01HAAAX", "monday", ""):
        with pytest.raises(fsstate.NotFoundError):
            store.sessions.find(needle)


def test_an_id_comes_before_a_label_and_a_beginning_too(store: Store) -> None:
    start(store, FIRST)
    start(store, SECOND)
    store.sessions.set_label(SECOND, FIRST)
    assert store.sessions.find(FIRST).id == FIRST
    store.sessions.set_label(SECOND, FIRST[:8])
    assert store.sessions.find(FIRST[:8]).id == FIRST


def test_a_beginning_that_fits_two_sessions_is_refused(store: Store) -> None:
    # The reference takes whichever of the newest 1000 comes first.
    start(store, SECOND)
    start(store, THIRD)
    with pytest.raises(fsstate.AmbiguousIdError) as caught:
        store.sessions.find("01HBBB")
    assert caught.value.matches == [SECOND, THIRD]
    assert store.sessions.find("01HBBBC").id == THIRD


def test_a_fork_is_a_new_session_without_the_events(store: Store) -> None:
    start(store, FIRST, engine_base_url="http://e")
    events_of(store, FIRST).append("prompt", text="> hello")
    fork = store.sessions.fork(FIRST, new_id=SECOND, metadata={"cli_version": "0.3.0"})
    assert (fork.id, fork.parent_id, fork.ended_at) == (SECOND, FIRST, None)
    assert "engine_base_url" not in fork.metadata
    assert (events_of(store, SECOND).count(), events_of(store, FIRST).count()) == (0, 1)
    assert [each.id for each in store.sessions.list(parent_id=FIRST)] == [SECOND]


def test_forking_what_is_not_there(store: Store) -> None:
    with pytest.raises(fsstate.NotFoundError):
        store.sessions.fork(FIRST)


def test_a_session_without_an_end_was_interrupted(store: Store, reopen: Reopen) -> None:
    start(store, FIRST)
    store.sessions.end(start(store, SECOND).id)
    sessions = reopen().sessions
    assert [each.id for each in sessions.all() if each.ended_at is None] == [FIRST]


def test_replay_of_the_last_200_shows_mode_changes_as_system(store: Store, reopen: Reopen) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    events.append_many((KINDS[number % 6], {"text": str(number)}) for number in range(250))
    replayed = events_of(reopen(), FIRST).tail(200)
    shown = ["system" if entry.kind == "mode_change" else entry.kind for entry in replayed]
    assert [entry["text"] for entry in replayed] == [str(number) for number in range(50, 250)]
    assert set(shown) == set(KINDS) - {"mode_change"}
    # What is shown is one thing, what happened another: the log keeps it.
    assert "mode_change" in {entry.kind for entry in replayed}


def test_sharing_at_most_1000_events_as_json(store: Store) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    events.append_many(("system", {"text": f"line {number}"}) for number in range(1200))
    shared = json.loads(
        json.dumps([{"seq": entry.seq, "kind": entry.kind, **entry.fields} for entry in events.tail(1000)])
    )
    assert len(shared) == 1000
    assert (shared[0], shared[-1]["text"]) == ({"seq": 201, "kind": "system", "text": "line 200"}, "line 1199")


def test_milestones_of_which_only_the_first_counts(store: Store, reopen: Reopen) -> None:
    first = "2026-01-01T00:00:00Z"
    assert store.settings.set_once("milestones/first_live_trade_at", first) == first
    assert store.settings.set_once("milestones/first_live_trade_at", "2026-02-02T00:00:00Z") == first
    assert reopen().settings.get("milestones/first_live_trade_at") == first


def test_milestones_are_told_apart_and_have_times(store: Store) -> None:
    store.settings.set("milestones/welcome_shown", "true")
    store.settings.set("milestones/last_daily_wrap_at", "2026-01-01")
    store.settings.set("theme", "dark")
    assert store.settings.items("milestones") == {
        "milestones/last_daily_wrap_at": "2026-01-01",
        "milestones/welcome_shown": "true",
    }
    setting = store.settings.setting("milestones/welcome_shown")
    assert setting is not None
    before = setting.updated_at
    store.settings.set("milestones/welcome_shown", "skipped")
    setting = store.settings.setting("milestones/welcome_shown")
    assert setting is not None
    assert before is not None
    assert setting.updated_at is not None
    assert setting.updated_at > before


# The report at the end of a long session


def wrap(store: Store, ulid: str) -> dict[str, Any] | None:
    """What zero writes into wraps/<ulid>.json: only for two hours or more, and a prompt or more."""
    session = store.session(ulid).document()
    assert session.created_at is not None
    assert session.ended_at is not None
    events = store.session(ulid).events.tail(10_000)
    counts = Counter(entry.kind for entry in events)
    lasted = max(session.ended_at - session.created_at, timedelta(0))
    if lasted < timedelta(hours=2) or not counts["prompt"]:
        return None
    report = {
        "schema": 1,
        "session_ulid": ulid,
        "duration_secs": int(lasted.total_seconds()),
        "total_events": len(events),
        "event_counts": {kind: counts[kind] for kind in KINDS},
        "top_commands": top_commands(store.session(ulid)),
    }
    store.collection("wraps").put(ulid, report)
    return report


def top_commands(session: SessionHandle) -> list[dict[str, Any]]:
    texts = (str(entry["text"]) for entry in session.events if entry.kind == "prompt")
    counted = Counter(text.split()[0] for text in texts if text.startswith("/"))
    ranked = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    return [{"name": name, "count": count} for name, count in ranked[:10]]


def test_the_wrap_report(store: Store, clock: FakeClock, reopen: Reopen) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    for text in ("/status", "/buy 1", "/buy 2", "/arm", "hello"):
        events.append("prompt", text=text)
    events.append("mode_change", text="live")
    clock.advance(hours=2)
    store.sessions.end(FIRST)
    report = wrap(store, FIRST)
    assert report == reopen().collection("wraps").get(FIRST)
    assert report is not None
    assert report["total_events"] == 6
    assert report["duration_secs"] >= 7200
    assert report["event_counts"] == {**dict.fromkeys(KINDS, 0), "prompt": 5, "mode_change": 1}
    assert [each["name"] for each in report["top_commands"]] == ["/buy", "/arm", "/status"]


def test_no_wrap_report_for_a_short_or_silent_session(store: Store, clock: FakeClock) -> None:
    start(store, FIRST)
    events_of(store, FIRST).append("prompt", text="/status")
    store.sessions.end(FIRST)
    start(store, SECOND)
    clock.advance(hours=3)
    store.sessions.end(SECOND)
    assert [wrap(store, ulid) for ulid in (FIRST, SECOND)] == [None, None]
    assert store.collection("wraps").names() == []


# What stands on the disk


def test_the_folders_above_come_with_the_first_write(tmp_path: Path) -> None:
    place = tmp_path / "operators" / "ada" / "state"
    with Store(place) as store:
        assert newest(store, None) == []
        assert not place.exists()
        start(store, FIRST)
    assert (place / "sessions" / f"{FIRST}.json").is_file()


def test_an_event_is_a_line_that_a_person_can_read(store: Store, directory: Path) -> None:
    start(store, FIRST)
    events_of(store, FIRST).append("prompt", text="> hello")
    line = json.loads((directory / "sessions" / FIRST / "events.jsonl").read_text())
    assert list(line) == ["seq", "kind", "at", "text"]
    assert datetime.fromisoformat(line["at"]).tzinfo is not None


def test_a_time_that_cannot_be_read_is_not_now(store: Store, directory: Path) -> None:
    # The reference takes the present for it, a new one at each look.
    start(store, FIRST)
    events = events_of(store, FIRST)
    with pytest.raises(fsstate.InvalidValueError, match="'yesterday' is not a time"):
        events.append("system", text="x", at="yesterday")
    log = directory / "sessions" / FIRST / "events.jsonl"
    log.parent.mkdir(exist_ok=True)
    log.write_text('{"seq":1,"kind":"system","at":"yesterday","text":"x"}\n')
    entry = events.tail(1)[0]
    assert (entry.at, entry["at"], entry["text"]) == (None, "yesterday", "x")


def test_a_line_that_was_cut_off_costs_no_other_event(
    store: Store, directory: Path, reopen: Reopen, caplog: pytest.LogCaptureFixture
) -> None:
    start(store, FIRST)
    events = events_of(store, FIRST)
    events.append("prompt", text="> hello")
    with (directory / "sessions" / FIRST / "events.jsonl").open("a") as file:
        file.write('{"seq":2,"kind":"sys')
    again = events_of(reopen(), FIRST)
    assert [entry["text"] for entry in again.tail(10)] == ["> hello"]
    assert again.append("system", text="back") > 1
    assert [entry["text"] for entry in again] == ["> hello", "back"]
    assert "events.jsonl" in caplog.text or again.problems() == []


def test_a_store_of_a_newer_program_is_refused_and_not_touched(store: Store, directory: Path, reopen: Reopen) -> None:
    start(store, FIRST)
    mark = directory / ".fsstate" / "store.json"
    newer = mark.read_text().replace('"format": 1', '"format": 99')
    mark.write_text(newer)
    with pytest.raises(fsstate.NewerFormatError, match="99"):
        reopen()
    assert mark.read_text() == newer


def test_the_example(run_example: RunExample) -> None:
    printed = run_example("zero_session.py")
    assert "session: interrupted, 2 events, label None" in printed
    assert "session: ended, 5 events, label friday" in printed
    assert printed[-1] == "report: [('/buy', 2), ('/status', 1)]"
