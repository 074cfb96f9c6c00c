"""Documents that somebody writes in place are read once they are whole."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsstate import Collection, CorruptRecordError, Store, StoreOptions
from fsstate.backends.files import unfinished
from fsstate.backends.files.unfinished import await_the_rest, is_begun

BEFORE = {"n": 1, "text": "before", "nested": {"list": [1, 2, {"a": "b"}]}}
AFTER = json.dumps({**BEFORE, "text": "after"}, indent=2).encode() + b"\n"


@pytest.fixture
def agents(tmp_path: Path) -> Any:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        agents = store.collection("agents")
        agents.put("a", BEFORE)
        yield agents


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may take its time.
    monkeypatch.setattr(unfinished, "_PATIENCE", 10)
    monkeypatch.setattr(unfinished, "_PATIENCE_IF_EMPTY", 10)


def write_in_place(path: str, first: bytes, rest: bytes, pause: float) -> threading.Thread:
    """What an editor does that empties a file and fills it: the first part now, the rest after a while."""
    file = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(file, first)

    def go_on() -> None:
        time.sleep(pause)
        os.write(file, rest)
        os.close(file)

    thread = threading.Thread(target=go_on)
    thread.start()
    return thread


def replaced(path: str, pause: float) -> threading.Thread:
    """What an editor does that thinks better of it, and renames."""
    os.truncate(path, 0)
    Path(f"{path}.new").write_bytes(AFTER)

    def go_on() -> None:
        time.sleep(pause)
        os.rename(f"{path}.new", path)

    thread = threading.Thread(target=go_on)
    thread.start()
    return thread


def got(agents: Collection[Any]) -> Any:
    return agents.get("a")


def listed(agents: Collection[Any]) -> Any:
    return next(iter(agents.items())).value


def updated(agents: Collection[Any]) -> Any:
    return agents.update("a", lambda agent: {**agent, "n": 2}) | {"n": 1}


def edited(agents: Collection[Any]) -> Any:
    with agents.edit("a") as agent:
        agent["n"] = 2
    return agents.require("a") | {"n": 1}


WAYS = [got, listed, updated, edited]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [0, 1, 20, 80], ids=str)
@pytest.mark.usefixtures("patient")
def test_a_document_is_read_when_its_writer_is_done(
    agents: Collection[Any], way: Callable[[Collection[Any]], Any], first: int
) -> None:
    editor = write_in_place(agents.path_of("a"), AFTER[:first], AFTER[first:], 0.03)
    assert way(agents) == json.loads(AFTER)
    editor.join()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("patient")
def test_a_document_that_is_replaced_meanwhile_is_read_anew(
    agents: Collection[Any], way: Callable[[Collection[Any]], Any]
) -> None:
    editor = replaced(agents.path_of("a"), 0.03)
    assert way(agents) == json.loads(AFTER)
    editor.join()


@pytest.mark.parametrize("way", WAYS[:1] + WAYS[2:])
@pytest.mark.parametrize("left", [b"", AFTER[:20]], ids=["empty", "half"])
def test_what_stays_half_is_damaged(
    agents: Collection[Any], way: Callable[[Collection[Any]], Any], left: bytes
) -> None:
    Path(agents.path_of("a")).write_bytes(left)
    with pytest.raises(CorruptRecordError):
        way(agents)
    assert Path(agents.path_of("a")).read_bytes() == left
    # And is told at once from then on.
    os.utime(agents.path_of("a"), (1, 1))
    with pytest.raises(CorruptRecordError):
        way(agents)


@pytest.mark.parametrize(
    "data", [b"{}", b"[]", b'{"a": 1}\n', b"[1, 2]\r\n\n", b'"text"', b"1", b"null\n", b"}", b"\xef\xbb\xbf{}", b"<<<<"]
)
def test_what_ends_as_it_began_is_no_beginning(data: bytes) -> None:
    assert not is_begun(data, ".json")


@pytest.mark.parametrize("data", [b"", b" \n", b"{", b"[", b'"', b'{"a": 1', b'{"a": [1, 2]\n', b'[{"a": 1}', b'"tex'])
def test_what_lacks_its_end_is_a_beginning(data: bytes) -> None:
    assert is_begun(data, ".json")
    assert not is_begun(data, ".md")


@pytest.mark.usefixtures("patient")
def test_another_file_in_its_place_is_seen_whatever_its_own_times_say(tmp_path: Path) -> None:
    """The clock ticks coarsely: what lost its name in the tick in which it was emptied looks as it did."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).touch()
    with (tmp_path / "a.json").open("rb") as file:
        status = os.fstat(file.fileno())
        assert await_the_rest(file.fileno(), status, str(tmp_path / "b.json"))
        (tmp_path / "b.json").unlink()
        assert await_the_rest(file.fileno(), status, str(tmp_path / "b.json"))
