"""The public suites of corner cases, as files in a store: what is sound is read, the rest told, and nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from fsstate import CorruptRecordError, Document, FsStateError, Store, StoreOptions, quote_name, unquote_name
from fsstate.errors import InvalidNameError
from fsstate.names import name_for
from tests.nonsense.counts import COUNT

# What the suite takes for JSON and a store refuses, as a parser would drop the first of the two values unseen.
TWICE: Final = ("y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


@pytest.fixture
def suite(shared_data: Path) -> Callable[[str, str], list[Path]]:
    def files(folder: str, pattern: str) -> list[Path]:
        found = sorted((shared_data / folder).rglob(pattern))
        if not found:
            pytest.skip(f"needs {folder} in ../shared/data")
        COUNT.inputs += len(found)
        return found

    return files


def laid(store: Store, category: str, files: dict[str, bytes], suffix: str) -> Path:
    folder = Path(store.path) / category
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / f"{name}{suffix}").write_bytes(data)
    return folder


def test_json_documents(store: Store, suite: Callable[[str, str], list[Path]]) -> None:
    """The JSON test suite: y_ must be read, n_ must not, i_ may. None of it changes them."""
    files = {quote_name(path.stem): path.read_bytes() for path in suite("json-test-suite", "*.json")}
    folder = laid(store, "cases", files, ".json")
    cases = store.collection("cases")
    readable = {item.name for item in cases.items()}
    assert cases.names() == sorted(files)
    assert [
        name for name in files if name.startswith("y_") and name not in readable and f"{name}.json" not in TWICE
    ] == []
    assert [name for name in readable if name.startswith("n_")] == []
    assert {Path(problem.path).stem for problem in cases.problems()} == files.keys() - readable  # type: ignore[union-attr]
    assert all(str(problem) for problem in cases.problems())
    for name, data in files.items():
        try:
            cases.update(name, lambda value: value)
        except CorruptRecordError:
            assert name not in readable
        assert (folder / f"{name}.json").read_bytes() == data
    for indexed in (None, ["n"]):
        assert {item.name for item in store.collection("cases", indexed=indexed).query(limit=999)} == readable
    assert isinstance(store.search("asd"), list)


def test_json_values_come_back(store: Store, suite: Callable[[str, str], list[Path]]) -> None:
    cases = store.collection("cases")
    for path in suite("json-test-suite", "y_*.json") + suite("json-canonicalization", "*.json"):
        if path.name in TWICE:
            continue
        value = json.loads(path.read_bytes())
        try:
            cases.put("value", value)
        except FsStateError as error:
            # Half characters, which UTF-8 cannot express.
            assert "surrogate" in str(error), path  # noqa: PT017 - either outcome is right
            continue
        assert repr(cases["value"]) == repr(value), path
        seq = store.journal("audit", "trail").append("x", value=value)
        assert repr(store.journal("audit", "trail").tail(1)[0]["value"]) == repr(value), path
        assert store.journal("audit", "trail").last().seq == seq  # type: ignore[union-attr]
    assert store.journal("audit", "trail").problems() == []


def test_json_lines(store: Store, suite: Callable[[str, str], list[Path]]) -> None:
    """Each case as a line between two sound ones: these are read, and a sound case is, too."""
    paths = suite("json-test-suite", "*.json")
    for number, path in enumerate(paths):
        case = path.read_bytes()
        # Zeros are what a crash leaves, and so is all that stands behind them.
        if b"\n" in case.strip() or b"\0" in case or len(case) > 10_000:
            continue
        line = b'{"seq":2,"case":' + case.strip() + b"}"
        folder = Path(store.path) / "audit"
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"case-{number}.jsonl"
        log.write_bytes(b'{"seq":1}\n' + line + b'\n{"seq":3}\n')
        journal = store.journal("audit", f"case-{number}")
        seqs = [entry.seq for entry in journal.read()]
        assert seqs in ([1, 3], [1, 2, 3]), path
        assert (seqs == [1, 3]) == bool(journal.problems()), path
        assert [entry.seq for entry in journal.tail(9)] == seqs, path
        if path.name.startswith("y_") and path.name not in TWICE:
            assert len(seqs) == 3, path
        before = log.read_bytes()
        assert journal.append("x") == 4, path
        assert log.read_bytes().startswith(before), path


def quoted(text: str) -> str | None:
    """The name that a text gives, if it is short enough for one."""
    try:
        return quote_name(text)
    except InvalidNameError:
        return None


def test_naughty_strings(store: Store, suite: Callable[[str, str], list[Path]]) -> None:
    """As names, keys, values, entries, messages, labels, titles and questions."""
    texts: list[str] = json.loads(suite("naughty-strings", "blns.json")[0].read_text("utf-8"))
    COUNT.inputs += len(texts)
    values, log = store.collection("values"), store.journal("audit", "naughty")
    store.sessions.create(id="s")
    messages = store.session("s").messages
    values.put("all", {text: text for text in texts})
    assert values["all"] == {text: text for text in texts}
    log.append_many([("text", {"text": text, f"key {text}": 1}) for text in texts])
    assert [entry["text"] for entry in log.read()] == texts
    names = {}
    for text in texts:
        try:
            store.collection("raw").put(text, 1)
        except InvalidNameError:
            assert text not in store.collection("raw").names()
        else:
            assert text in store.collection("raw")
        name = name_for(text)
        names[name] = text
        values.put(name, text)
        store.settings.set(f"key/{name}", text)
    assert {name: values[name] for name in names} == names
    assert all(unquote_name(name) == text for name, text in names.items() if quoted(text) is not None)
    for name, text in list(names.items())[::5]:
        store.markdown("notes").put(name, Document(text, {"key": text, f"a {text}": [text]}))
        note = store.markdown("notes")[name]
        assert (note.text, note.front_matter) == (text, {"key": text, f"a {text}": [text]})
    for text in texts[::10]:
        messages.append("user", text)
        store.sessions.update("s", lambda session, text=text: setattr(session, "title", text))  # type: ignore[misc]
        if text.strip():
            assert store.sessions.set_label("s", text).label == text.strip()
    assert [message.text for message in messages.list()] == texts[::10]
    assert values.problems() == log.problems() == messages.problems() == store.markdown("notes").problems() == []


def yaml_cases(path: Path) -> Iterator[str]:
    """The YAML of the cases in a file."""
    seen: dict[str, Any] = {}
    for case in YAML(typ="safe").load(path.read_bytes()):
        seen = {**seen, **case}
        text = str(seen["yaml"]).replace("␣", " ").replace("»", "\t").replace("↵", "").replace("∎", "")
        yield text.replace("—", "").replace("←", "\r").replace("⇔", "\ufeff")


def test_yaml_front_matter(store: Store, suite: Callable[[str, str], list[Path]]) -> None:
    """The YAML test suite as front matter: it is read or told, listed in any case, and never changed unasked."""
    cases = {
        f"{path.stem}-{number}": text
        for path in suite("front-matter/yaml-test-suite", "*.yaml")[::2]
        for number, text in enumerate(yaml_cases(path))
    }
    files = {
        name: f"---\n{text.rstrip()}\n---\n\nBody {name}\n".encode("utf-8", "replace") for name, text in cases.items()
    }
    folder = laid(store, "notes", files, ".md")
    notes = store.markdown("notes")
    assert [item.name for item in notes.query()] == sorted(files)
    readable = 0
    for name, data in files.items():
        try:
            head = notes[name].front_matter
        except CorruptRecordError:
            continue
        readable += 1
        notes.update(name, lambda note: note)
        assert (folder / f"{name}.md").read_bytes() == data, name
        if not head or "---" in cases[name]:
            continue
        # A field that is added changes no other line.
        try:
            notes.update(name, lambda note: note.front_matter.update(added=1))  # type: ignore[union-attr]
        except FsStateError:
            assert (folder / f"{name}.md").read_bytes() == data, name
            continue
        assert repr(notes[name].front_matter) == repr({**head, "added": 1}) or "nan" in repr(head), name
        kept = (folder / f"{name}.md").read_bytes()
        assert kept.endswith(f"Body {name}\n".encode()), name
    assert readable > len(files) / 4


def test_real_notes(store: Store, suite: Callable[[str, str], list[Path]]) -> None:
    """The notes of real people: unchanged they keep their bytes, and a field that is set changes little."""
    paths = suite("obsidian-tasks-vault", "*.md") + suite("front-matter/gray-matter", "*.md")
    files = {f"note-{number}": path.read_bytes() for number, path in enumerate(paths[::3])}
    folder = laid(store, "notes", files, ".md")
    notes = store.markdown("notes")
    for name, data in files.items():
        try:
            assert notes[name].render() == data
            notes.update(name, lambda note: setattr(note, "front_matter", {**(note.front_matter or {}), "added": 1}))
        except FsStateError:
            assert (folder / f"{name}.md").read_bytes() == data
            continue
        notes.update(name, lambda note: note.front_matter.pop("added") and None)  # type: ignore[union-attr]
        assert notes[name].text == Document.parse(data).text
