"""The store itself: what it opens, and what it gives."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import fsstate
from fsstate.errors import InvalidNameError, NotFoundError, StorageError, StoreClosedError
from fsstate.store import Store


class Agent(msgspec.Struct):
    name: str
    n: int = 0


def test_it_gives_all_kinds_of_records(store: Store) -> None:
    store.collection("agents").put("planner", {"n": 1})
    store.collection("teams/red/agents", model=Agent).put("a", Agent("a", 2))
    store.markdown("notes").put("standup", "# Today\n")
    store.journal("audit", "trail").append("login", user="u")
    session = store.sessions.create()
    store.session(session.id).messages.append("user", "Hello")
    assert store.categories() == ["agents", "audit", "notes", "sessions", "teams"]
    assert store.categories("teams/red") == ["agents"]
    assert store.collection("teams/red/agents", model=Agent)["a"] == Agent("a", 2)
    assert store.journal("audit", "trail").tail(1)[0]["user"] == "u"
    assert store.sessions is store.sessions
    assert store.session(session.id).document() == session


def test_where_records_are(store: Store) -> None:
    store.collection("agents").put("planner", {})
    store.markdown("notes").put("standup", "x")
    store.journal("audit", "trail").append("x")
    session = store.sessions.create(id="s")
    summary = store.sessions.summary("s")
    assert summary is not None
    for record, end in (
        (session, "sessions/s.json"),
        (summary, "sessions/s.json"),
        (("agents", "planner"), "agents/planner.json"),
        (("notes", "standup"), "notes/standup.md"),
        (("audit", "trail"), "audit/trail.jsonl"),
        (("agents", "nobody"), "agents/nobody.json"),
    ):
        assert store.path_of(record).endswith(end)
    one = store.session("s")
    assert one.path == store.path_of(session)
    assert one.messages.path.endswith("sessions/s/messages.jsonl")
    assert one.events.path.endswith("sessions/s/events.jsonl")
    assert one.tool_calls.path.endswith("sessions/s/tool_calls.jsonl")
    assert one.steps.path.endswith("sessions/s/steps.jsonl")


def test_names_are_checked(store: Store) -> None:
    for act in (store.collection, store.markdown, store.categories, store.session):
        with pytest.raises(InvalidNameError):
            act("../x")
    with pytest.raises(InvalidNameError):
        store.path_of(("a", "b/c"))


def test_a_session_has_records_of_your_own(store: Store) -> None:
    one = store.session("s")
    assert not one.exists()
    with pytest.raises(NotFoundError):
        one.document()
    store.sessions.create(id="s")
    assert one.exists()
    one.collection("checkpoints").put("latest", {"a": 1})
    one.collection(model=Agent).put("goal", Agent("g"))
    one.markdown().put("notes", "x")
    one.journal("audit").append("x", n=1)
    assert one.journal("audit").last() is not None
    assert store.categories("sessions/s") == ["checkpoints"]
    for name in ("messages", "tool_calls", "steps"):
        with pytest.raises(ValueError, match="no plain journal"):
            one.journal(name)


def test_after_close(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosedError):
        store.collection("a").get("b")
    with pytest.raises(StoreClosedError):
        store.sessions.create()


def test_a_store_in_memory() -> None:
    with Store.in_memory() as store:
        store.collection("a").put("b", {"c": 1})
        assert store.collection("a")["b"] == {"c": 1}
        assert store.path == ":memory:"


def test_a_store_of_files(tmp_path: Path) -> None:
    root = tmp_path / "state"
    with fsstate.Store(root) as store:
        assert store.collection("a").names() == []
        assert store.sessions.list() == []
        assert not root.exists()
        store.collection("a").put("b", {"c": 1})
        assert store.path == str(root)
    assert (root / "a" / "b.json").read_text() == '{\n  "c": 1\n}\n'
    assert (root / ".fsstate" / "store.json").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        fsstate.Store(tmp_path / "file")


def test_the_conversation_on_disk(tmp_path: Path) -> None:
    with fsstate.Store(tmp_path) as store:
        store.sessions.create(id="s")
        messages = store.session("s").messages
        messages.append("user", "Hello", id="a")
        messages.append("assistant", "Hi", id="b")
        lines = Path(messages.path).read_text().splitlines()
    assert lines[0].startswith('{"seq":1,"id":"a","role":"user","content":"Hello","at":"')
    assert lines[1].startswith('{"seq":2,"id":"b","role":"assistant","content":"Hi","parent":"a","at":"')


def test_every_public_name_is_there() -> None:
    from importlib.util import find_spec

    for name in fsstate.__all__:
        if name != "AsyncStore" or find_spec("fsstate.aio") is not None:
            assert hasattr(fsstate, name), name
    assert set(fsstate.__all__) <= set(dir(fsstate))
    with pytest.raises(AttributeError, match="nothing"):
        _ = fsstate.nothing  # type: ignore[attr-defined]


def test_the_import_is_light() -> None:
    heavy = "asyncio anyio filelock msgspec orjson ruamel dataclasses logging"
    code = f"import sys, fsstate; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "use",
    [
        "store.session(store.sessions.create().id).messages.append('user', 'Hello')",
        "store.collection('tasks', indexed=['a']).put('x', {'a': 1})",
    ],
)
def test_who_lists_nothing_does_without_a_database(tmp_path: Path, use: str) -> None:
    code = f"import sys, fsstate; store = fsstate.Store({str(tmp_path)!r}); {use}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sqlite3" not in done.stdout.split()


def test_a_conversation_does_without_the_other_record_types(tmp_path: Path) -> None:
    use = "store.sessions.create(id='s'); store.session('s').messages.append('user', 'Hello')"
    code = f"import sys, fsstate; store = fsstate.Store({str(tmp_path)!r}); {use}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {f"fsstate.{each}" for each in ("agents", "jobs", "runs", "workflows")}
