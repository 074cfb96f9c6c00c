"""Whatever is typed: an exit code that has a meaning, no traceback, and nothing outside the store is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from click.testing import CliRunner, Result
from hypothesis import strategies as st

from fsstate import Document, PrunePolicy, Store, StoreOptions
from fsstate.cli import exits
from fsstate.cli.app import program
from tests.nonsense.counts import COUNT
from tests.nonsense.lockstep import PATIENT
from tests.nonsense.test_importers import LINES, database

ALLOWED: Final = exits.CODES.keys() - {exits.BUG, exits.INTERRUPTED, exits.PIPE_CLOSED}
# Print what files hold, as it is.
RAW: Final = ("cat", "export", "completion")
CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")

# No command is given a path that leads out of the test's directory: some of them write there.
nonsense = (
    st.text(st.characters(exclude_characters="\0/"), max_size=8)
    | st.binary(max_size=6).map(
        lambda data: data.replace(b"\0", b"").replace(b"/", b"").decode("utf-8", "surrogateescape")
    )
    | st.sampled_from(
        ["", "-", "--", "---", "-n", "-nx", "--json=1", "--store", "--wait", "=", "*", "%s", "{0}", "\x1b[31m"]
    )
    | st.sampled_from(["0", "-1", "1e9", "99999999999999999999", "NaN", "inf", "0x10", "1_000", "٣", "½"])
).filter(lambda text: not text.startswith(("~", "/")) and text not in (".", ".."))
records = (
    st.sampled_from(
        ["agents/planner", "agents/planner.json", "agents/bad", "agents/deep", "agents/new", "agents/", "agents//x"]
    )
    | st.sampled_from(
        ["notes/standup", "notes/standup.md", "audit/trail", "audit/torn", "a/b/c/d", "agents/CON", "agents/\udcff"]
    )
    | st.sampled_from(
        [
            "sessions/talking",
            "sessions/talking/messages",
            "sessions/odd",
            "talking",
            "talkin",
            "red",
            ".fsstate/store.json",
        ]
    )
)
things = records | nonsense
numbers = st.sampled_from(["0", "1", "5", "-1", "x", "1.5", "9" * 30]) | nonsense
times = (
    st.sampled_from(["2026-01-01", "2016-12-31T23:59:60Z", "soon", "9" * 20, "0001-01-01T00:00:00+23:59", "1e400"])
    | nonsense
)
spans = st.sampled_from(["7d", "1s", "0d", "1d12h", "99999999999999d", "d", "-1d", "1" * 400 + "w"]) | nonsense
sizes = st.sampled_from(["1MB", "500KB", "2GiB", "0", "x", "1e400GB", "-1"]) | nonsense
values = (
    st.sampled_from(['{"a": 1}', "null", "{", "[1,2]", "text", '{"a": 1, "a": 2}', "NaN", "[" * 2000, "1" * 5000])
    | nonsense
)
paths = st.sampled_from(["talk.jsonl", "state.db", "state", "nothing", "folder", "loop"])
modules = st.sampled_from(
    ["json", "no.such.module", "json:JSONDecoder", "tests.nonsense.test_records:FLAT", ":", "..", "json:"]
)


def option(*names: str, of: Any = None) -> Any:
    """The option, now and then."""
    name = st.sampled_from(names)
    given = name.map(lambda each: [each]) if of is None else st.tuples(name, of).map(list)
    return st.just([]) | given


def words(*parts: Any) -> Any:
    return st.tuples(*parts).map(
        lambda found: [each for part in found for each in ([part] if isinstance(part, str) else part)]
    )


some = st.lists(things, max_size=2)
COMMANDS: Final = {
    "ls": words(st.lists(st.sampled_from(["agents", "sessions", "teams/red", "none", ""]) | nonsense, max_size=1)),
    "show": words(things, option("-n", "--last", of=numbers), option("--tree")),
    "cat": words(some),
    "put": words(
        things,
        st.lists(values, max_size=1),
        option("--new"),
        option("--expect", of=nonsense),
        option("--file", of=paths | st.just("-")),
    ),
    "edit": words(things),
    "rm": words(some, option("-y", "--yes")),
    "log": words(things, option("-n", of=numbers), option("--after", of=numbers), option("--kind", of=nonsense)),
    "sessions": words(
        option("--user", "--status", "--project", "--parent", of=nonsense),
        option("--all", "--archived"),
        option("--metadata", of=st.sampled_from(["a=1", "=", "a", 'a={"b":1}']) | nonsense),
        option("--created-after", "--updated-before", of=times),
        option("--order", of=st.sampled_from(["title", "-title", "no"])),
        option("-n", "--offset", of=numbers),
    ),
    "search": words(
        some, option("--in", of=things), option("--user", of=nonsense), option("-n", "--offset", of=numbers)
    ),
    "prune": words(
        st.lists(st.sampled_from(["agents", "audit/trail", "jobs", "sessions"]) | nonsense, max_size=1),
        option("--ttl", of=spans),
        option("--keep", "--batch", of=numbers),
        option("--per", of=nonsense),
        option("--max-bytes", of=sizes),
        option("--dry-run"),
        option("--no-trash"),
        option("--types", of=modules),
    ),
    "pin": words(things),
    "unpin": words(things),
    "trash": words(
        st.just([]) | st.just(["empty"]),
        option("--older-than", "--ttl", of=spans),
        option("--max-bytes", of=sizes),
        option("--yes"),
    ),
    "restore": words(some, option("--all")),
    "recover": words(option("--dry-run"), option("--types", of=modules)),
    "migrate": words(option("--dry-run"), option("--types", of=modules)),
    "stats": words(option("--days", "-n", of=numbers)),
    "init": words(st.lists(st.sampled_from(["other", "talk.jsonl", "loop"]) | nonsense, max_size=1)),
    "import": words(
        st.sampled_from(
            [["claude-code"], ["codewhale"], ["oxios"], ["sqlite", "--from", "steer"], ["sqlite", "--from", "x"], []]
        ),
        paths,
    ),
    "export": words(
        st.just([]) | st.just(["claude-code"]),
        things,
        option("-o", of=st.sampled_from(["out.jsonl", "folder", "-", "no/such"])),
    ),
    "completion": words(st.sampled_from(["bash", "zsh", "fish", "tcsh", ""])),
}
command = st.sampled_from(sorted(COMMANDS)).flatmap(lambda name: COMMANDS[name].map(lambda rest: [name, *rest]))
arguments = st.tuples(
    option("--json"), command | st.lists(things, max_size=4), option("--json"), st.lists(nonsense, max_size=1)
).map(lambda parts: [each for part in parts for each in part])


class Shell:
    """A person's directory with a store in it, as new for each command."""

    def __init__(self, place: Path) -> None:
        self.template, self.place = place / "template", place / "work"
        self.template.mkdir()
        fill(self.template)

    def __call__(self, *given: str, stdin: str = "n\n") -> Result:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.template, self.place, symlinks=True)
        os.chdir(self.place)
        COUNT.inputs += 1
        result = CliRunner().invoke(program, list(given), input=stdin, env={"EDITOR": "true", "FSSTATE_STORE": "state"})
        COUNT.refused += result.exit_code != 0
        return result


def fill(place: Path) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with Store(place / "state", StoreOptions(durability="process", clock=lambda: at)) as store:
        store.collection("agents").put_many(
            {"planner": {"status": "idle", "esc": "\x1b[31m\u202e"}, "huge": {"n": 10**400}}
        )
        store.markdown("notes").put("standup", Document("Hello \x1b[2J", {"title": "x"}))
        for number in range(3):
            store.journal("audit", "trail").append("login", n=number, esc="\x1b[0m\x9b")
        store.sessions.create(id="talking", user_id="u1", title="Odd \x1b]0;x\x07 title", label="red")
        store.session("talking").messages.append("user", "Hi \x00\x1b[1m", id="m1")
        store.session("talking").messages.append("assistant", [{"type": "text", "text": "there"}])
        store.sessions.create(id="old")
        store.sessions.prune(PrunePolicy(keep=1))
    for name, data in {
        "state/agents/bad.json": b'{"a": \xff}',
        "state/agents/deep.json": b"[" * 990 + b"]" * 990,
        "state/sessions/odd.json": b'{"title": 3, "created_at": ' + b"9" * 400 + b"}",
        "state/audit/torn.jsonl": b'{"seq":1}\n\0\0\0',
        "state/notes/bad.md": b"---\na: [\n---\n",
        "talk.jsonl": LINES,
        "folder/x.json": b"{}",
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    os.mkdir(os.fsencode(place / "state") + b"/bad-\xff")
    (place / "loop").symlink_to("loop")
    database(place / "state.db")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    yield Shell(tmp_path)
    # What the commands changed the directory to goes with the test.
    os.chdir("/")


def check(given: list[str], result: Result) -> None:
    told = f"{given}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit), told
    assert result.exit_code in ALLOWED, told
    assert not CONTROL.search(result.stderr), told
    if result.exit_code:
        assert result.stderr.strip() or result.stdout.strip(), told
    # What is printed for programs is JSON, which escapes what a terminal obeys, and no more.
    if not set(given) & {*RAW, "-h", "--help", "--json"}:
        assert not CONTROL.search(result.stdout), told
    if result.exit_code == 0 and "--json" in given and not set(given) & {*RAW, "-h", "--help", "--version"}:
        check_json(result.stdout, told)


def check_json(text: str, told: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            try:
                json.loads(line)
            except ValueError:
                pytest.fail(f"neither JSON nor JSON lines: {told}")


def try_some(shell: Shell, examples: int, *, same: bool = False) -> None:
    @hypothesis.settings(
        max_examples=examples,
        derandomize=same,
        deadline=None,
        database=None,
        suppress_health_check=PATIENT,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        report_multiple_bugs=False,
    )
    @hypothesis.given(given=arguments)
    def test(given: list[str]) -> None:
        check(given, shell(*given))

    test()


def test_what_people_type(shell: Shell) -> None:
    try_some(shell, 80, same=True)


@pytest.mark.soak
def test_what_people_type_for_long(shell: Shell, soak_seconds: float) -> None:
    end = time.monotonic() + soak_seconds
    while time.monotonic() < end:
        try_some(shell, 300)
