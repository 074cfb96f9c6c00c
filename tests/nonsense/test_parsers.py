"""Whatever bytes stand in a file, or come from a person: they are read, or refused with a clear error, and stay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate import codec, names
from fsstate.backends.base import Blob, LogLine
from fsstate.backends.files import log_lines
from fsstate.conversation import message_of
from fsstate.cursors import page_of, position_in
from fsstate.errors import CorruptRecordError, FsStateError, InvalidValueError
from fsstate.frontmatter import Document
from fsstate.options import StoreOptions
from fsstate.queries import Order, Position, Question
from fsstate.search.query import Query
from fsstate.store import Store
from fsstate.times import format_time, parse_time
from fsstate.trash import ref_of
from tests.nonsense.fuzz import Read, fuzz

DOCUMENTS: Final = [
    b"{}",
    b"null",
    b'{\n  "id": "planner",\n  "status": "idle",\n  "n": 3,\n  "tags": ["a"],\n  "at": "2026-01-01T00:00:00Z"\n}\n',
    b'\xef\xbb\xbf{"deep": {"er": [1, 2.5, -3e10, true, false, null, "\\u00fc\\ud83d\\ude00"]}}\r\n',
    b'{"big": 123456789012345678901234567890, "huge": ' + b"9" * 400 + b"}",
    b"[" * 200 + b"]" * 200,
]
LINES: Final = [
    b'{"seq":1,"kind":"login","at":"2026-01-01T00:00:00.000000Z","user":"ada"}\n',
    b'{"seq":2,"kind":"logout","at":1735689600}\n{"seq":5,"kind":"x"}\n',
    b'{"seq":900000000000000000,"fsstate":"trimmed"}\n',
    (
        b'{"seq":1,"id":"a","role":"user","content":"Hi","at":"2026-01-01T00:00:00.000000Z"}\n'
        b'{"seq":2,"id":"b","role":"assistant","content":[{"type":"text","text":"x"}],"parent":"a","steps":[0,1]}\n'
        b'{"seq":3,"head":"a","at":"x"}\n{"seq":4,"update":"b","delta":"more","status":"rated","head":"b"}\n'
    ),
]
NOTES: Final = [
    b"# Title\n\nText.\n",
    b"---\ntitle: Standup # why\ntags: [a, b]\ndate: 2026-01-01\nn: 0x1F\n---\n\nText\n",
    b"---\r\nkey: |\r\n  block\r\nother: &anchor {a: 1}\r\nagain: *anchor\r\n...\r\ntext",
    b"\xef\xbb\xbf---\n'quoted': \"\\u00e9\"\n? complex\n: value\n---\n",
    b"---\na: !!set {x}\nb: !custom y\nc: 2001-12-14t21:59:43.10-05:00\n<<: {d: 1}\n---\n",
]
TIMES: Final = [
    b"2026-01-31T12:00:00.000000Z", b"2026-01-31 12:00:00+02:00", b"20260131T120000Z", b"1735689600123", b"-1.5",
    b"2016-12-31T23:59:60Z", b"9999-12-31T23:59:60Z", b"0001-01-01T00:00:00+01:00", b"2026-W05-6T12:00:00.000000Z",
]  # fmt: skip
QUESTION: Final = Question(order=(Order("n", descending=True), Order("title", descending=False)), limit=1)
CURSOR: Final = page_of(["a", "b"], QUESTION, "x", lambda each: Position((b"\x01\x02", None), each)).cursor


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def read_document(data: bytes) -> None:
    value = codec.decode(Blob(data), "the file")
    again = codec.encode(value)
    assert codec.decode_bytes(again, "again") == value
    assert codec.encode(codec.decode_bytes(again, "again")) == again


def read_line(data: bytes) -> None:
    value = codec.decode_line(data, "the file", offset=7)
    assert codec.decode_line(codec.encode_line(value), "again") == value


def parse_line(data: bytes) -> None:
    for line in data.splitlines() or [b""]:
        parsed = log_lines.parse(line, 0, 1)
        if isinstance(parsed, LogLine):
            assert 1 <= parsed.seq <= log_lines.LARGEST_SEQ
        else:
            assert parsed.reason


def read_message(data: bytes) -> None:
    row = codec.decode_line(data.splitlines()[0] if data.strip() else data, "the log")
    message = message_of(row, "the log")
    assert message.text is not None


def read_note(data: bytes) -> None:
    note = Document.parse(data, "the note")
    assert note.render() == data
    head = note.front_matter
    assert note.render() == data
    if head is None:
        return
    # What YAML knows and JSON does not is kept as it is, and refused only where it is changed.
    note.front_matter = {**head, "added": ["by", 1]}
    with contextlib.suppress(InvalidValueError):
        again = Document.parse(note.render(), "again")
        assert again.front_matter == {**head, "added": ["by", 1]} or has_nan(head)
        assert again.text == note.text


def has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_nan(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(has_nan, value))
    return bool(value != value)  # noqa: PLR0124 - so NaN is told


def read_time(data: bytes) -> None:
    for told in (text_of(data), number_in(data)):
        try:
            time = parse_time(told)
        except ValueError as error:
            assert "expected" in str(error), error  # noqa: PT017 - either outcome is right
            continue
        assert parse_time(format_time(time)) == time


def number_in(data: bytes) -> Any:
    try:
        return codec.decode_bytes(data, "a number")
    except CorruptRecordError:
        return None


def read_name(data: bytes) -> None:
    text = text_of(data)
    assert names.key_of(names.name_for(text)) == text or len(names.name_for(text)) == 64
    assert names.is_segment(names.name_for(text))
    quoted = names.quote_name(text)
    assert names.check_segment(quoted) == quoted
    assert names.unquote_name(quoted) == text


def unquote(data: bytes) -> None:
    names.unquote_name(text_of(data))


def read_category(data: bytes) -> None:
    names.check_category(text_of(data))


def read_cursor(data: bytes) -> None:
    position_in(text_of(data), QUESTION, "x")


def read_query(data: bytes) -> None:
    query = Query.parse(text_of(data))
    assert query.wanted


def read_record(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert str(ref_of(text_of(data))) == text_of(data)


class Reader(NamedTuple):
    """Something that reads, and what it reads when all is well."""

    read: Read
    seeds: list[bytes]


PURE: Final = {
    "document": Reader(read_document, DOCUMENTS),
    "line": Reader(read_line, LINES),
    "lines of a log": Reader(parse_line, LINES),
    "message": Reader(read_message, LINES),
    "note": Reader(read_note, NOTES),
    "time": Reader(read_time, TIMES),
    "name": Reader(read_name, [b"planner", "ü".encode(), b"a/b%2Fc", b"CON.txt", b".hidden.json", b"x" * 199, b"%"]),
    "quoted name": Reader(unquote, [b"a%2Fb", b"%", b"%FF", b"%C3%BC", b"%ED%A0%80", b"%2"]),
    "category": Reader(read_category, [b"teams/red/agents", b"a", b"a/../b", b"a//b", b".fsstate/trash", b"a.json/b"]),
    "cursor": Reader(read_cursor, [(CURSOR or "").encode(), b"", b"W10=", b"e30="]),
    "query": Reader(
        read_query, [b'red "a phrase" beg* OR x -y', "東京 snake_case".encode(), b"-a", b'"', b"NOT OR AND"]
    ),
    "record": Reader(read_record, [b"agents/planner.json", b"a/b/c.jsonl", b"x.md", b"/.md", b"a/.json"]),
}
slow = {"note": 10}


@pytest.mark.parametrize("name", PURE)
def test_readers(name: str) -> None:
    reader = PURE[name]
    fuzz(reader.read, reader.seeds, inputs=400 // slow.get(name, 1))


@pytest.mark.soak
@pytest.mark.parametrize("name", PURE)
def test_readers_for_long(name: str, soak_seconds: float) -> None:
    reader = PURE[name]
    fuzz(reader.read, reader.seeds, seconds=soak_seconds)


@given(data=st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(data: bytes) -> None:
    for reader in PURE.values():
        with contextlib.suppress(FsStateError):
            reader.read(data)


# Files in a store


class Place:
    """A store with sound records, in which the file of one is damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = self._opened()
        self.store.collection("agents").put("sound", {"status": "idle"})
        self.store.markdown("notes").put("sound", "text")
        self.store.sessions.create(id="sound")
        self.store.sessions.create(id="other")
        self.store.session("other").messages.append("user", "Hi", id="m")

    def _opened(self) -> Store:
        return Store(self.root, StoreOptions(durability="process", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC)))

    def close(self) -> None:
        self.store.close()

    def reopen(self) -> None:
        """Go on as another program, which has appended to no log yet: nothing is put back that an edit took along."""
        self.store.close()
        self.store = self._opened()

    def put(self, place: str, data: bytes) -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        # Else whoever appends would wait: somebody might be writing it still.
        os.utime(path, (0, 0))
        return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "state")
    yield place
    place.close()


def refused(work: Callable[[], object], path: Path, data: bytes) -> bool:
    """Whether the work is refused; the file is as it was then."""
    try:
        work()
    except FsStateError:
        assert path.read_bytes() == data
        return True
    return False


def use_document(place: Place, data: bytes) -> None:
    path = place.put("agents/damaged.json", data)
    agents = place.store.collection("agents")
    assert "sound" in [item.name for item in agents.query(where=lambda _: True)]
    assert [item.name for item in agents.query({"status": "idle"}) if item.name == "sound"]
    is_bad = refused(lambda: agents.get("damaged"), path, data)
    assert is_bad == bool(agents.problems())
    assert path.read_bytes() == data
    assert refused(lambda: agents.update("damaged", lambda value: value), path, data) == is_bad
    # Nothing changed: nothing was written, whatever the layout.
    assert path.read_bytes() == data
    assert refused(lambda: agents.put("damaged", {"new": 1}), path, data) == is_bad
    if not is_bad:
        assert agents.get("damaged") == {"new": 1}
    assert agents.delete("damaged")


def use_session(place: Place, data: bytes) -> None:
    path = place.put("sessions/damaged.json", data)
    sessions = place.store.sessions
    assert "sound" in [each.id for each in sessions.list(limit=None)]
    is_bad = refused(lambda: sessions.get("damaged"), path, data)
    sessions.find("sound")
    refused(place.store.session("damaged").messages.list, path, data)
    refused(lambda: sessions.summary("damaged"), path, data)
    assert path.read_bytes() == data
    # A session's id is its file's name; one that came with another's id takes it at the first save.
    is_own = is_bad or sessions.get("damaged") is None or told_id(data) in (None, "damaged")
    assert refused(lambda: sessions.update("damaged", lambda session: session), path, data) >= is_bad
    assert path.read_bytes() == data or not is_own
    if not refused(lambda: sessions.pin("damaged"), path, data):
        assert sessions["damaged"].pinned
    sessions.delete("damaged")
    assert not path.exists()


def told_id(data: bytes) -> Any:
    value = codec.decode_bytes(data, "the session")
    return value.get("id") if isinstance(value, dict) else None


def use_note(place: Place, data: bytes) -> None:
    path = place.put("notes/damaged.md", data)
    notes = place.store.markdown("notes")
    assert "sound" in [item.name for item in notes.query({"title": None}) + notes.query()]
    is_bad = refused(lambda: notes.get("damaged"), path, data)
    assert not is_bad or notes.problems()
    refused(lambda: notes.update("damaged", lambda note: note), path, data)
    assert path.read_bytes() == data

    def add(note: Document) -> None:
        note.front_matter = {**(note.front_matter or {}), "added": 1}

    refused(lambda: notes.update("damaged", add), path, data)
    notes.delete("damaged")


def use_log(place: Place, data: bytes) -> None:
    place.reopen()
    path = place.put("audit/damaged.jsonl", data)
    log = place.store.journal("audit", "damaged")
    before = log.read()
    assert [entry.seq for entry in log.tail(1000)] == [entry.seq for entry in before]
    log.problems()
    assert path.read_bytes() == data
    try:
        seq = log.append("more")
    except FsStateError:
        assert path.read_bytes() == data
    else:
        # Nothing that could be read is lost by an append, and the new entry is found.
        after = log.read()
        assert after[-1].seq == seq
        assert after[:-1] == before
        assert len({entry.seq for entry in after}) >= len({entry.seq for entry in before}) + 1
    path.unlink()


def use_messages(place: Place, data: bytes) -> None:
    place.reopen()
    path = place.put("sessions/other/messages.jsonl", data)
    messages = place.store.session("other").messages
    all_before = messages.all()
    messages.list()
    messages.leaves()
    messages.problems()
    assert path.read_bytes() == data
    if not refused(lambda: messages.append("user", "more", id="more"), path, data):
        assert messages.require("more").text == "more"
        assert [each.id for each in messages.all()][: len(all_before)] == [each.id for each in all_before]
    place.store.sessions.summary("other")
    place.store.sessions.list(limit=None)
    path.unlink()


def use_mark(place: Place, data: bytes) -> None:
    path = place.root / ".fsstate" / "store.json"
    sound = path.read_bytes()
    path.write_bytes(data)
    try:
        with Store(place.root, StoreOptions(durability="process")) as store:
            assert store.collection("agents").get("sound") == {"status": "idle"}
        assert path.read_bytes() == data
    finally:
        path.write_bytes(sound)


IN_FILES: Final = {
    "document": (use_document, DOCUMENTS),
    "session": (
        use_session,
        [
            orjson.dumps({"id": "damaged", "user_id": "u", "title": "t", "created_at": "2026-01-01T00:00:00Z"}),
            orjson.dumps({"metadata": {"title": 1, "project_id": "x"}, "label": "l", "pinned": True, "own": [1]}),
            orjson.dumps({"user_messages": [{"content": "Hi"}], "agent_responses": [{"content": "x", "at": 1}]}),
            *DOCUMENTS,
        ],
    ),
    "note": (use_note, NOTES),
    "log": (use_log, LINES),
    "messages": (use_messages, LINES),
    "mark": (use_mark, [b'{"format": 1}', b'{"format": 1, "more": 2}\n', b'{"format": 2}', b"{}", b'{"format": true}']),
}


@pytest.mark.parametrize("name", IN_FILES)
def test_files(name: str, place: Place) -> None:
    use, seeds = IN_FILES[name]
    fuzz(lambda data: use(place, data), seeds, inputs=40)


@pytest.mark.soak
@pytest.mark.parametrize("name", IN_FILES)
def test_files_for_long(name: str, place: Place, soak_seconds: float) -> None:
    use, seeds = IN_FILES[name]
    fuzz(lambda data: use(place, data), seeds, seconds=soak_seconds)
