"""The way back: documents, logs and sessions as a commit has them."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

import fsstate
from fsstate import NotFoundError, Store, StoreOptions, UncommittedError
from fsstate.backends.base import Move, Ref
from fsstate.trash import Trash, TrashItem
from tests.files import processes
from tests.files.git.repository import Repo, a_session, texts
from tests.git import needs_git

pytestmark = needs_git


def test_a_document_comes_back(own: tuple[Store, Repo]) -> None:
    store, repo = own
    agents = store.collection("agents", indexed=["status"])
    first = store.snapshot("one")
    assert first is not None
    before = (repo.path / "agents/planner.json").read_bytes()
    agents.put("planner", {"n": 1, "status": "busy"})
    with pytest.raises(UncommittedError, match=r"agents/planner\.json: .*take a snapshot first, or force it") as raised:
        store.history.restore("agents/planner", first)
    assert raised.value.paths == ["agents/planner.json"]
    store.snapshot("two")
    planned = store.history.restore("agents/planner", first, dry_run=True)
    assert [tuple(each) for each in planned.files] == [("agents/planner.json", "replaced")]
    assert agents["planner"]["n"] == 1
    assert store.history.restore("agents/planner", "HEAD~1") == planned._replace(dry_run=False)
    assert (repo.path / "agents/planner.json").read_bytes() == before
    assert [name for name, _ in agents.query(where={"status": "idle"}, limit=5)] == ["planner"]
    assert store.history.restore("agents/planner", first).files == []
    agents.put("planner", {"n": 9})
    store.history.restore("agents/planner", first, force=True)
    agents.delete("planner")
    assert store.history.restore("agents/planner", first).files[0].change == "added"
    assert agents["planner"] == {"n": 0, "status": "idle"}


def test_a_log_comes_back_and_gives_out_no_number_again(own: tuple[Store, Repo]) -> None:
    store, repo = own
    log = store.journal("audit", "trail")
    for number in range(3):
        log.append("made", number=number)
    first = store.snapshot("one")
    assert first is not None
    before = Path(log.path).read_bytes()
    log.append("more")
    log.append("more")
    store.snapshot("two")
    store.history.restore("audit/trail", first)
    assert Path(log.path).read_bytes() == before + b'{"seq":5,"fsstate":"trimmed"}\n'
    assert [entry.seq for entry in log] == [1, 2, 3]
    assert (log.count(), log.problems()) == (3, [])
    last = log.last()
    assert last is not None
    assert last.seq == 3
    assert store.history.restore("audit/trail", first).files == []
    assert log.append("after") == 6
    assert [entry.seq for entry in log.read(after=3)] == [6]
    assert log.tail(2)[0].seq == 3
    store.snapshot("three")
    Path(log.path).unlink()
    store.history.restore("audit/trail", first)
    assert log.append("again") == 7
    repo.git("fsck", "--strict")


def test_the_last_entry_is_known_behind_the_marker(own: tuple[Store, Repo]) -> None:
    store, _ = own
    session = store.session(store.sessions.create(id="first").id)
    one = session.messages.append("user", "one")
    first = store.snapshot("one")
    assert first is not None
    session.messages.append("user", "two")
    store.snapshot("two")
    store.history.restore("sessions/first/messages", first)
    with Store(store.path) as fresh:
        added = fresh.session("first").messages.append("user", "three")
    assert added.parent_id == one.id
    assert added.seq == 3


def test_a_session_comes_back_with_all_that_belonged_to_it(own: tuple[Store, Repo]) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    assert [hit.session for hit in store.search("two")] == ["talk"]
    report = store.history.restore("talk", first)
    assert {each.path.removeprefix("sessions/"): each.change for each in report.files} == {
        "talk.json": "replaced",
        "talk/messages.jsonl": "replaced",
        "talk/checkpoints/later.json": "removed",
        "talk/extra.jsonl": "removed",
    }
    session = store.session("talk")
    assert texts(store, "talk") == ["one"]
    assert [each.title for each in store.sessions.list()] == ["first title"]
    assert store.search("two") == []
    assert session.checkpoints.names() == []
    assert session.journal("extra").read() == []
    # No number comes twice, also in a log that was not there then.
    assert session.journal("extra").append("y") == 2
    assert session.messages.append("user", "three").seq == 3
    assert session.events.append("more") == 2
    assert store.trash.list() == []
    with pytest.raises(UncommittedError):
        store.history.restore("talk", second)
    forced = store.history.restore("talk", second, force=True)
    assert forced.in_trash
    assert texts(store, "talk") == ["one", "two"]
    assert session.checkpoints.names() == ["later"]
    assert [(item.record, item.reason) for item in store.trash.list()] == [("sessions/talk.json", "replaced")]
    store.sessions.delete("talk")
    store.trash.restore("talk")
    assert texts(store, "talk") == ["one", "three"]


def test_a_deleted_session_comes_back_whole(own: tuple[Store, Repo]) -> None:
    store, repo = own
    first, second = a_session(store, "talk")
    store.sessions.delete("talk")
    store.snapshot("gone")
    report = store.history.restore("talk", first)
    assert {each.change for each in report.files} == {"added"}
    assert texts(store, "talk") == ["one"]
    # Also what was given out after the version that came back, as far as a commit has it.
    assert store.session("talk").messages.append("user", "three").seq == 3
    store.sessions.delete("talk")
    # What a killed deletion leaves belongs to nobody.
    repo.write("sessions/talk/left.json", "{}\n")
    store.history.restore("talk", second)
    assert not (repo.path / "sessions/talk/left.json").exists()
    assert texts(store, "talk") == ["one", "two"]
    assert store.trash.list() == []


def test_what_belongs_to_a_session_comes_back_by_itself(own: tuple[Store, Repo]) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    store.history.restore("sessions/talk/messages", first)
    assert texts(store, "talk") == ["one"]
    assert store.session("talk").checkpoints.names() == ["later"]
    store.session("talk").checkpoints.delete("later")
    store.history.restore("sessions/talk/checkpoints/later", second)
    assert store.session("talk").checkpoints.names() == ["later"]
    store.sessions.delete("talk")
    with pytest.raises(NotFoundError, match=r"belongs to sessions/talk\.json, which does not exist; restore that"):
        store.history.restore("sessions/talk/checkpoints/later", second)


def test_other_files_in_a_sessions_folder_go_with_it(own: tuple[Store, Repo]) -> None:
    store, repo = own
    store.sessions.create(id="talk")
    data = bytes(range(256))
    (repo.path / "sessions/talk").mkdir()
    (repo.path / "sessions/talk/picture.png").write_bytes(data)
    first = store.snapshot("one")
    assert first is not None
    (repo.path / "sessions/talk/picture.png").unlink()
    (repo.path / "sessions/talk/new").write_bytes(b"x")
    with pytest.raises(UncommittedError, match="sessions/talk/new"):
        store.history.restore("talk", first)
    store.snapshot("two")
    store.history.restore("talk", first)
    assert (repo.path / "sessions/talk/picture.png").read_bytes() == data
    assert os.listdir(repo.path / "sessions/talk") == ["picture.png"]


def test_a_session_in_use_is_left_alone(own: tuple[Store, Repo]) -> None:
    first, _ = a_session(own[0], "talk")
    with Store(own[0].path, StoreOptions(lock_timeout=0.1)) as store:
        with own[0].session("talk").messages.stream("assistant") as stream:
            stream.write("so f")
            with pytest.raises(fsstate.LockTimeoutError):
                store.history.restore("talk", first, force=True)
        assert texts(store, "talk") == ["one", "two", "so f"]
        assert store.trash.list() == []


READER = """
    import json
    from fsstate import Store
    store = Store(root)
    print("ready", flush=True)
    seen = set()
    while not os.path.exists(sys.argv[2]):
        document = store.collection("sessions").get("talk")
        texts = [m.text for m in store.session("talk").messages.list()]
        again = store.collection("sessions").get("talk")
        if document is not None and document == again:
            seen.add((document["title"], len(texts)))
    print(json.dumps(sorted(seen)))
"""


def test_readers_find_the_one_or_the_other(own: tuple[Store, Repo], tmp_path: Path) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    end = tmp_path / "end"
    with processes.start(READER, Path(store.path), end) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(6):
            store.history.restore("talk", second if number % 2 else first, force=True)
        end.touch()
        out, err = reader.communicate(timeout=60)
    assert err == ""
    seen = {(title, number) for title, number in json.loads(out)}
    assert {("first title", 1), ("second title", 2)} <= seen
    # Between the two there is none; what a reader puts together across an exchange is its own.
    assert {title for title, _ in seen} == {"first title", "second title"}


# Kills a restore before each of its changes, but for a few between two that are tried, and judges what is left.
KILLED = """
    import itertools, json
    from fsstate import Store
    from tests.files.killing import killed_before
    first, second, stride = sys.argv[2:]

    def restore():
        with Store(root) as store:
            store.history.restore("talk", first)

    def texts(store):
        return [message.text for message in store.session("talk").messages.list()]

    for change in itertools.count(0, int(stride)):
        killed = killed_before(change, restore)
        with Store(root) as store:
            in_trash = "talk" not in store.sessions.ids()
            if in_trash:
                store.trash.restore("talk")
            print(json.dumps([in_trash, store.sessions.list()[0].title, texts(store)]))
            if not killed:
                break
            store.history.restore("talk", second, force=True)
            assert texts(store) == ["one", "two"]
            store.trash.empty()
"""


def test_a_restore_that_is_killed_loses_nothing(own: tuple[Store, Repo]) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    out = processes.run(KILLED, Path(store.path), first, second, os.environ.get("FSSTATE_STRIDE", "9"))
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) > 5
    assert found[0] == [False, "second title", ["one", "two"]]
    assert found[-1] == [False, "first title", ["one"]]
    assert all(each[1:] in (found[0][1:], found[-1][1:]) for each in found)
    assert store.trash.list() == []


def test_a_restore_that_is_tried_again_gives_out_no_number_again(own: tuple[Store, Repo]) -> None:
    """Cut off while the session is in the trash, with entries that no commit has."""
    store, _ = own
    first, _ = a_session(store, "talk")
    at = datetime.now(UTC)
    assert store.session("talk").events.append("in no commit") == 2
    store.session("talk").journal("new").append("in no commit")
    with Trash(store.backend).filling() as going:
        going.announce([TrashItem("", "sessions/talk.json", "replaced", None, at, 1, has_belongings=True)])
        ref = Ref("sessions", "talk", ".json")
        assert store.backend.move_many([Move(ref, ref.belongings, going.place_of(ref), None)]) == [True]
    store.history.restore("talk", first)
    assert store.session("talk").events.append("later") == 3
    assert store.session("talk").journal("new").append("later") == 2


@processes.needs_strace
@pytest.mark.parametrize(
    ("record", "flushed"),
    [
        ("agents/planner", ["agents/planner.json", "agents"]),
        ("audit/trail", ["audit/trail.jsonl", "audit"]),
        ("talk", ["sessions/talk.json", "sessions"]),
    ],
)
def test_what_is_there_already_lasts_when_it_is_told_of(
    own: tuple[Store, Repo], tmp_path: Path, record: str, flushed: list[str]
) -> None:
    """A restore before this one may have been killed, with all in its place and not flushed."""
    store, _ = own
    a_session(store, "talk")
    store.journal("audit", "trail").append("one")
    store.snapshot("one")
    log = tmp_path / "strace.txt"
    wrapper = ("strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync")
    code = (
        f'from fsstate import Store\nwith Store(root) as store:\n    print(store.history.restore("{record}", "HEAD"))'
    )
    assert "files=[]" in processes.run(code, Path(store.path), wrapper=wrapper)
    for path in flushed:
        assert f"{store.path}/{path}>" in log.read_text(), path


def test_a_document_is_restored_alone_beside_a_category_of_its_name(own: tuple[Store, Repo]) -> None:
    store, _ = own
    store.collection("teams").put("red", {"n": 1})
    store.collection("teams/red").put("ada", {})
    first = store.snapshot("one")
    assert first is not None
    store.collection("teams").put("red", {"n": 2})
    store.collection("teams/red").put("ben", {})
    store.snapshot("two")
    assert [commit.summary for commit in store.history.log("teams/red")] == ["n", "added"]
    assert [tuple(each) for each in store.history.restore("teams/red", first).files] == [("teams/red.json", "replaced")]
    assert store.collection("teams/red").names() == ["ada", "ben"]
