"""`prune` of all that it prunes, `pin`, `trash` and `restore`."""

import json
from pathlib import Path

import pytest

from fsstate import PrunePolicy, Sessions, Store
from fsstate.cli.retention import Size
from tests.cli.conftest import Cli

OLD = "2025-01-01T00:00:00Z"


@pytest.fixture
def old(store: Store) -> Store:
    for name in ("first-one", "second-one"):
        store.collection("sessions").put(name, {"id": name, "created_at": OLD, "user_id": "ada"})
    return store


def test_there_and_back(cli: Cli, old: Store) -> None:
    assert "2 sessions went to the trash (1" in cli.out("prune", "--ttl", "7d")
    shown = cli.out("trash")
    assert "sessions/first-one.json" in shown
    assert "2 records in the trash" in shown
    assert cli.out("restore", "first-") == "restored sessions/first-one.json\n"
    assert old.sessions.ids() == ["first-one"]
    assert "restored sessions/second-one.json" in cli.out("restore", "--all")
    assert cli.out("trash") == "0 records in the trash (0 bytes)\n"
    assert cli.out("restore", "--all") == "the trash is empty\n"


def test_what_cannot_be_restored(cli: Cli, old: Store) -> None:
    cli.out("prune", "--ttl", "7d")
    old.sessions.create(id="first-one")
    assert "exists already" in cli.fails(3, "restore", "first-one")
    assert "not in the trash" in cli.fails(1, "restore", "nothing")
    cli.fails(2, "restore")
    cli.fails(2, "restore", "--all", "first-one")


def test_emptying(cli: Cli, old: Store) -> None:
    cli.out("prune", "--ttl", "7d")
    assert cli.out("trash", "empty", "--older-than", "7d") == "0 records gone, 0 bytes came back\n"
    found = json.loads(cli.out("trash", "empty", "--json"))
    assert found["bytes"] == sum(each["bytes"] for each in found["emptied"]) > 0
    assert json.loads(cli.out("trash", "--json")) == {"items": [], "bytes": 0}
    cli.fails(2, "trash", "empty", "--older-than", "0d")
    assert old.sessions.ids() == []


def test_at_once(cli: Cli, old: Store) -> None:
    assert "2 sessions gone, 1" in cli.out("prune", "--ttl", "7d", "--no-trash")
    assert old.trash.list() == []


@pytest.mark.usefixtures("old")
def test_pins(cli: Cli) -> None:
    assert cli.out("pin", "first-one") == "pinned first-one\n"
    assert "pinned" in cli.out("sessions")
    found = json.loads(cli.out("prune", "--ttl", "7d", "--dry-run", "--json"))
    assert [each["id"] for each in found["pruned"]] == ["second-one"]
    # Pinned this moment, and so of no age by now.
    assert found["kept"] == [{"id": "first-one", "reason": "pinned"}]
    assert "stay whatever their age: 1 pinned" in cli.out("prune", "--ttl", "7d")
    assert json.loads(cli.out("unpin", "first-one", "--json")) == {"id": "first-one", "pinned": False}
    cli.fails(1, "pin", "nobody")


def test_for_each_user(cli: Cli, old: Store) -> None:
    old.collection("sessions").put("other", {"id": "other", "created_at": OLD, "user_id": "grace"})
    found = json.loads(cli.out("prune", "--keep", "1", "--per", "user_id", "--json"))
    assert [(each["id"], each["reason"]) for each in found["pruned"]] == [("first-one", "count")]


def test_by_size(cli: Cli, old: Store) -> None:
    size = old.sessions.plan(PrunePolicy(max_bytes=1)).pruned[1].bytes
    found = json.loads(cli.out("prune", "--max-bytes", f"{size}B", "--json"))
    assert [(each["id"], each["reason"]) for each in found["pruned"]] == [("first-one", "bytes")]
    assert found["bytes"] > 0
    assert found["in_trash"]


def test_documents_records_and_logs(cli: Cli, store: Store) -> None:
    store.collection("agents/red").put("a", {"created_at": OLD})
    Path(cli.directory, "notes").mkdir()
    Path(cli.directory, "notes/n.md").write_text(f"---\ncreated_at: {OLD}\n---\nHm\n")
    store.runs.start("check", id="busy")
    store.collection("runs").put("done", {"id": "done", "status": "complete", "started_at": OLD, "created_at": OLD})
    for day in (1, 2):
        store.journal("audit", "trail").append("x", at=f"2025-01-0{day}")
    assert "1 document went" in cli.out("prune", "agents/red", "--ttl", "7d")
    assert "1 document went" in cli.out("prune", "notes", "--ttl", "7d")
    assert "1 record went" in cli.out("prune", "runs", "--ttl", "7d")
    assert store.runs.ids() == ["busy"]
    assert "1 entry went" in cli.out("prune", "audit/trail", "--keep", "1")
    assert "restored audit/trail.jsonl" in cli.out("restore", "--all")
    assert len(store.journal("audit", "trail")) == 2
    assert store.runs.ids() == ["busy", "done"]


def test_what_cannot_be_pruned(cli: Cli, store: Store) -> None:
    store.collection("agents").put("a", {})
    store.journal("audit", "trail").append("x")
    cli.fails(2, "prune", "agents/a", "--ttl", "7d")
    cli.fails(1, "prune", "nothing", "--ttl", "7d")
    cli.fails(1, "prune", "no/thing", "--ttl", "7d")
    cli.fails(2, "prune", "audit/trail", "--keep", "1", "--per", "kind")
    Path(cli.directory, "agents/a.md").write_text("Hm\n")
    store.collection("mixed").put("a", {})
    Path(cli.directory, "mixed/a.md").write_text("Hm\n")
    assert "JSON and Markdown" in cli.fails(2, "prune", "mixed", "--ttl", "7d")


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 kB", 1500), ("10b", 10)]
)
def test_sizes(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "interrupted; what went is in the trash as a whole, and the next run goes on from there"),
        (("--no-trash",), "interrupted; what went is gone as a whole, and the next run goes on from there"),
        (("--dry-run",), "interrupted; nothing was touched"),
    ],
)
@pytest.mark.usefixtures("old")
def test_an_interrupted_prune_says_what_became_of_what_went(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], told: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sessions, "prune", interrupted)
    result = cli("prune", "--ttl", "7d", *more)
    assert (result.exit_code, result.stderr.strip()) == (130, f"fsstate: {told}")
