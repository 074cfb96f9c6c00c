"""What becomes of messages whose parents are left out."""

from __future__ import annotations

import random

import pytest

from fsstate.integrations.items import Entry
from fsstate.integrations.lineage import Lineage


def lineage(tree: str, left_out: str, head: str | None = None) -> Lineage:
    """Of messages in the order of the text, each with its parent behind it: "a. ba" is b under the root a."""
    entries = [Entry("", row(*each)) for each in tree.split()]
    places = {number for number, entry in enumerate(entries) if entry.row["id"] in left_out}
    return Lineage(entries, places, None if head is None else (head,))


def row(name: str, parent: str) -> dict[str, str]:
    return {"id": name} if parent == "." else {"id": name, "parent": parent}


def shown(kept: list[Entry]) -> str:
    return " ".join(f"{entry.row['id']}{entry.row.get('parent', '.')}" for entry in kept)


@pytest.mark.parametrize(
    ("tree", "left_out", "wanted"),
    [
        ("a. ba cb", "", "a. ba cb"),
        ("a. ba cb", "b", "a. ca"),
        ("a. ba cb dc", "bc", "a. da"),
        ("a. ba cb", "a", "b. cb"),
        ("a. b. cb", "b", "a. ca"),  # no ancestor: the one before it
        ("a. bx cb", "b", "a. ca"),  # as when the ancestor never was there
        ("a. bx", "a", "bx"),
        ("cb b.", "b", "c."),  # the one before it is under it
        ("ab bc cb", "b", "ac cc"),  # a circle that was there before
        ("aa ba", "a", "b."),
    ],
)
def test_what_was_under_one_that_is_left_out(tree: str, left_out: str, wanted: str) -> None:
    assert shown(lineage(tree, left_out).entries) == wanted


def test_the_head_is_replaced_too() -> None:
    assert lineage("a. ba cb", "b", "b").head == ("a",)
    assert lineage("a. ba cb", "a", "a").head is None
    assert lineage("a. ba cb", "a", "c").head == ("c",)
    assert lineage("a. ba cb", "b", "b").heirs == {"b": "a"}
    assert lineage("a. ba", "b").heirs == {}


@pytest.mark.parametrize("seed", range(50))
def test_no_circle_comes_of_it(seed: int) -> None:
    chosen = random.Random(seed)
    names = "abcdefgh"
    parents = {name: chosen.choice(["x", *names[:number]]) for number, name in enumerate(names)}
    order = chosen.sample(names, len(names))
    found = lineage(" ".join(name + parents[name] for name in order), "".join(chosen.sample(names, 4)))
    above = {entry.row["id"]: entry.row.get("parent") for entry in found.entries}
    for each in above:
        name, steps = each, 0
        while name in above:
            name, steps = above[name], steps + 1
            assert steps <= len(above)
