"""The history of real issues, in a store."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fsstate import Store
from tests.files.git.repository import QUICK, Repo
from tests.git import needs_git

pytestmark = needs_git


def in_order_of(value: Any, before: Any) -> Any:
    """A value with the keys of objects in the order that they had before, and new ones behind these."""
    if not isinstance(value, dict) or not isinstance(before, dict):
        return value
    kept = [key for key in before if key in value]
    return {key: in_order_of(value[key], before.get(key)) for key in [*kept, *value]}


def layout(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False).split("\n")


def common(one: list[str], other: list[str]) -> int:
    """How many lines two texts have in common, in order: the most that there can be."""
    row = [0] * (len(other) + 1)
    for line in one:
        before = row
        row = [0]
        for number, theirs in enumerate(other):
            row.append(before[number] + 1 if line == theirs else max(before[number + 1], row[-1]))
    return row[-1]


def expected_lines(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """How many lines each record that changed gets and loses, told from its values alone."""
    found: dict[str, tuple[int, int]] = {}
    for name in before.keys() | after.keys():
        if name in before and name in after and before[name] == after[name]:
            continue
        old, new = (layout(each[name]) if name in each else [] for each in (before, after))
        same = common(old, new)
        found[f"issues/{name}.json"] = (len(new) - same, len(old) - same)
    return found


def test_the_history_of_real_issues_shows_what_changed_and_nothing_else(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    revisions = sorted((shared_data / "beads/revisions").glob("*.jsonl"))
    assert len(revisions) == 23
    stored: dict[str, Any] = {}
    previous = ""
    found: list[tuple[int, int]] = []
    expected: list[tuple[int, int]] = []
    with Store(tmp_path / "state", QUICK) as store:
        issues = store.collection("issues")
        issues.put("first", {})
        store.history.init()
        repo = Repo(tmp_path / "state")
        for revision in revisions:
            rows = [json.loads(line) for line in revision.read_text().splitlines()]
            after = {row["id"]: in_order_of(row, stored.get(row["id"])) for row in rows}
            issues.put_many({row["id"]: row for row in rows})
            for name in set(issues.names()) - after.keys():
                issues.delete(name)
            commit = store.snapshot(revision.stem)
            if previous:
                changes = expected_lines(stored, after)
                counted = numbers_of(repo, previous, commit) if commit is not None else {}
                assert counted == changes
                found += counted.values()
                expected += changes.values()
            previous, stored = commit or previous, after
        assert dict(issues.items()) == stored
    told = f"{len(found)} changes to records of {len(revisions)} revisions: git counts {sums(found)}, "
    with capsys.disabled():
        sys.stdout.write(f"\n{told}expected {sums(expected)}\n")
    assert sums(found) == sums(expected)


def numbers_of(repo: Repo, before: str, after: str) -> dict[str, tuple[int, int]]:
    """How many lines each file got and lost between two commits, as git counts them."""
    shown = repo.git("diff", "--numstat", "--minimal", "--no-renames", "-z", before, after)
    lines = (line.split("\t") for line in shown.split("\0")[:-1])
    return {path: (int(added), int(removed)) for added, removed, path in lines}


def sums(numbers: list[tuple[int, int]]) -> str:
    return f"+{sum(added for added, _ in numbers)} -{sum(removed for _, removed in numbers)} lines"
