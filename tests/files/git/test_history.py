"""What became of a record: its commits, how two of them differ, and how it was."""

import pytest

import fsstate
from fsstate import NotFoundError, Store
from tests.files.git.repository import Repo
from tests.git import needs_git

pytestmark = needs_git


def test_what_became_of_a_document(own: tuple[Store, Repo]) -> None:
    store, repo = own
    agents = store.collection("agents")
    first = store.snapshot("one")
    agents.put("planner", {"n": 1, "status": "busy"})
    store.collection("agents").put("other", {})
    second = store.snapshot("two")
    repo.write("agents/planner.json", "not JSON any more\n")
    store.snapshot("broken")
    agents.delete("planner")
    store.snapshot("gone")
    found = store.history.log("agents/planner")
    assert [(commit.subject, commit.summary) for commit in found] == [
        ("gone", "removed"),
        ("broken", "+1 −4 lines"),
        ("two", "n, status"),
        ("one", "added"),
    ]
    assert [commit.id for commit in found[2:]] == [second, first]
    assert {commit.author for commit in found} == {"Ada Ünal"}
    assert found[0].at.tzinfo is not None
    assert store.history.log("agents/planner.json", limit=1) == found[:1]
    assert store.history.log("agents/planner", limit=0) == []
    with pytest.raises(NotFoundError, match="agents/nobody neither exists"):
        store.history.log("agents/nobody")


def test_what_became_of_a_session(own: tuple[Store, Repo]) -> None:
    store, _ = own
    session = store.session(store.sessions.create(id="0198c3f2-first", title="A").id)
    store.snapshot("one")
    session.messages.append("user", "Hi")
    session.messages.append("assistant", "Ho")
    session.events.append("started")
    store.snapshot("two")
    store.collection("sessions").update("0198c3f2-first", lambda document: {**document, "title": "B"})
    session.messages.append("user", "More")
    session.checkpoints.save("first", {"at": 1})
    store.snapshot("three")
    store.collection("sessions").put("0198c3f2-fir", {"id": "0198c3f2-fir"})
    store.snapshot("another")
    found = store.history.log("0198c3f2-first")
    assert [commit.summary for commit in found] == [
        "title, checkpoints/first added, +1 message",
        "+1 event, +2 messages",
        "added",
    ]
    assert [change.path for change in found[0].changes] == [
        "sessions/0198c3f2-first.json",
        "sessions/0198c3f2-first/checkpoints/first.json",
        "sessions/0198c3f2-first/messages.jsonl",
    ]
    assert store.history.log("0198c3f2-firs") == found
    assert store.history.log("sessions/0198c3f2-first") == found
    assert [c.summary for c in store.history.log("sessions/0198c3f2-first/messages")] == ["+1 entry", "+2 entries"]
    with pytest.raises(fsstate.AmbiguousIdError):
        store.history.log("0198c3")
    store.sessions.delete("0198c3f2-first")
    store.snapshot("gone")
    assert store.history.log("0198c3f2-firs")[1:] == found


def test_a_record_is_followed_to_where_it_stood_before(own: tuple[Store, Repo]) -> None:
    store, repo = own
    store.collection("teams/red").put("ada", {"n": 1})
    store.snapshot("one")
    store.collection("teams/red").put("ada", {"n": 2})
    store.snapshot("two")
    (repo.path / "teams/blue").mkdir()
    (repo.path / "teams/red/ada.json").rename(repo.path / "teams/blue/ada.json")
    store.snapshot("moved")
    store.collection("teams/blue").put("ada", {"n": 3})
    store.collection("teams/green").put("ada", {"n": 3})
    store.snapshot("three")
    store.collection("teams/blue").put("ada", {"n": 4})
    store.collection("teams/green").delete("ada")
    store.snapshot("four")
    found = store.history.log("teams/blue/ada")
    assert [(commit.subject, commit.record) for commit in found] == [
        ("four", "teams/blue/ada.json"),
        ("three", "teams/blue/ada.json"),
        ("moved", "teams/blue/ada.json"),
        ("two", "teams/red/ada.json"),
        ("one", "teams/red/ada.json"),
    ]
    for limit in range(6):
        assert store.history.log("teams/blue/ada", limit=limit) == found[:limit]


def test_merges_and_odd_messages(own: tuple[Store, Repo]) -> None:
    store, repo = own
    agents = store.collection("agents")
    store.snapshot("one")
    repo.git("checkout", "--quiet", "-b", "side")
    agents.put("side", {})
    agents.put("planner", {"n": 0, "status": "idle", "side": True})
    store.snapshot("side\tand :100644 more\nsecond line")
    repo.git("checkout", "--quiet", "main")
    agents.put("other", {})
    store.snapshot("main")
    repo.git("merge", "--quiet", "--no-edit", "side")
    repo.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", "")
    agents.put("planner", {"n": 0})
    repo.git("commit", "--quiet", "--all", "--allow-empty-message", "-m", "")
    found = store.history.log("agents/planner")
    assert [(commit.subject, commit.summary) for commit in found] == [
        ("", "status, side"),
        ("side\tand :100644 more second line", "side"),
        ("one", "added"),
    ]


def test_logs_and_notes_and_settings_of_the_persons(own: tuple[Store, Repo]) -> None:
    store, repo = own
    # The last is one that git warns about at every run.
    for setting in (
        "log.showRoot=false",
        "log.follow=true",
        "diff.renames=copies",
        "core.quotePath=true",
        "core.fsyncObjectFiles=true",
    ):
        repo.git("config", *setting.split("="))
    repo.git("config", "color.ui", "always")
    log = store.journal("audit", "trail")
    for number in range(3):
        log.append("made", number=number)
    store.markdown("notes").put("ünï", "one\ntwo\n")
    store.snapshot("one")
    log.append("more")
    log.trim(before=3)
    store.markdown("notes").put("ünï", "one\nthree\nfour\n")
    store.snapshot("two")
    assert [commit.summary for commit in store.history.log("audit/trail")] == ["+1 −2 entries", "+3 entries"]
    assert [commit.summary for commit in store.history.log("notes/ünï")] == ["+2 −1 lines", "added"]
    shown = store.history.diff("notes/ünï", "HEAD~1", "HEAD")
    assert "\x1b" not in shown
    assert "-two\n+three\n+four\n" in shown


def test_several_records_of_one_name(own: tuple[Store, Repo]) -> None:
    store, _ = own
    store.markdown("agents").put("planner", "x")
    store.snapshot("one")
    with pytest.raises(fsstate.AmbiguousIdError, match="give its extension, too"):
        store.history.log("agents/planner")
    assert len(store.history.log("agents/planner.md")) == 1


def test_what_differs(own: tuple[Store, Repo]) -> None:
    store, _ = own
    agents = store.collection("agents")
    store.snapshot("one")
    agents.put("planner", {"n": 1, "status": "idle"})
    store.snapshot("two")
    agents.put("planner", {"n": 2, "status": "idle"})
    agents.put("other", {"n": 2})
    assert '-  "n": 1,\n+  "n": 2,\n' in store.history.diff("agents/planner")
    assert '-  "n": 0,\n+  "n": 2,\n' in store.history.diff("agents/planner", "HEAD~1")
    assert '-  "n": 0,\n+  "n": 1,\n' in store.history.diff("agents/planner", "HEAD~1", "HEAD")
    assert "other" not in store.history.diff("agents/planner")
    with pytest.raises(NotFoundError, match="git knows no commit 'nowhere'"):
        store.history.diff("agents/planner", "nowhere")
    with pytest.raises(NotFoundError):
        store.history.show("agents/planner", "--help")


def test_as_it_was(own: tuple[Store, Repo]) -> None:
    store, _ = own
    session = store.session(store.sessions.create(id="first").id)
    session.messages.append("user", "Hi")
    commit = store.snapshot("one")
    assert commit is not None
    session.messages.append("user", "Ho")
    store.snapshot("two")
    version = store.history.show("first", "HEAD~1")
    assert (version.record, version.commit) == ("sessions/first.json", commit)
    assert list(version.files) == ["sessions/first.json", "sessions/first/messages.jsonl"]
    assert version.files["sessions/first/messages.jsonl"].count(b"\n") == 1
    store.collection("agents").put("later", {})
    store.snapshot("three")
    with pytest.raises(NotFoundError, match=r"agents/later\.json did not exist in HEAD~1"):
        store.history.show("agents/later", "HEAD~1")
