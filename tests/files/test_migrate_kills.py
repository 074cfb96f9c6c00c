"""Migrations that are killed, and others at work meanwhile: each file is old or new at every moment."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fsstate.migrations import Migration
from fsstate.record_types import RecordType
from fsstate.store import Store
from tests.contract.plans import renamed
from tests.files.processes import run, start

KIND: RecordType[dict[str, Any]] = RecordType(
    "notes", dict, group_by="group", migrations=(Migration(2, "call it name", renamed("title", "name")),)
)
COUNT = 400
PATIENCE = 60.0

PRELUDE = """
from fsstate.store import Store
from tests.files.test_migrate_kills import COUNT, KIND
# Who is killed leaves what it wrote, flushed or not.
store = Store(root, StoreOptions(durability="process"), types=(KIND,))
notes = store.records(KIND)
"""
MIGRATE = (
    PRELUDE
    + """
report = store.migrate()
assert not report.problems, report.problems
print(len(report.migrated), report.unchanged, flush=True)
"""
)
WORK = (
    PRELUDE
    + """
for round in range(2):
    for number in range(COUNT):
        notes.update(str(number), lambda note: {**note, "size": note["size"] + 1}, within=str(number % 10))
print("done", flush=True)
"""
)


def fill(root: Path) -> None:
    """Records of the first version."""
    for number in range(COUNT):
        path = root / "notes" / str(number % 10) / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"title": f"n{number}", "size": 0, "extra": [number]}, indent=1))


def documents(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in (root / "notes").rglob("*.json")]


def migrated(root: Path) -> int:
    """How many are; and each is whole, in one version or the other."""
    found = documents(root)
    assert len(found) == COUNT
    for each in found:
        version, number = each.get("schema_version", 1), each["extra"][0]
        assert each[{1: "title", 2: "name"}[version]] == f"n{number}"
        assert each.keys() == (
            {"title", "size", "extra"} if version == 1 else {"name", "size", "extra", "schema_version"}
        )
    return sum("schema_version" in each for each in found)


def test_a_migration_that_is_killed_is_finished_by_the_next(root: Path) -> None:
    fill(root)
    for wanted in (1, COUNT // 3, COUNT * 2 // 3):
        with start(MIGRATE, root) as process:
            while process.poll() is None and migrated(root) < wanted:
                time.sleep(0.001)
            process.kill()
    done = migrated(root)
    assert COUNT * 2 // 3 <= done < COUNT
    assert run(MIGRATE, root).split() == [str(COUNT - done), str(done)]
    assert migrated(root) == COUNT
    assert run(MIGRATE, root).split() == ["0", str(COUNT)]


def test_others_work_meanwhile(root: Path) -> None:
    fill(root)
    processes = [start(code, root) for code in (MIGRATE, WORK, MIGRATE, WORK)]
    while any(process.poll() is None for process in processes):
        migrated(root)
        time.sleep(0.01)
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    assert migrated(root) == COUNT
    assert {each["size"] for each in documents(root)} == {4}


def test_a_newer_record_keeps_all_others_as_they_are(root: Path) -> None:
    fill(root)
    (root / "notes" / "9" / "399.json").write_text('{"schema_version": 3}')
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}
    code = PRELUDE + "try:\n    store.migrate()\nexcept NewerVersionError as error:\n    print(error)\n"
    with start(code, root) as process:
        out, errors = process.communicate(timeout=PATIENCE)
    assert "399.json" in out, errors
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()} == before
    with Store(root) as store:
        assert store.records(KIND).count() == COUNT
