"""Strings that break other programs: as names, values, texts, front matter, entries, metadata and filters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate import InvalidNameError, InvalidQueryError, Store, StoreOptions, quote_name, unquote_name
from fsstate.names import is_name


@pytest.fixture(params=["files", "memory"])
def naughty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        with Store.in_memory() as store:
            yield store
        return
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    path = shared_data / "naughty-strings" / "blns.json"
    if not path.is_file():
        pytest.skip("needs the naughty strings")
    found: list[str] = json.loads(path.read_text("utf-8"))
    return found


def test_names(naughty: Store, texts: list[str]) -> None:
    agents = naughty.collection("agents")
    short = [text for text in texts if len(quote_bytes(text)) <= 200]
    assert len(short) > len(texts) - 30
    for text in short:
        assert unquote_name(quote_name(text)) == text
        agents.put(quote_name(text), {"text": text})
    assert {name: agents[name]["text"] for name in agents.names()} == {quote_name(text): text for text in short}


def quote_bytes(text: str) -> bytes:
    """What a name takes at most: three bytes for each byte that has to be quoted."""
    return b"".join(b"%XX" * len(each.encode()) if not each.isalnum() else each.encode() for each in text)


def test_names_as_they_are(naughty: Store, texts: list[str]) -> None:
    agents = naughty.collection("agents")
    refused = 0
    for text in texts:
        if is_name(text):
            agents.put(text, {"text": text})
            assert agents[text] == {"text": text}
            continue
        refused += 1
        with pytest.raises(InvalidNameError) as raised:
            agents.put(text, {})
        assert raised.value.reason
    assert 100 < refused < len(texts)


def test_values_and_filters(naughty: Store, texts: list[str]) -> None:
    naughty.collection("agents").put("all", {text: [text, {"text": text}] for text in texts})
    assert naughty.collection("agents")["all"] == {text: [text, {"text": text}] for text in texts}
    for number, text in enumerate(texts[::10]):
        naughty.sessions.create(id=f"s{number}", title=text, user_id=text, metadata={"text": text, text: number})
        naughty.collection("docs", indexed=["text"]).put(f"d{number}", {"text": text})
    for text in texts[::10]:
        equal = texts[::10].count(text)
        assert len(naughty.sessions.list(metadata={"text": text}, limit=None)) == equal
        assert len(naughty.sessions.list(user_id=text, limit=None)) == equal
        assert naughty.collection("docs", indexed=["text"]).count({"text": text}) == equal


def test_messages_and_entries(naughty: Store, texts: list[str]) -> None:
    one = naughty.session(naughty.sessions.create().id)
    for text in texts:
        one.messages.append("user", [{"type": "text", "text": text}], metadata={text: text})
    log = naughty.journal("audit", "trail")
    log.append_many((text or "empty", {"text": text}) for text in texts)
    assert [message.text for message in one.messages.list()] == texts
    assert [entry["text"] for entry in log.read()] == texts
    assert [entry.kind for entry in log.read()] == [text or "empty" for text in texts]


def test_notes(naughty: Store, texts: list[str]) -> None:
    notes = naughty.markdown("notes")
    everything = {f"key {number}": text for number, text in enumerate(texts[::2])}
    notes.put("text", "\n".join(texts))
    assert notes["text"].text == "\n".join(texts)
    with notes.edit("text") as note:
        note.front_matter = everything
    assert notes["text"].front_matter == everything
    with notes.edit("text") as note:
        assert note.front_matter is not None
        note.front_matter["key 7"] = "changed"
    assert notes["text"].front_matter == everything | {"key 7": "changed"}
    assert notes["text"].text == "\n".join(texts)


def test_searches(naughty: Store, texts: list[str]) -> None:
    notes = naughty.markdown("notes")
    for number, text in enumerate(texts[::10]):
        notes.put(f"n{number}", text)
    found = 0
    for text in texts[::10]:
        try:
            found += len(naughty.search(text))
        except InvalidQueryError as error:
            assert "give" in str(error)  # noqa: PT017 - either outcome is right
    assert found > 10
