"""The doctor on real files: what it finds and where, what mending does, and that no byte is lost whatever comes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsstate import DoctorReport, Finding, RecordType, Store, StoreOptions
from fsstate.backends.base import JSON, Ref
from fsstate.backends.files.leftovers import label_of
from fsstate.doctor import KINDS
from fsstate.errors import CorruptRecordError, FsStateError
from tests.contract.plans import Plan
from tests.files.processes import run, start

# What is not to survive a power cut costs less.
QUICK = StoreOptions(durability="process")
CONFLICT = b'{\n<<<<<<< HEAD\n  "a": 1\n=======\n  "a": 2\n>>>>>>> theirs\n}\n'
TRAIL = "audit/trail.jsonl"
TALK = "sessions/one/messages.jsonl"


def fill(root: Path) -> None:
    """A store with something of most kinds."""
    with Store(root, QUICK) as store:
        for number in range(4):
            store.collection("agents").put(f"a{number}", {"name": f"agent {number}", "tags": ["x", "y"], "n": number})
        store.collection("teams/red/agents").put("deep", {"level": {"of": ["nesting", 3]}})
        store.markdown("notes").put("plan", "---\ntitle: Plan\ntags: [a, b]\n---\n# Plan\n\nText, and more of it.\n")
        store.markdown("notes").put("plain", "Only text.\n")
        for name in ("one", "two"):
            store.sessions.create(id=name, user_id="u1", title=f"Talk {name}", label=name)
            for text in ("Hello", "How are you?", "Fine"):
                store.session(name).messages.append("user", text)
            store.session(name).events.append("seen", at_page=3)
        store.session("one").checkpoints.save("first", {"messages": [1, 2], "step": 1})
        for number in range(5):
            store.journal("audit", "trail").append("did", number=number, text="some more text")
        store.workflows.start("build", "all", id="flow")
        leaf = store.workflow("flow").leaves.create("leaf", leaf_id="l", task_id="t")
        store.workflow("flow").leaves.change(leaf.id, status="completed")
        store.settings.set("ui/theme", "dark")
        store.workflows.finish("flow", "completed")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "state"
    fill(root)
    return root


@pytest.fixture
def root(filled: Path, tmp_path: Path) -> Path:
    """A copy of it for each test."""
    copy = tmp_path / "state"
    shutil.copytree(filled, copy, symlinks=True)
    return copy


def examine(root: Path, **options: Any) -> DoctorReport:
    with Store.unchecked(root, QUICK) as store:
        return store.doctor(**options)


def problems(root: Path) -> list[tuple[str, str]]:
    return sorted((each.kind, os.path.relpath(each.path, root)) for each in examine(root).problems)


def only(root: Path, kind: str, *, fix: bool = False) -> Finding:
    """The one finding of this kind, which is the only problem."""
    found = [each for each in examine(root, fix=fix).findings if each.severity != "notice" or each.kind == kind]
    assert [each.kind for each in found] == [kind]
    return found[0]


def lines_in(root: Path) -> Counter[bytes]:
    """Every line of every file of the store and in its quarantine, but for the notes there."""
    found: Counter[bytes] = Counter()
    for path in root.rglob("*"):
        below = path.relative_to(root).parts
        if below[0] == ".fsstate" and (below[1:2] != ("quarantine",) or len(below) == 3):
            continue
        if path.is_symlink() or path.is_file():
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found.update(data.split(b"\n"))
    # What is written anew ends in a newline.
    del found[b""]
    return found


def kept(root: Path) -> list[str]:
    """What is in the quarantine, by the places it came from."""
    folder = root / ".fsstate/quarantine"
    files = (path.relative_to(folder).parts[1:] for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted("/".join(parts) for parts in files if parts)


def test_a_sound_store_has_no_problems(root: Path) -> None:
    report = examine(root)
    assert report.problems == []
    assert {each.kind for each in report.findings} <= {"stale-locks"}
    assert report.files == sum(1 for path in root.glob("[!.]*/**/*") if path.is_file())
    assert report.is_store


def test_looking_changes_nothing(root: Path) -> None:
    (root / "agents/a0.json").write_bytes(b"{")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    examine(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


# -- documents


@pytest.mark.parametrize(
    ("data", "kind", "line", "column"),
    [
        (b"", "empty-file", 1, 1),
        (b" \n\n", "empty-file", 1, 1),
        (b"\0" * 40, "zero-bytes", 1, 1),
        (b'{\n  "a": 1,\n}\n', "malformed-json", 2, 9),
        (b'{\n  "a": 1\n', "malformed-json", 3, 1),
        (b'{\n  "a": 1,\n  "a": 2\n}\n', "duplicate-key", 3, 3),
        (b'{\n  "a": "\xff"\n}\n', "invalid-utf8", 2, 9),
        (b'{"a": 1e999}', "malformed-json", 1, 7),
    ],
)
def test_a_document_that_cannot_be_read(root: Path, data: bytes, kind: str, line: int, column: int) -> None:
    path = root / "agents/a1.json"
    path.write_bytes(data)
    found = only(root, kind)
    assert (found.path, found.line, found.column, found.severity) == (str(path), line, column, "error")
    assert found.fixable
    before = lines_in(root)
    mended = only(root, kind, fix=True)
    assert mended.fixed is not None
    assert not path.exists()
    assert kept(root) == ["agents/a1.json"]
    assert lines_in(root) == before
    assert problems(root) == []


def test_a_note_says_from_where_and_why_and_how_back(root: Path) -> None:
    (root / "agents/a1.json").write_bytes(b"{,}")
    examine(root, fix=True)
    note = json.loads(next((root / ".fsstate/quarantine").glob("*.jsonl")).read_text())
    assert (note["record"], note["kind"], note["line"], note["column"]) == ("agents/a1.json", "malformed-json", 1, 2)
    assert (root / note["kept"]).read_bytes() == b"{,}"
    assert "agents/a1.json" in note["put_back"]
    assert note["reason"]
    assert note["at"].endswith("Z")
    # As it says: corrected, and moved back.
    (root / note["kept"]).write_text('{"name": "again"}')
    (root / note["kept"]).rename(root / note["record"])
    with Store(root) as store:
        assert store.collection("agents")["a1"] == {"name": "again"}
    assert problems(root) == []


def test_what_belongs_to_a_session_goes_with_it(root: Path) -> None:
    (root / "sessions/one.json").write_bytes(b"{")
    belongings = sorted(str(path.relative_to(root)) for path in (root / "sessions/one").rglob("*") if path.is_file())
    before = lines_in(root)
    assert only(root, "malformed-json", fix=True).fixed
    assert kept(root) == sorted(["sessions/one.json", *belongings])
    assert not (root / "sessions/one").exists()
    assert lines_in(root) == before
    with Store(root) as store:
        assert [each.id for each in store.sessions.list()] == ["two"]


def test_a_category_of_a_documents_name_stays(root: Path) -> None:
    (root / "teams/red.json").write_bytes(b"{")
    (root / "teams/red.json").chmod(0o600)
    assert only(root, "malformed-json", fix=True).fixed
    assert kept(root) == ["teams/red.json"]
    assert (root / "teams/red/agents/deep.json").exists()


def test_a_merge_that_is_not_finished_is_left_to_people(root: Path) -> None:
    (root / "agents/a1.json").write_bytes(CONFLICT)
    found = only(root, "conflict-markers", fix=True)
    assert (found.line, found.column, found.fixable, found.fixed) == (2, 1, False, None)
    assert (root / "agents/a1.json").read_bytes() == CONFLICT


def test_a_document_in_an_editors_hands(root: Path) -> None:
    """It truncates the file, and writes it a little later."""
    path = root / "agents/a1.json"
    data = path.read_bytes()
    stop = threading.Event()

    def edit() -> None:
        while not stop.is_set():
            path.write_bytes(data[:5])
            time.sleep(0.02)
            path.write_bytes(data)
            time.sleep(0.02)

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        for _ in range(5):
            assert examine(root, fix=True).problems == []
    finally:
        stop.set()
        editor.join()
    assert path.read_bytes() == data


def test_a_merge_in_a_note_that_is_not_finished(root: Path) -> None:
    text = "---\na: 1\n---\n# Plan\n<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> branch\n"
    (root / "notes/plan.md").write_text(text)
    found = only(root, "conflict-markers", fix=True)
    assert (found.line, found.fixed) == (5, None)
    (root / "notes/plan.md").write_text("---\na: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> branch\n---\ntext\n")
    assert only(root, "conflict-markers").line == 3
    (root / "notes/plan.md").write_text("Heading\n=======\n\n<<<<<<< is how a conflict begins\n")
    assert problems(root) == []


def test_front_matter(root: Path) -> None:
    pytest.importorskip("ruamel.yaml")
    (root / "notes/plan.md").write_bytes(b"---\na: 1\nb: [1, 2\n---\ntext\n")
    found = only(root, "malformed-front-matter", fix=True)
    assert (found.line, found.fixed) == (4, None)
    with Store(root) as store:
        assert store.markdown("notes")["plan"].text == "text\n"
    (root / "notes/plan.md").write_bytes(b"text \xff\n")
    assert only(root, "invalid-utf8", fix=True).fixed


def test_habits_of_other_programs_are_notices(root: Path) -> None:
    (root / "agents/a1.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    (root / "agents/a2.json").write_bytes(b'{\r\n"a": 1\r\n}')
    report = examine(root, fix=True)
    assert report.problems == []
    assert {"byte-order-mark", "crlf"} <= {each.kind for each in report.findings}


def test_records_that_do_not_fit_their_type_are_left_alone(root: Path) -> None:
    (root / "sessions/one.json").write_text('{"id": "one", "title": 5}')
    found = only(root, "invalid-record", fix=True)
    assert "$.title" in found.reason
    assert (root / "sessions/one.json").exists()


def test_what_keeps_several_things_in_a_file(root: Path) -> None:
    with Store(root) as store:
        store.session("one").goal.set("Find it")
        store.session("one").tools.replace([])
        store.session("one").tool_calls.create("grep", {"a": 1})
        store.sources.add("docs", id="d")
    (root / "sessions/one/goal.json").write_text('{"objective": 7}')
    (root / "sessions/one/config.json").write_text('{"max_turns": "many", "metadata": 5}')
    (root / "sessions/one/config.json").chmod(0o600)
    with (root / "sessions/one/tool_calls.jsonl").open("a") as file:
        file.write('{"seq":9,"id":"x","name":7}\n')
    (root / "settings/ui/theme.json").write_text('{"key": "ui/theme"}')
    places = ["sessions/one/config.json", "sessions/one/goal.json", "sessions/one/tool_calls.jsonl"]
    assert problems(root) == [("invalid-record", place) for place in [*places, "settings/ui/theme.json"]]


def test_messages_inside_a_sessions_document(root: Path) -> None:
    (root / "sessions/two.json").write_text('{"id": "two", "user_messages": [{"content": "a"}, 5]}')
    shutil.rmtree(root / "sessions/two")
    found = examine(root).problems
    assert [(each.kind, each.path) for each in found] == [("invalid-record", str(root / "sessions/two.json"))]


def test_records_of_a_newer_version(root: Path) -> None:
    cards = RecordType("cards", Plan)
    (root / "cards").mkdir(mode=0o700)
    (root / "cards/c.json").write_text('{"id": "c", "schema_version": 9, "title": "x"}')
    (root / "cards/c.json").chmod(0o600)
    with Store(root, types=(cards,)) as store:
        report = store.doctor(fix=True)
    assert [each.kind for each in report.problems] == ["newer-version"]
    assert (root / "cards/c.json").exists()


def test_an_id_that_is_not_the_files_name(root: Path) -> None:
    shutil.copy(root / "sessions/one.json", root / "sessions/copy.json")
    found = {each.kind: each for each in examine(root).problems}
    assert found.keys() == {"mismatched-id", "duplicate-label"}
    assert found["mismatched-id"].path == str(root / "sessions/copy.json")
    assert "'one'" in found["mismatched-id"].reason


def test_a_parent_that_is_gone_is_only_told(root: Path) -> None:
    with Store(root) as store:
        store.sessions.fork("one", new_id="child")
        store.sessions.delete("one")
    report = examine(root)
    assert report.problems == []
    assert "missing-parent-session" in [each.kind for each in report.findings]


def test_records_in_flight_of_a_program_that_died(root: Path) -> None:
    run('from fsstate.store import Store\nStore(root).jobs.start(Store(root).jobs.create("x", id="j").id)', root)
    found = only(root, "dead-holder")
    assert "fsstate recover" in found.advice
    with Store(root) as store:
        store.recover()
        store.jobs.create("y", id="k")
        store.jobs.start("k")
        assert store.doctor().problems == []


def test_versions_in_conflict_wait_for_a_person(root: Path) -> None:
    copy = root / "agents/a1.conflict-2026-11-28T154518Z-1f3a.json"
    copy.write_text("{")
    copy.chmod(0o600)
    report = examine(root, fix=True)
    assert report.problems == []
    found = next(each for each in report.findings if each.kind == "unresolved-conflict")
    assert "fsstate resolve" in found.advice
    assert copy.exists()


# -- logs


def test_a_torn_last_line(root: Path) -> None:
    path = root / TRAIL
    sound = path.read_bytes()
    path.write_bytes(sound + b'{"seq":6,"ki')
    found = only(root, "torn-tail")
    assert (found.line, found.column, found.offset) == (6, 1, len(sound))
    assert only(root, "torn-tail", fix=True).fixed
    assert path.read_bytes() == sound
    assert kept(root) == [TRAIL]
    with Store(root) as store:
        assert store.journal("audit", "trail").append("next") == 6
    assert problems(root) == []


def test_the_only_line_is_torn(root: Path) -> None:
    path = root / "audit/new.jsonl"
    path.write_bytes(b'{"seq":1,"ki')
    path.chmod(0o600)
    assert only(root, "torn-tail", fix=True).fixed
    assert path.read_bytes() == b""


def test_bad_lines_in_the_middle(root: Path) -> None:
    path = root / TRAIL
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\n"
    lines[3] = b"!" + lines[3]
    path.write_bytes(b"".join(lines))
    before = lines_in(root)
    found = [(each.kind, each.line, each.offset) for each in examine(root).problems]
    assert found == [("bad-line", 2, len(lines[0])), ("bad-line", 4, sum(map(len, lines[:3])))]
    assert all(each.fixed for each in examine(root, fix=True).findings if each.kind == "bad-line")
    assert path.read_bytes() == lines[0] + lines[2] + lines[4]
    note = json.loads(next((root / ".fsstate/quarantine").glob("*.jsonl")).read_text())
    assert [each["line"] for each in note["lines"]] == [2, 4]
    assert lines_in(root) == before
    assert problems(root) == []
    with Store(root) as store:
        assert [each.seq for each in store.journal("audit", "trail").read()] == [1, 3, 5]


def test_the_seq_of_a_last_line_that_is_taken_out_is_not_given_out_again(root: Path) -> None:
    path = root / TRAIL
    path.write_bytes(path.read_bytes()[:-3] + b"!!\n")
    assert only(root, "bad-line", fix=True).fixed
    with Store(root) as store:
        assert store.journal("audit", "trail").append("next") == 6


def test_zeros_with_entries_behind_them(root: Path) -> None:
    path = root / TRAIL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0" * len(lines[2]), *lines[3:]]))
    assert only(root, "torn-tail", fix=True).fixed
    with Store(root) as store:
        # The next append would have put the sound one away as well.
        assert [each.seq for each in store.journal("audit", "trail").read()] == [1, 2, 5]


def test_lines_that_are_no_entries_stay(root: Path) -> None:
    path = root / TRAIL
    path.write_bytes(path.read_bytes() + b'{"no": "seq"}\n[1]\n')
    before = path.read_bytes()
    found = examine(root, fix=True).problems
    assert [(each.kind, each.line) for each in found] == [("not-an-entry", 6), ("not-an-entry", 7)]
    assert path.read_bytes() == before


def test_another_programs_log_is_left_alone(root: Path) -> None:
    path = root / "audit/theirs.jsonl"
    path.write_bytes(b'{"a": 1}\nnot even JSON\n' * 1500)
    path.chmod(0o600)
    before = path.read_bytes()
    report = examine(root, fix=True)
    assert report.problems == []
    assert [each.kind for each in report.findings if each.path == str(path)] == ["foreign-log"]
    assert path.read_bytes() == before


def test_a_log_with_nothing_left_but_damage(root: Path) -> None:
    path = root / "audit/new.jsonl"
    path.write_bytes(b'{"seq":7,"kind":"x"!\n')
    path.chmod(0o600)
    assert only(root, "bad-line", fix=True).fixed
    with Store(root) as store:
        assert store.journal("audit", "new").append("next") == 8
    assert problems(root) == []


def test_lines_in_a_wrong_order(root: Path) -> None:
    path = root / TRAIL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2], lines[1], lines[2], *lines[3:]]))
    found = [(each.kind, each.line, each.fixed) for each in examine(root, fix=True).problems]
    assert found == [("seq-order", 3, None), ("seq-order", 4, None)]


def test_a_key_that_stands_twice_in_an_entry(root: Path) -> None:
    path = root / TRAIL
    path.write_bytes(path.read_bytes() + b'{"seq":6,"kind":"x","kind":"y"}\n')
    assert only(root, "not-an-entry").line == 6


def test_a_merge_in_a_log(root: Path) -> None:
    path = root / TRAIL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"<<<<<<< ours\n", lines[3], b"=======\n", lines[4], b">>>>>>> theirs\n"]))
    before = path.read_bytes()
    found = [(each.kind, each.line) for each in examine(root, fix=True).problems]
    assert found == [("conflict-markers", 4), ("conflict-markers", 6), ("conflict-markers", 8)]
    assert path.read_bytes() == before


def test_more_bad_lines_than_anybody_reads(root: Path) -> None:
    path = root / TRAIL
    path.write_bytes(path.read_bytes() + b"bad\n" * 3000 + b'{"seq":6,"kind":"x"}\n')
    found = Counter(each.kind for each in examine(root).problems)
    assert found == {"bad-line": 1000, "more-in-log": 1}
    examine(root, fix=True)
    assert problems(root) == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"seq":4,"id":"x","role":"user","content":"?","parent":"nobody"}', "dangling-parent"),
        ('{"seq":4,"head":"nobody"}', "dangling-head"),
        ('{"seq":4,"id":"x","role":"user","content":"?","parent":"x"}', "circular-parents"),
        ('{"seq":4,"id":"x","role":7}', "invalid-record"),
    ],
)
def test_a_conversation_that_does_not_hang_together(root: Path, line: str, kind: str) -> None:
    with (root / TALK).open("a") as file:
        file.write(f"{line}\n")
    found = only(root, kind, fix=True)
    assert (found.path, found.fixed) == (str(root / TALK), None)


def test_a_message_whose_writer_died(root: Path) -> None:
    code = """
    from fsstate.store import Store
    stream = Store(root).session("one").messages.stream("assistant").__enter__()
    stream.write("Hel")
    os._exit(0)
    """
    run(code, root)
    report = examine(root)
    assert report.problems == []
    assert "interrupted-message" in [each.kind for each in report.findings]


def test_a_message_that_is_being_written(root: Path) -> None:
    with Store(root) as store, store.session("one").messages.stream("assistant") as stream:
        stream.write("Hel")
        store.session("one").messages.append("user", "Wait!", parent=stream.id)
        assert {each.kind for each in store.doctor(fix=True).findings} <= {"stale-locks"}
        stream.write("lo")
    with Store(root) as store:
        assert [each.content for each in store.session("one").messages.list()][-2:] == ["Hello", "Wait!"]


# -- places


def test_a_folder_without_its_document(root: Path) -> None:
    (root / "sessions/one.json").unlink()
    (root / "workflows/flow.json").unlink()
    before = lines_in(root)
    assert problems(root) == [("orphan", "sessions/one"), ("orphan", "workflows/flow")]
    examine(root, fix=True)
    assert problems(root) == []
    assert "sessions/one/messages.jsonl" in kept(root)
    assert lines_in(root) == before
    with Store(root) as store:
        # Else it would have removed them.
        store.sessions.create(id="one")
        assert store.session("one").messages.list() == []


def test_what_was_left_by_a_prune_follows_into_the_trash(root: Path) -> None:
    with Store(root) as store:
        store.sessions.update("one", lambda session: session)
        folder = root / "sessions/one"
        shutil.copytree(folder, root / "aside")
        from fsstate import PrunePolicy

        store.sessions.prune(PrunePolicy(keep=1))
        gone = "one" if not folder.exists() else "two"
        run_folder = next(path for path in (root / ".fsstate/trash").iterdir() if path.is_dir())
        (run_folder / f"sessions/{gone}").rename(root / f"sessions/{gone}")
        shutil.rmtree(root / "aside")
        assert problems(root) == [("orphan", f"sessions/{gone}")]
        store.doctor(fix=True)
        assert problems(root) == []
        store.trash.restore(gone)
        assert len(store.session(gone).messages.list()) == 3


@pytest.mark.parametrize("place", ["agents/link.json", "linked", "sessions/one/goal.json", "sessions/link"])
def test_symlinks(root: Path, place: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / place).symlink_to(tmp_path / "elsewhere")
    found = only(root, "symlink")
    assert found.path == str(root / place)
    assert "elsewhere" in found.reason
    assert only(root, "symlink", fix=True).fixed
    assert kept(root) == [place]
    assert (tmp_path / "elsewhere").is_dir()
    assert problems(root) == []


def test_pipes_make_nobody_wait(root: Path) -> None:
    os.mkfifo(root / "agents/pipe.json")
    os.mkfifo(root / "audit/pipe.jsonl")
    assert {kind for kind, _ in problems(root)} == {"special-file"}
    examine(root, fix=True)
    assert problems(root) == []


@pytest.mark.parametrize("name", ["CON.json", "a b .json", "x:y.md", "-\n.jsonl", "n" * 240 + ".json"])
def test_names_that_are_refused(root: Path, name: str) -> None:
    path = root / "agents" / name
    path.write_text("{}")
    path.chmod(0o600)
    found = only(root, "refused-name", fix=True)
    assert found.fixed is None
    assert path.exists()


def test_names_that_are_no_utf8(root: Path) -> None:
    path = os.fsencode(root) + b"/agents/\xff.json"
    with open(path, "w") as file:
        file.write("{}")
    os.chmod(path, 0o600)
    assert "half of a character" in only(root, "refused-name", fix=True).reason
    os.rename(path, os.fsencode(root) + b"/agents/x.json")
    os.symlink("nowhere", path)
    assert only(root, "symlink", fix=True).fixed


def test_folders_that_are_refused_are_not_entered(root: Path) -> None:
    (root / "agents/x.json").mkdir(mode=0o700)
    (root / "agents/x.json/y.json").write_text("{")
    (root / "agents/x.json/y.json").chmod(0o600)
    assert only(root, "refused-name", fix=True).path == str(root / "agents/x.json")


def test_names_that_some_disks_take_for_one(root: Path) -> None:
    for name in ("A1.json", "caf\u00e9.md", "cafe\u0301.md", "Straße.json", "STRASSE.json"):
        (root / "agents" / name).write_text("{}")
        (root / "agents" / name).chmod(0o600)
    (root / "Notes").mkdir(mode=0o700)
    (root / "Notes/x.md").touch(0o600)
    found = examine(root, fix=True).problems
    if len(os.listdir(root / "agents")) == 9:
        assert Counter(each.kind for each in found) == {"colliding-names": 4}
        assert all(each.fixed is None for each in found)


def test_modes(root: Path) -> None:
    (root / "agents/a1.json").chmod(0o644)
    (root / "agents/a2.json").chmod(0o666)
    (root / "notes").chmod(0o755)
    # Also in a category that is called like a folder of fsstate's own.
    (root / "cache").mkdir(mode=0o700)
    (root / "cache/x.json").write_text("{}")
    (root / "notes/plan.md").chmod(0o200)
    # Nobody else may enter the store: what git and editors made readable for all is not.
    assert problems(root) == [("unreadable-mode", "notes/plan.md")]
    root.chmod(0o755)
    found = problems(root)
    loose = [("loose-mode", place) for place in ("agents", "cache/x.json", "notes")]
    assert found == [*loose, ("unreadable-mode", "notes/plan.md")]
    examine(root, fix=True)
    assert problems(root) == []
    modes = [(root / path).stat().st_mode & 0o777 for path in ("agents/a1.json", "agents/a2.json", "notes/plan.md")]
    assert modes == [0o600, 0o600, 0o600]


def test_modes_that_the_store_was_made_with(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    with Store(root, StoreOptions(file_mode=0o660, directory_mode=0o770)) as store:
        store.collection("agents").put("a", {})
    (root / "agents/a.json").chmod(0o664)
    assert problems(root) == [("loose-mode", "agents/a.json")]
    examine(root, fix=True)
    assert (root / "agents/a.json").stat().st_mode & 0o777 == 0o660
    assert (root / "agents").stat().st_mode & 0o777 == 0o770


def test_a_clone_has_the_modes_of_git(root: Path, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    assert (clone / "agents/a1.json").stat().st_mode & 0o777 == 0o644
    assert problems(clone) == []


def test_a_folder_that_its_owner_may_not_look_into(root: Path) -> None:
    (root / "agents").chmod(0)
    with contextlib.suppress(PermissionError):
        os.listdir(root / "agents")
        (root / "agents").chmod(0o700)
        pytest.skip("root may look into everything")
    kinds = {kind for kind, _ in problems(root)}
    assert kinds == {"unreadable-mode"}
    examine(root, fix=True)
    assert problems(root) == []


def test_what_dead_writers_left(root: Path) -> None:
    code = """
    from fsstate.store import Store
    store = Store(root)
    store.collection("agents").put("z", {})
    open(os.path.join(root, ".fsstate/staging", os.listdir(root + "/.fsstate/staging")[0], "7"), "w").write("half")
    os.kill(os.getpid(), 9)
    """
    process = start(code, root)
    process.communicate()
    kinds = Counter(each.kind for each in examine(root).findings)
    assert kinds == {"leftover": 1, "stale-locks": 1}
    assert all(each.fixed for each in examine(root, fix=True).findings)
    assert examine(root).findings == []
    assert os.listdir(root / ".fsstate/staging") == os.listdir(root / ".fsstate/locks") == []


def test_what_living_writers_use_is_theirs(root: Path) -> None:
    code = """
    from fsstate.store import Store
    store = Store(root)
    store.collection("agents").put("z", {})
    with store.collection("agents").edit("z") as doc:
        print("editing", flush=True)
        sys.stdin.readline()
        doc["n"] = 1
    store.close()
    """
    process = start(code, root)
    assert process.stdout is not None
    process.stdout.readline()
    report = examine(root, fix=True)
    assert "leftover" not in [each.kind for each in report.findings]
    assert list((root / ".fsstate/locks").glob("agents+z.json.lock"))
    _, error = process.communicate("\n")
    assert (process.returncode, error) == (0, "")
    with Store(root) as store:
        assert store.collection("agents")["z"] == {"n": 1}


def test_a_damaged_cache_is_made_again(root: Path) -> None:
    options = StoreOptions(indexing="always")
    with Store(root, options) as store:
        assert len(store.sessions.list()) == 2
    assert "useless-cache" not in [each.kind for each in examine(root).findings]
    with (root / ".fsstate/cache/index.sqlite").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    report = examine(root)
    assert report.problems == []
    assert "useless-cache" in [each.kind for each in report.findings]
    examine(root, fix=True)
    assert "useless-cache" not in [each.kind for each in examine(root).findings]
    with Store(root, options) as store:
        assert len(store.sessions.list()) == 2


def test_trash_and_quarantine_are_told(root: Path) -> None:
    (root / "agents/a1.json").write_text("{")
    examine(root, fix=True)
    found = next(each for each in examine(root).findings if each.kind == "quarantine")
    assert found.reason.startswith("2 files")


# -- what says that it is a store


def test_a_newer_store_is_told_and_not_touched(root: Path) -> None:
    (root / ".fsstate/store.json").write_text('{"format": 2}')
    (root / "agents/a1.json").write_text("{")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    report = examine(root, fix=True)
    assert [each.kind for each in report.findings] == ["newer-format"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": "1"}', b"\0\0"])
def test_a_store_whose_mark_cannot_be_read_is_looked_at_and_not_touched(root: Path, data: bytes) -> None:
    (root / ".fsstate/store.json").write_bytes(data)
    (root / "agents/a1.json").write_text("{")
    (root / "agents/a1.json").chmod(0o600)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    found = [(each.kind, each.fixed) for each in examine(root, fix=True).problems]
    assert found == [("malformed-mark", None), ("malformed-json", None)]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with Store.unchecked(root) as store, pytest.raises(CorruptRecordError):
        store.collection("agents").put("a", {})


def test_a_directory_that_is_no_store_is_looked_at_and_not_touched(root: Path) -> None:
    shutil.rmtree(root / ".fsstate")
    (root / "agents/a1.json").write_text("{")
    report = examine(root, fix=True)
    assert not report.is_store
    assert [each.kind for each in report.findings if each.severity == "notice"] == ["no-store"]
    assert [(each.kind, each.fixed) for each in report.problems if each.kind != "loose-mode"] == [
        ("malformed-json", None)
    ]
    assert not (root / ".fsstate").exists()


def test_a_store_that_nobody_wrote_to(tmp_path: Path) -> None:
    report = examine(tmp_path / "nothing")
    assert [each.kind for each in report.findings] == ["no-store"]
    assert not (tmp_path / "nothing").exists()


def test_in_memory() -> None:
    with Store.in_memory() as store:
        store.collection("agents").put("a", {})
        store.sessions.create(id="one")
        store.session("one").messages.append("user", "Hi")
        report = store.doctor(fix=True)
        assert (report.findings, report.files, report.file_system) == ([], 3, None)


def test_where_nothing_can_be_put_aside_everything_stays_and_the_failure_is_told(root: Path) -> None:
    (root / ".fsstate/quarantine").write_text("in the way")
    (root / ".fsstate/quarantine").chmod(0o600)
    (root / "agents/a1.json").write_bytes(b"{")
    (root / "sessions/two.json").unlink()
    with (root / TRAIL).open("ab") as file:
        file.write(b'{"seq":6,"to')
    (root / "agents/link.json").symlink_to("nowhere")
    before = lines_in(root)
    report = examine(root, fix=True)
    assert sorted(each.kind for each in report.problems) == ["malformed-json", "orphan", "symlink", "torn-tail"]
    assert all(each.fixed is None and "quarantine" in (each.failure or "") for each in report.problems)
    assert lines_in(root) == before
    (root / ".fsstate/quarantine").unlink()
    examine(root, fix=True)
    assert problems(root) == []


def test_what_somebody_works_on_is_left_alone_and_told(root: Path) -> None:
    (root / "agents/a1.json").write_bytes(b"{")
    with (root / TRAIL).open("ab") as file:
        file.write(b"bad\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        ref = Ref("agents", "a1", JSON)
        with Store(root) as other, contextlib.closing(other), contextlib.ExitStack() as stack:
            stack.callback(other.backend.lock(ref).release)
            with Store(root, StoreOptions(lock_timeout=0.05)) as store:
                found = {each.kind: each for each in store.doctor(fix=True).problems}
    assert found.keys() == {"malformed-json", "bad-line"}
    assert all("locked" in (each.failure or "") for each in found.values())
    assert (root / "agents/a1.json").read_bytes() == b"{"


def test_progress(root: Path) -> None:
    told: list[tuple[int, int]] = []
    report = examine(root, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (report.files, report.files)


def test_every_kind_has_its_words() -> None:
    for kind, (severity, why) in KINDS.items():
        assert kind == kind.lower()
        assert severity in {"error", "warning", "notice"}
        assert why


# -- whatever comes


def damage(root: Path, choice: random.Random) -> None:
    """Do what bad disks, bad programs and bad hands do, to one file."""
    files = sorted(path for path in root.glob("[!.]*/**/*") if path.is_file())
    path = choice.choice(files)
    data = bytearray(path.read_bytes())
    at = choice.randrange(len(data) + 1)
    end = min(len(data), at + choice.randrange(1, 60))
    how: dict[str, Callable[[], None]] = {
        "flip": lambda: data.__setitem__(slice(at, at + 1), bytes([choice.randrange(256)])),
        "cut": lambda: data.__delitem__(slice(at, None)),
        "hole": lambda: data.__setitem__(slice(at, end), bytes(end - at)),
        "lose": lambda: data.__delitem__(slice(at, end)),
        "twice": lambda: data.__setitem__(slice(at, at), data[at:end]),
        "noise": lambda: data.__setitem__(slice(at, at), choice.randbytes(5)),
        "zeros": lambda: data.extend(bytes(50)),
    }
    how[choice.choice([*how])]()
    path.write_bytes(bytes(data))


def reads(store: Store) -> Iterator[tuple[str, FsStateError]]:
    """What any read of the store's documents and logs reports, with the files that it is about."""
    for category, folder in _categories(store):
        for path in sorted(folder.glob("*.json")):
            try:
                store.collection(category).get(path.stem)
            except FsStateError as error:
                yield str(path), error
        for path in sorted(folder.glob("*.md")):
            try:
                store.markdown(category).get(path.stem)
            except FsStateError as error:
                yield str(path), error
        for path in sorted(folder.glob("*.jsonl")):
            for problem in store.journal(category, path.stem).problems():
                yield str(path), problem
    for session in store.sessions.ids():
        try:
            store.sessions.get(session)
        except FsStateError as error:
            yield str(Path(store.path, f"sessions/{session}.json")), error


def _categories(store: Store) -> Iterator[tuple[str, Path]]:
    for path in sorted(Path(store.path).glob("[!.]*/**/")):
        yield str(path.relative_to(store.path)), path


def told(found: list[Finding], path: str, error: FsStateError) -> bool:
    """Whether the doctor told of a problem, and where exactly, as far as the read knows that."""
    there = [each for each in found if each.path == path]
    if not isinstance(error, CorruptRecordError) or error.line is None:
        # Another program's log has one finding for all of its lines.
        return bool(there)
    return any((each.line, each.column) == (error.line, error.column) or each.kind == "foreign-log" for each in there)


@pytest.mark.parametrize("seed", range(25))
def test_random_damage_is_found_and_mended_without_loss(root: Path, seed: int) -> None:
    choice = random.Random(seed)
    for _ in range(choice.randrange(1, 5)):
        damage(root, choice)
    before = lines_in(root)
    with Store(root, QUICK) as store:
        found = store.doctor().findings
        for path, error in reads(store):
            assert told(found, path, error), (path, str(error), found)
        store.doctor(fix=True)
        assert not before - lines_in(root)
        again = store.doctor(fix=True)
        assert [each for each in again.findings if each.fixable and each.kind != "stale-locks"] == []
        left = {each.path for each in again.findings if not each.fixable}
        assert [str(error) for path, error in reads(store) if path not in left] == []
        # The store goes on.
        store.collection("agents").put("new", {})
        seqs = [store.journal("audit", "trail").append("new") for _ in range(2)]
        assert seqs[1] == seqs[0] + 1


@pytest.mark.soak
def test_much_random_damage(filled: Path, tmp_path: Path, soak_seconds: float) -> None:
    stop = time.monotonic() + soak_seconds
    seed = 1000
    while time.monotonic() < stop:
        seed += 1
        copy = tmp_path / str(seed)
        shutil.copytree(filled, copy)
        test_random_damage_is_found_and_mended_without_loss(copy, seed)
        shutil.rmtree(copy)


DUPLICATES = ("y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json")


def test_the_json_test_suite(shared_data: Path, tmp_path: Path) -> None:
    suite = sorted((shared_data / "json-test-suite/test_parsing").glob("*.json"))
    (tmp_path / "state/cases").mkdir(parents=True)
    with Store(tmp_path / "state", QUICK) as store:
        store.backend.prepare()
        refused: dict[str, tuple[int | None, int | None]] = {}
        for number, source in enumerate(suite):
            # Some names are refused: too long, or with signs that Windows refuses.
            name = f"{source.name[0]}{number}"
            Path(store.path, f"cases/{name}.json").write_bytes(source.read_bytes())
            try:
                store.collection("cases").get(name)
            except CorruptRecordError as error:
                refused[name] = error.line, error.column
                assert not source.name.startswith("y_") or source.name in DUPLICATES
            else:
                assert not source.name.startswith("n_")
        assert len(suite) > 300
        found = {each.path: (each.line, each.column) for each in store.doctor().problems if each.fixable}
        folder = Path(store.path, "cases")
        found.pop(str(folder), None)
        assert found == {str(folder / f"{name}.json"): place for name, place in refused.items()}
        before = lines_in(Path(store.path))
        store.doctor(fix=True)
        assert lines_in(Path(store.path)) == before
        assert [each.kind for each in store.doctor().problems] == []


BUSY = """
import random
from fsstate.store import Store
name, end = sys.argv[2], time.monotonic() + float(sys.argv[3])
done = 0
with Store(root) as store:
    agents, trail = store.collection("agents"), store.journal("audit", "busy")
    while time.monotonic() < end:
        done += 1
        agents.put(f"{name}{done % 7}", {"n": done})
        agents.delete(f"{name}{(done + 3) % 7}")
        trail.append("did", by=name, number=done)
        session = f"{name}-{done % 5}"
        if store.sessions.get(session) is None:
            store.sessions.create(id=session)
        with store.session(session).messages.stream("assistant") as stream:
            stream.write("x" * 100)
        if done % 3 == 0:
            store.sessions.delete(session)
        if done % 20 == 0:
            trail.log.trim(before=max(1, done // 2))
print(done)
"""


def test_while_programs_write(root: Path) -> None:
    writers = [start(BUSY, root, name, 2.0) for name in ("p", "q")]
    rounds = 0
    with Store(root) as store:
        while any(writer.poll() is None for writer in writers):
            found = store.doctor(fix=rounds % 2 == 1).findings
            assert {each.kind for each in found} <= {"stale-locks", "useless-cache"}, found
            rounds += 1
    outcomes = [writer.communicate() for writer in writers]
    assert [error for _, error in outcomes] == ["", ""]
    assert rounds > 2
    done = [int(out) for out, _ in outcomes]
    with Store(root) as store:
        last = {entry["by"]: entry["number"] for entry in store.journal("audit", "busy").read()}
        assert [last["p"], last["q"]] == done
    assert not (root / ".fsstate/quarantine").exists()


KILLS = """
import json, shutil
from pathlib import Path
from fsstate.store import Store
from tests.crash.recorder import Recorder
template, work, first, step = Path(root), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
Store(template).doctor()
kills = first
while True:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(template, work, symlinks=True)
    trace = work.with_suffix(".trace")
    trace.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        recorder = Recorder(trace, work)
        recorder.install()
        recorder.kill_after(kills)
        Store(work).doctor(fix=True)
        os._exit(0)
    ended = os.waitpid(pid, 0)[1]
    print(json.dumps([kills, ended]), flush=True)
    sys.stdin.readline()
    if ended == 0:
        break
    assert ended == 9, ended
    kills += step
"""


def hurt(root: Path) -> None:
    (root / "agents/a1.json").write_bytes(b"{,}")
    (root / "sessions/one.json").write_bytes(b"{")
    (root / "sessions/two.json").unlink()
    lines = (root / TRAIL).read_bytes().splitlines(keepends=True)
    (root / TRAIL).write_bytes(b"".join([lines[0], b"bad\n", *lines[1:]]) + b'{"seq":6,"to')
    (root / "agents/link.json").symlink_to("nowhere")
    (root / "notes/plan.md").chmod(0o644)
    (root / ".fsstate/staging/dead").mkdir()
    (root / ".fsstate/staging/dead/1").write_bytes(b"half")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.soak), pytest.param(13, id="some")])
def test_killed_after_any_change_it_lost_nothing_and_the_next_run_finishes(
    root: Path, tmp_path: Path, step: int
) -> None:
    hurt(root)
    before = lines_in(root)
    work = tmp_path / "work"
    process = start(KILLS, root, work, 1, step)
    assert process.stdin is not None
    assert process.stdout is not None
    kills = 0
    while line := process.stdout.readline():
        _, ended = json.loads(line)
        kills += ended == 9
        assert not before - lines_in(work), f"lost after {kills} changes"
        examine(work, fix=True)
        assert not before - lines_in(work)
        assert [each for each in examine(work).findings if each.fixable] == []
        assert problems(work) == []
        process.stdin.write("\n")
        process.stdin.flush()
    process.stdin.close()
    assert process.wait() == 0, process.stderr and process.stderr.read()
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    assert kills > 100 // step


def test_what_a_person_may_have_saved_while_a_writer_was_killed_is_kept(root: Path) -> None:
    folder = root / ".fsstate/staging/0123456789abcdef"
    folder.mkdir(parents=True)
    ref = Ref("agents", "a1", JSON)
    saved = b'{"name": "as a person saved it"}\n'
    (folder / f"1{label_of(ref, b'new', b'read')}").write_bytes(saved)
    (folder / f"2{label_of(ref, b'new', b'read')}").write_bytes(b"read")
    examine(root, fix=True)
    assert not folder.exists()
    assert [path.read_bytes() for path in (root / ".fsstate/quarantine").glob("agents+a1*")] == [saved]
