"""What is shown never does anything to a terminal, and never fails."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate import Store
from fsstate.cli import output
from tests.cli.conftest import Cli, Terminals

ANY_TEXT = st.text(st.characters(codec=None))
HARMFUL = "\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066\x00\r\b"


@given(ANY_TEXT)
def test_visible_text_is_harmless_and_printable(text: str) -> None:
    shown = output.visible(text)
    assert all(character in "\n\t" or ord(character) >= 0x20 for character in shown)
    assert not set(shown) & set("\x7f\x9b\u202e\u2066\u2028\r")
    shown.encode()


@given(ANY_TEXT)
def test_one_line_is_one_line(text: str) -> None:
    assert len(output.one_line(text).splitlines()) <= 1


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs"))))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert output.visible(text) == text


@given(ANY_TEXT, st.integers(2, 50))
def test_brief_text_fits(text: str, width: int) -> None:
    assert len(output.brief(text, width)) <= width


def test_brief_says_that_there_is_more() -> None:
    assert output.brief("one\ntwo", 10) == "one…"
    assert output.brief("one", 10) == "one"
    assert output.brief("0123456789", 5) == "0123…"


@pytest.mark.parametrize("code", range(0xD800, 0xE000, 0x3FF))
def test_half_characters_are_shown_by_number(code: int) -> None:
    assert output.visible(chr(code)) == f"\\u{code:04x}"


def hostile(store: Store) -> str:
    """A session and records full of control characters."""
    store.collection("agents").put("planner", {"name": HARMFUL, HARMFUL: 1})
    store.markdown("notes").put("standup", f"# {HARMFUL}\n")
    store.journal("audit", "trail").append(HARMFUL, **{HARMFUL: HARMFUL})
    session = store.sessions.create(title=HARMFUL, user_id=HARMFUL, label="it")
    store.session(session.id).messages.append(HARMFUL, HARMFUL, model=HARMFUL)
    store.session(session.id).messages.append("assistant", [{"type": HARMFUL, "name": HARMFUL}])
    return session.id


VIEWS = (
    ("ls",),
    ("ls", "agents"),
    ("show", "agents/planner"),
    ("show", "notes/standup"),
    ("show", "audit/trail"),
    ("show", "it"),
    ("show", "it", "--tree"),
    ("log", "audit/trail"),
    ("sessions",),
)


@pytest.mark.parametrize("arguments", VIEWS, ids=" ".join)
def test_people_get_no_control_characters(cli: Cli, store: Store, arguments: tuple[str, ...]) -> None:
    hostile(store)
    assert not set(cli.out(*arguments)) & set(HARMFUL) - set("owned0;]2Jgnp.exe")


def test_a_terminal_gets_no_control_characters_from_cat(store: Store, terminal: Terminals) -> None:
    store.markdown("notes").put("standup", f"# {HARMFUL}\r\n")
    assert terminal("cat", "notes/standup").end() == (
        0,
        "# \\x1b]0;owned\\x07\\x9b2J\\u202egnp.exe\\u2066\\x00\\x0d\\x08\n",
    )


def test_programs_get_every_byte_from_cat(cli: Cli, store: Store) -> None:
    store.markdown("notes").put("standup", HARMFUL)
    assert cli.run("cat", "notes/standup").stdout == HARMFUL.encode()


def test_bytes_that_are_no_text_are_shown(store: Store, cli: Cli, terminal: Terminals) -> None:
    store.markdown("notes").put("standup", "x")
    Path(store.path_of(("notes", "standup"))).write_bytes(b"\xff\xfe\n")
    assert terminal("cat", "notes/standup").end() == (0, "\\xff\\xfe\n")
    assert cli.run("cat", "notes/standup").stdout == b"\xff\xfe\n"
    assert json.loads(cli.out("cat", "notes/standup", "--json"))["records"][0]["text"] == "\ufffd\ufffd\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_characters_is_no_failure(cli: Cli, store: Store, encoding: str) -> None:
    store.journal("audit", "trail").append("grüße", text="日本 🎉")
    done = cli.run("log", "audit/trail", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, b"")
    # click takes ASCII for a mistake of the system, and writes UTF-8 then.
    assert "日本".encode(encoding, "backslashreplace") in done.stdout or "日本".encode() in done.stdout


def test_arguments_that_are_no_text_are_no_failure(cli: Cli, store: Store) -> None:
    store.collection("agents").put("planner", {})
    command = ["cat", "agents/\udcff"]
    done = cli.run(*command)
    assert done.returncode == 2
    assert done.stderr.startswith(b"fsstate: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (9949, "9.9 KB"),
        (12_345, "12 KB"),
        (999_499, "999 KB"),
        (999_501, "1.0 MB"),
        (165 * 10**9, "165 GB"),
        (10**19, "10000 PB"),
    ],
)
def test_sizes_as_people_read_them(number: int, shown: str) -> None:
    assert output.shown_size(number) == shown
